//! `lab run` and `lab demo`: the experiments, and what they say.

use std::io::{self, IsTerminal};

use anyhow::{Result, bail};

use super::earlier::Earlier;
use super::reports::Reports;
use crate::cli::{Demo, Run};
use crate::command::HostCommand;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::initramfs::GuestFile;
use crate::job::{KTAP_PORT, PORTS_DIR, Program, Work};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::programs::Programs;
use crate::report::{ProgramStatus, Report};
use crate::requirements::Requirements;
use crate::session::Streams;
use crate::stop::Stop;
use crate::workshop::Workshop;

/// Where the guest of the main boot finds what the earlier ones saw.
const RECORDS: &str = "/lab/records.jsonl";

/// `lab demo`.
///
/// # Errors
///
/// When the guest cannot be made or started.
pub fn demo(workshop: &Workshop<'_>, args: &Demo) -> Result<ExitCode> {
    let (kernel, guest) = (args.kernel.clone(), args.guest.clone());
    let args = Run {
        kernel,
        guest,
        claims: Vec::new(),
        details: false,
        max_skipped: None,
        json: None,
        junit: None,
    };
    run(workshop, &args)
}

/// `lab run`: the earlier boots that the claims take, and the one that judges them, all if none is named.
///
/// # Errors
///
/// When a guest cannot be made or started, or an earlier boot fails.
pub fn run(workshop: &Workshop<'_>, args: &Run) -> Result<ExitCode> {
    let reports = Reports::begin(args.json.as_deref(), args.junit.as_deref())?;
    let claims = args.claims.as_slice();
    let set_up = |programs: &Programs| {
        require_known(claims, programs, &workshop.stop)?;
        let required = requirements(claims, programs, &workshop.stop)?;
        let kit = workshop.kit_for(required.of_the_kit(), &args.kernel)?;
        Ok((required, kit))
    };
    let (built, (required, kit)) = workshop.build_and(&args.kernel, set_up)?;
    let mut earlier = Earlier::default();
    for boot in &required.boots {
        let asked = (&args.guest, claims);
        earlier.boot(boot, workshop, &built, kit.as_ref(), asked)?;
    }
    let plan = Plan {
        accel: args.guest.accel,
        insmod_args: &args.guest.insmod_args,
        timeout: Some(args.guest.timeout()),
        disks: earlier.disks,
        ..Plan::new(&built, work(args, &required, &reports))
    };
    let report = plan
        .files([GuestFile::data(RECORDS, earlier.records)])
        .extras(kit.as_ref(), required.extras)?
        .boot(workshop, Streams::outputs())?;
    // Programs that read the reports are to learn of an experiment that broke, too.
    let verdict = verdict(&report, args.max_skipped);
    // After a bad end there is nothing to write, and no need to say so.
    if matches!(
        report.outcome,
        Outcome::Passed { .. } | Outcome::Failed { .. } | Outcome::Skipped { .. }
    ) {
        reports.write(report.programs.get(1..).unwrap_or_default())?;
    }
    verdict
}

/// What the guest of the main boot does.
fn work(args: &Run, required: &Requirements, reports: &Reports) -> Work {
    let color = if io::stdout().is_terminal() {
        "always"
    } else {
        "never"
    };
    let ktap = format!("{PORTS_DIR}/{KTAP_PORT}");
    let mut command = vec!["mmapdemo", "run", "--color", color, "--ktap", &ktap];
    if !required.boots.is_empty() {
        command.extend(["--recorded", RECORDS]);
    }
    if args.details {
        command.push("--details");
    }
    command.extend(reports.options());
    command.extend(args.claims.iter().map(String::as_str));
    let program = Program {
        ktap: true,
        ..Program::new(command)
    };
    Work::Programs(std::iter::once(program).chain(reports.programs()).collect())
}

/// What the run says about the claims, as an exit status.
fn verdict(report: &Report, max_skipped: Option<usize>) -> Result<ExitCode> {
    let status = report
        .programs
        .first()
        .and_then(|program| program.status.as_ref());
    match (&report.outcome, status) {
        (Outcome::Passed { skipped, .. }, _) if max_skipped.is_some_and(|max| *skipped > max) => {
            eprintln!("lab: {skipped} claims were skipped, more than --max-skipped allows");
            Ok(ExitCode::NotAsExpected)
        }
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

/// What the built program says that the experiments of `claims` take.
fn requirements(claims: &[String], programs: &Programs, stop: &Stop) -> Result<Requirements> {
    let text = HostCommand::new("learn what the claims take", &programs.mmapdemo)
        .arg("requirements")
        .args(claims)
        .stdout(stop)?;
    Requirements::parse(&text)
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
