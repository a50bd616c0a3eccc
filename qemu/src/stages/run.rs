//! `lab run` and `lab demo`: the experiments, and what they say.

use std::io::{self, IsTerminal};

use anyhow::{Result, bail};

use crate::cli::{Demo, GuestArgs, Run};
use crate::command::HostCommand;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::job::{KTAP_PORT, PORTS_DIR, Program, Work};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::programs::Programs;
use crate::report::{ProgramStatus, Report};
use crate::session::Streams;
use crate::stop::Stop;
use crate::workshop::{Built, Workshop};

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
    require_known(claims, &built.programs, &workshop.stop)?;
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
    let plan = Plan {
        accel: args.accel,
        insmod_args: &args.insmod_args,
        timeout: Some(args.timeout()),
        ..Plan::new(built, Work::Programs(vec![program]))
    };
    let report = plan.boot(workshop, Streams::outputs())?;
    verdict(&report)
}

/// What the run says about the claims, as an exit status.
fn verdict(report: &Report) -> Result<ExitCode> {
    let status = report
        .programs
        .first()
        .and_then(|program| program.status.as_ref());
    match (&report.outcome, status) {
        (Outcome::Passed { .. }, _) => Ok(ExitCode::AsExpected),
        (Outcome::Skipped { .. }, _) => Ok(ExitCode::Skipped),
        (Outcome::Failed { failed, total }, Some(ProgramStatus::Exited(1))) => {
            let (count, names) = (failed.len(), failed.join(", "));
            eprintln!("lab: {count} of {total} not as expected: {names}");
            Ok(ExitCode::NotAsExpected)
        }
        (Outcome::Failed { failed, .. }, _) => {
            bail!("the experiments broke: {}", failed.join(", "))
        }
        (Outcome::Interrupted, _) => {
            Err(Failure::Interrupted("running the experiments".into()).into())
        }
        // The kernel has no part in this one.
        (Outcome::OutputClosed, _) => bail!("{}", report.outcome),
        _ => {
            eprint!("{}", report.last_words());
            bail!("{}", report.outcome)
        }
    }
}

/// Refuses claims that the built program does not know, before a guest is booted for them.
fn require_known(claims: &[String], programs: &Programs, stop: &Stop) -> Result<()> {
    if claims.is_empty() {
        return Ok(());
    }
    let list = HostCommand::new("list the claims", &programs.mmapdemo)
        .arg("list")
        .stdout(stop)?;
    let known: Vec<&str> = list.split_whitespace().collect();
    match claims.iter().find(|claim| !known.contains(&claim.as_str())) {
        None => Ok(()),
        Some(claim) => Err(Failure::Usage(format!(
            "no claim {claim}; `cargo lab exec -- mmapdemo list` names them"
        ))
        .into()),
    }
}
