//! `lab trace`: which functions of the kernel and of the driver an experiment or a program goes through.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::run::{color, extras_of, require_known};
use crate::cli::trace::Trace;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::job::{Program, Work};
use crate::outcome::Outcome;
use crate::output::Sink;
use crate::plan::{self, Plan};
use crate::programs::Programs;
use crate::report::{ProgramStatus, Report};
use crate::session::Streams;
use crate::workshop::Workshop;

/// `lab trace`.
///
/// # Errors
///
/// When the guest cannot be made or started, or nothing could be traced in it.
pub fn trace(workshop: &Workshop<'_>, args: &Trace) -> Result<ExitCode> {
    // A mistyped name shows before anything is prepared for it.
    let copies = plan::copied_files(&args.copy)?;
    let output = args.output.as_deref().map(create).transpose()?;
    let claims: Vec<_> = args.claim.iter().cloned().collect();
    let set_up = |programs: &Programs| {
        require_known(claims.iter(), programs, &workshop.stop)?;
        if claims.is_empty() {
            return Ok((None, None));
        }
        let extras = extras_of(&claims, programs, &workshop.stop, |boot| {
            format!(
                "trace a program there, such as: cargo lab exec --boot {boot} -- mmapdemo trace -- PROG"
            )
        })?;
        let kit = workshop.kit_for(extras, &args.kernel)?;
        Ok((Some(extras), kit))
    };
    let (built, (extras, kit)) = workshop.build_and(&args.kernel, set_up)?;
    let to_terminal = output.is_none();
    let plan = Plan {
        accel: args.guest.accel,
        insmod_args: &args.guest.insmod_args,
        timeout: args.guest.timeout(),
        ..Plan::new(&built, Work::Programs(vec![program(args, to_terminal)]))
    };
    let plan = plan
        .files(copies)
        .extras(kit.as_ref(), extras.unwrap_or_default())?;
    let usual = Streams::outputs();
    let streams = Streams {
        stdout: output.unwrap_or(usual.stdout),
        ..usual
    };
    workshop
        .progress
        .note("  trace it, once some thousand functions of the kernel are hooked ...");
    let report = plan.boot(workshop, streams)?;
    verdict(&report)
}

fn create(path: &Path) -> Result<Sink> {
    let file = File::create(path).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(Box::new(file))
}

/// What the guest does.
fn program(args: &Trace, to_terminal: bool) -> Program {
    let color = if to_terminal { color() } else { "never" };
    let mut command: Vec<OsString> = ["mmapdemo", "trace", "--color", color]
        .map(Into::into)
        .into();
    for (wanted, option) in [(args.all, "--all"), (args.raw, "--raw")] {
        if wanted {
            command.push(option.into());
        }
    }
    let memory = args.memory.map(|memory| memory.word().to_owned());
    let depth = args.depth.map(|depth| depth.to_string());
    for (option, value) in [("--memory", memory), ("--depth", depth)] {
        if let Some(value) = value {
            command.extend([option.into(), value.into()]);
        }
    }
    if let Some(device) = &args.device {
        command.extend(["--device".into(), device.into()]);
    }
    command.extend(args.claim.iter().map(Into::into));
    if !args.argv.is_empty() {
        command.push("--".into());
        command.extend(args.argv.iter().cloned());
    }
    Program::new(command)
}

/// What became of it, as an exit status.
fn verdict(report: &Report) -> Result<ExitCode> {
    let status = report.programs.first();
    let status = status.and_then(|program| program.status.as_ref());
    match (&report.outcome, status) {
        (Outcome::Completed, Some(ProgramStatus::Exited(0))) => Ok(ExitCode::AsExpected),
        // It has said why.
        (Outcome::Completed, Some(ProgramStatus::Exited(2))) => Err(Failure::Usage(
            "the guest's `mmapdemo trace` refused these arguments".into(),
        )
        .into()),
        (Outcome::Completed, _) => bail!("nothing was traced: see what mmapdemo said above"),
        (Outcome::Interrupted, _) => Err(Failure::Interrupted("tracing".into()).into()),
        (outcome, _) => {
            // The kernel has no part in that one.
            if !matches!(outcome, Outcome::OutputClosed(_)) {
                eprint!("{}", report.last_words());
            }
            eprintln!("lab: {outcome}");
            Ok(outcome.exit_code())
        }
    }
}
