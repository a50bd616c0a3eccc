//! `lab exec`: a program in the guest, as if it ran here.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, setrlimit};

use crate::cli::Exec;
use crate::exit_code::ExitCode as Code;
use crate::failure::Failure;
use crate::job::{Program, Work};
use crate::outcome::Outcome;
use crate::plan::{self, Plan};
use crate::report::{ProgramStatus, Report};
use crate::session::Streams;
use crate::workshop::Workshop;

/// What a shell says of a program that it finds and cannot run (`sh(1)`).
const CANNOT_RUN: u8 = 126;
/// What a shell says of a program that it does not find.
const NOT_FOUND: u8 = 127;

/// `lab exec`. It has an exit status for everything: that of the program, or [`Code::ExecFailed`].
#[must_use]
pub fn exec(workshop: &Workshop<'_>, args: &Exec) -> ExitCode {
    let status = run(workshop, args);
    if let Some(path) = &args.status {
        if let Err(error) = write_status(path, status.as_ref().ok()) {
            eprintln!("lab: {error:#}");
            return Code::ExecFailed.into();
        }
    }
    match status {
        Ok(ProgramStatus::Exited(code)) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Ok(ProgramStatus::Signaled(signal)) => die_by(signal),
        Ok(ProgramStatus::NotStarted(refusal)) => {
            let program = args
                .argv
                .first()
                .map(|program| program.to_string_lossy())
                .unwrap_or_default();
            eprintln!("lab: the guest cannot run {program}: {}", refusal.text);
            ExitCode::from(if refusal.is_not_found() {
                NOT_FOUND
            } else {
                CANNOT_RUN
            })
        }
        Err(error) => {
            eprintln!("{}lab: {error:#}", Failure::diagnostics_of(&error));
            Code::ExecFailed.into()
        }
    }
}

fn run(workshop: &Workshop<'_>, args: &Exec) -> Result<ProgramStatus> {
    // A mistyped name shows before anything is prepared for it.
    let copies = plan::copied_files(&args.copy)?;
    let (accel, furnishing) = (args.guest.accel, &args.furnishing);
    let (built, kit, start) =
        super::furnished(workshop, &args.kernel, (accel, furnishing, args.warm))?;
    let program = Program {
        stdin: true,
        ..Program::new(&args.argv)
    };
    let plan = Plan {
        accel,
        insmod_args: &args.guest.insmod_args,
        start,
        ..Plan::new(&built, Work::Programs(vec![program]))
    };
    let plan = plan.files(copies).furnish(furnishing, kit.as_ref())?;
    let plan = plan.time(args.guest.timeout());
    let stdin = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("failed to duplicate standard input")?;
    let streams = Streams {
        stdin: Some(stdin),
        ..Streams::outputs()
    };
    let report = plan.boot(workshop, streams)?;
    status_of(&report)
}

/// The program's own end, if the guest has nothing worse to say.
fn status_of(report: &Report) -> Result<ProgramStatus> {
    let status = report
        .programs
        .first()
        .and_then(|program| program.status.clone());
    if let (Outcome::Completed | Outcome::NotStarted { .. }, Some(status)) =
        (&report.outcome, status)
    {
        return Ok(status);
    }
    match report.outcome {
        // The kernel has no part in these two.
        Outcome::Interrupted | Outcome::OutputClosed(_) => {}
        _ => eprint!("{}", report.last_words()),
    }
    Err(anyhow::anyhow!("{}", report.outcome))
}

fn write_status(path: &Path, status: Option<&ProgramStatus>) -> Result<()> {
    let text = match status {
        Some(ProgramStatus::Exited(code)) => format!("exited {code}\n"),
        Some(ProgramStatus::Signaled(signal)) => format!("signaled {signal}\n"),
        Some(ProgramStatus::NotStarted(refusal)) => format!("not started: {}\n", refusal.text),
        None => "lab failed\n".into(),
    };
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}

/// Ends the lab by the signal that ended the program, so that whoever waits for it sees the same.
fn die_by(signal: i32) -> ExitCode {
    // No core of the lab's own. Should the limit stay, a core file is all the harm.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    // Returns for signals that do not end a process; then 128 + its number says it, as in a shell.
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
}
