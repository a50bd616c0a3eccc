//! `lab run` and `lab demo`: the experiments, and what they say.

use std::io::{self, IsTerminal};
use std::time::Instant;

use anyhow::Result;

use crate::cli::{Demo, GuestArgs, Run};
use crate::exit_code::ExitCode;
use crate::job::{Job, KTAP_PORT, Module, PORTS_DIR, Program, Work};
use crate::outcome::Outcome;
use crate::session::{self, Guest, Streams};
use crate::workshop::{Built, Workshop, module_file, program_timeout};

/// `lab demo`.
///
/// # Errors
///
/// When the guest cannot be made or started.
pub fn demo(workshop: &Workshop<'_>, args: &Demo) -> Result<ExitCode> {
    let built = workshop.build(&args.kernel)?;
    judge(workshop, &built, &args.guest, &[])
}

/// `lab run`.
///
/// # Errors
///
/// When the guest cannot be made or started.
pub fn run(workshop: &Workshop<'_>, args: &Run) -> Result<ExitCode> {
    let built = workshop.build(&args.kernel)?;
    judge(workshop, &built, &args.guest, &args.claims)
}

/// Lets the guest judge `claims`, all if there are none.
fn judge(
    workshop: &Workshop<'_>,
    built: &Built,
    args: &GuestArgs,
    claims: &[String],
) -> Result<ExitCode> {
    let color = if io::stdout().is_terminal() {
        "always"
    } else {
        "never"
    };
    let ktap = format!("{PORTS_DIR}/{KTAP_PORT}");
    let command = ["mmapdemo", "run", "--color", color, "--ktap", &ktap];
    let command = command.into_iter().chain(claims.iter().map(String::as_str));
    let program = Program {
        ktap: true,
        ..Program::new(command)
    };
    let guest = Guest {
        base: &workshop.base_archive(built)?,
        files: vec![module_file(&built.module)],
        job: Job {
            module: Some(Module::mmapdemo(args.insmod_args.join(" "))),
            work: Work::Programs(vec![program]),
        },
        allowed: Vec::new(),
    };
    let machine = workshop.machine(&built.target, args.accel)?;
    let began = Instant::now();
    let streams = Streams {
        stdin: None,
        stdout: Box::new(io::stdout()),
        stderr: Box::new(io::stderr()),
    };
    let report = session::run(&machine, &guest, streams, &program_timeout(args.timeout))?;
    workshop.keep(&built.target, &report, began)?;
    Ok(match &report.outcome {
        Outcome::Passed { .. } => ExitCode::AsExpected,
        Outcome::Failed { failed, total } => {
            eprintln!(
                "lab: {} of {total} not as expected: {}",
                failed.len(),
                failed.join(", ")
            );
            ExitCode::NotAsExpected
        }
        Outcome::Skipped { .. } => ExitCode::Skipped,
        Outcome::Interrupted => ExitCode::Interrupted,
        _ => {
            eprintln!("{}lab: {}", report.last_words(), report.outcome);
            ExitCode::LabBroke
        }
    })
}
