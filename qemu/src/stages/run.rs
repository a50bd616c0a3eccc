//! `lab run` and `lab demo`: the experiments, and what they say.

use std::io::{self, IsTerminal};

use anyhow::{Result, bail};

use super::earlier::Earlier;
use super::reports::Reports;
use crate::boot::Boot;
use crate::cli::{Demo, Extras, Run};
use crate::command::HostCommand;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::initramfs::GuestFile;
use crate::job::{KTAP_PATH, Program, Work};
use crate::kit::Kit;
use crate::ktap::{self, Verdict};
use crate::machine::Clock;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::programs::Programs;
use crate::report::{ProgramStatus, Report};
use crate::requirements::Requirements;
use crate::session::Streams;
use crate::stop::Stop;
use crate::warm::Start;
use crate::workshop::{Built, TargetSoon, Workshop};

/// Where the guest of the main boot finds what the earlier ones saw.
const RECORDS: &str = "/lab/records.jsonl";

/// What stands in `--may-skip` for no claim.
const NONE: &str = "none";

/// `lab demo`.
///
/// # Errors
///
/// When the guest cannot be made or started.
pub fn demo(workshop: &Workshop<'_>, args: &Demo) -> Result<ExitCode> {
    run(workshop, &Run::all(args.kernel.clone(), args.guest.clone()))
}

/// `lab run`: the earlier boots that the claims take, and the one that judges them, all if none is named.
///
/// # Errors
///
/// When a guest cannot be made or started, or an earlier boot fails.
pub fn run(workshop: &Workshop<'_>, args: &Run) -> Result<ExitCode> {
    let reports = Reports::begin(args.json.as_deref(), args.junit.as_deref())?;
    let claims = args.claims.as_slice();
    let set_up = |programs: &Programs, target: &TargetSoon| {
        let may_skip = args.may_skip.iter().flatten().filter(|name| *name != NONE);
        require_known(claims.iter().chain(may_skip), programs, &workshop.stop)?;
        let (required, why_cold) = required(args, programs, &workshop.stop)?;
        let kit = workshop.kit_for(required.of_the_kit(), &args.kernel)?;
        let start = match why_cold {
            Some(why) => Start::Instead(why),
            None if args.warm => {
                let extras = (kit.as_ref(), required.extras);
                Start::warm(
                    workshop,
                    &target.wait()?,
                    programs,
                    args.guest.accel,
                    extras,
                )?
            }
            None => Start::Cold,
        };
        Ok((required, kit, start))
    };
    let (built, (required, kit, start)) = workshop.build_meanwhile(&args.kernel, set_up)?;
    let parts = Parts {
        built,
        required,
        kit,
        start,
    };
    judged(workshop, args, parts, reports, Streams::outputs())
}

/// What a run takes.
pub(super) struct Parts {
    pub(super) built: Built,
    pub(super) required: Requirements,
    pub(super) kit: Option<Kit>,
    pub(super) start: Start,
}

/// The earlier boots, and the main one, which judges.
pub(super) fn judged(
    workshop: &Workshop<'_>,
    args: &Run,
    parts: Parts,
    reports: Reports,
    streams: Streams,
) -> Result<ExitCode> {
    let Parts {
        built,
        required,
        kit,
        start,
    } = parts;
    let (counted, boots): (Vec<_>, Vec<_>) = required.boots.iter().copied().partition(|boot| {
        built.target.kernel.checks.accesses && boot.hardware.clock == Clock::Instructions
    });
    for boot in counted {
        let why = "the kernel's checks would be counted, too";
        let text = format!("  no boot {}: {why}", boot.what);
        workshop.progress.note(&text);
    }
    let command = |boot: &Boot| {
        let observe = ["mmapdemo", "observe", "--boot", boot.name].map(str::to_owned);
        observe.into_iter().chain(args.claims.clone()).collect()
    };
    let asked = (&args.guest, command);
    let earlier = Earlier::boot_all(&boots, workshop, &built, kit.as_ref(), asked)?;
    let records = earlier
        .iter()
        .flat_map(|it| it.records.clone())
        .collect::<Vec<_>>();
    let plan = Plan {
        accel: args.guest.accel,
        insmod_args: &args.guest.insmod_args,
        disks: earlier.into_iter().flat_map(|it| it.disks).collect(),
        start,
        ..Plan::new(&built, work(args, &required, &reports))
    };
    let report = plan
        .files([GuestFile::data(RECORDS, records)])
        .extras(kit.as_ref(), required.extras)?
        .time(args.guest.timeout())
        .boot(workshop, streams)?;
    // Programs that read the reports are to learn of an experiment that broke, too.
    let verdict = verdict(&report, args.may_skip.as_deref());
    // After a bad end there is nothing to write, and no need to say so.
    if matches!(
        report.outcome,
        Outcome::Passed { .. } | Outcome::Failed { .. } | Outcome::Skipped { .. }
    ) {
        reports.write(report.programs.get(1..).unwrap_or_default())?;
    }
    verdict
}

/// What is set up for the claims; and if they were to be judged in a machine that is restored, and cannot
/// be, why not.
pub(super) fn required(
    args: &Run,
    programs: &Programs,
    stop: &Stop,
) -> Result<(Requirements, Option<String>)> {
    let of = |claims: &[String]| requirements(claims, programs, stop);
    let required = of(&args.claims)?;
    if !args.warm || required.fits_a_restored_machine() {
        return Ok((required, None));
    }
    if args.claims.is_empty() {
        // The experiments themselves say which ones are skipped, and why.
        return Ok((required.of_a_restored_machine(), None));
    }
    let mut others = Vec::new();
    for claim in &args.claims {
        if !of(std::slice::from_ref(claim))?.fits_a_restored_machine() {
            others.push(claim.as_str());
        }
    }
    let why = format!("{} takes a disk or an earlier boot", others.join(", "));
    Ok((required, Some(why)))
}

/// Whether the guest is to colour what goes to the lab's standard output: its own is no terminal, and it does not know
/// the lab's environment (<https://no-color.org>).
pub(super) fn color() -> &'static str {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stdout().is_terminal() && !unwanted {
        "always"
    } else {
        "never"
    }
}

/// What the guest of the main boot does.
fn work(args: &Run, required: &Requirements, reports: &Reports) -> Work {
    let program = experiments(args, required, reports);
    Work::Programs(std::iter::once(program).chain(reports.programs()).collect())
}

/// The program that puts the claims to the test.
pub(super) fn experiments(args: &Run, required: &Requirements, reports: &Reports) -> Program {
    let mut command = vec!["mmapdemo", "run", "--color", color(), "--ktap", KTAP_PATH];
    if !required.boots.is_empty() {
        command.extend(["--recorded", RECORDS]);
    }
    if args.details {
        command.push("--details");
    }
    command.extend(reports.options());
    command.extend(args.claims.iter().map(String::as_str));
    Program {
        ktap: true,
        ..Program::new(command)
    }
}

/// What the run says about the claims, as an exit status.
fn verdict(report: &Report, may_skip: Option<&[String]>) -> Result<ExitCode> {
    let status = report
        .programs
        .first()
        .and_then(|program| program.status.as_ref());
    match (&report.outcome, status) {
        (Outcome::Passed { .. }, _) => match skipped_beside(may_skip, &report.ktap).as_slice() {
            [] => Ok(ExitCode::AsExpected),
            skipped => {
                let names = skipped.join(", ");
                eprintln!("lab: skipped, although --may-skip does not name them: {names}");
                Ok(ExitCode::NotAsExpected)
            }
        },
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

/// The claims that were skipped, and must not be.
fn skipped_beside(may_skip: Option<&[String]>, results: &str) -> Vec<String> {
    let Some(may_skip) = may_skip else {
        return Vec::new();
    };
    let results = ktap::parse(results).results.into_iter();
    results
        .filter(|result| matches!(result.verdict, Verdict::Skipped(_)))
        .map(|result| result.name)
        .filter(|name| !may_skip.contains(name))
        .collect()
}

/// What the built program says that the experiments of `claims` take.
fn requirements(claims: &[String], programs: &Programs, stop: &Stop) -> Result<Requirements> {
    let text = HostCommand::new("learn what the claims take", &programs.mmapdemo)
        .arg("requirements")
        .args(claims)
        .stdout(stop)?;
    Requirements::parse(&text)
}

/// What the claims take beside the usual, in a guest that looks closer at their experiments; not those that look in an
/// earlier boot, whose name `instead` gets.
pub(super) fn extras_of(
    claims: &[String],
    programs: &Programs,
    stop: &Stop,
    instead: impl FnOnce(&str) -> String,
) -> Result<Extras> {
    let required = requirements(claims, programs, stop)?;
    let Some(boot) = required.boots.first() else {
        return Ok(required.extras);
    };
    Err(Failure::Usage(format!(
        "the experiment of {} looks in an earlier boot, {}; {}",
        claims.join(" "),
        boot.what,
        instead(boot.name)
    ))
    .into())
}

/// Refuses claims that the built program does not know, before a guest is booted for them.
pub(super) fn require_known<'a>(
    claims: impl Iterator<Item = &'a String>,
    programs: &Programs,
    stop: &Stop,
) -> Result<()> {
    let mut claims = claims.peekable();
    if claims.peek().is_none() {
        return Ok(());
    }
    let list = HostCommand::new("list the claims", &programs.mmapdemo)
        .args(["list", "--ids"])
        .stdout(stop)?;
    let known: Vec<&str> = list.lines().collect();
    match claims.find(|claim| !known.contains(&claim.as_str())) {
        None => Ok(()),
        Some(claim) => Err(Failure::Usage(format!(
            "no claim {claim}; `cargo lab exec -- mmapdemo list` names them"
        ))
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_claims_that_are_named_may_be_skipped() {
        let results =
            "KTAP version 1\n1..3\nok 1 a\nok 2 b # SKIP no disk\nok 3 c # SKIP no disk\n";
        let beside = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            skipped_beside(Some(&names), results)
        };
        assert_eq!(skipped_beside(None, results), [""; 0]);
        assert_eq!(beside(&[NONE]), ["b", "c"]);
        assert_eq!(beside(&["a", "c"]), ["b"]);
        assert_eq!(beside(&["b", "c"]), [""; 0]);
    }
}
