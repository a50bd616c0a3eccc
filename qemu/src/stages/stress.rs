//! `lab stress`: the driver under random and hostile use, by a seed that replays.

use std::fs::File;
use std::io::Read;
use std::iter;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cli::Stress;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::job::{KTAP_PORT, PORTS_DIR, Program, Work};
use crate::kit::{self, Kit};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::report::{ProgramStatus, Report};
use crate::session::Streams;
use crate::workshop::Workshop;

/// The nodes that stress-ng opens.
const NODES: [&str; 3] = ["/dev/mmapdemo", "/dev/mmapdemo-pfn", "/dev/mmapdemo-fault"];

/// How many of its processes are at a node.
const STRESSORS: &str = "2";

/// Time for the last round to end, and for what it left to be counted, on a busy host.
const PATIENCE: Duration = Duration::from_secs(600);

/// `lab stress`.
///
/// # Errors
///
/// When the guest cannot be made or started.
pub fn stress(workshop: &Workshop<'_>, args: &Stress) -> Result<ExitCode> {
    // Drawn here: of a guest that breaks at once, the seed is known all the same.
    let seed = args.seed.map_or_else(random_seed, Ok)?;
    let built = workshop.build(&args.kernel)?;
    let program = Program {
        ktap: true,
        ..Program::new(command(args, seed))
    };
    let kit = args.stress_ng.map(|seconds| {
        let kit = workshop.kit_of(&kit::STRESSOR, &args.kernel, false)?;
        Ok::<_, anyhow::Error>((kit, seconds))
    });
    let (kit, seconds) = kit.transpose()?.unzip();
    let others = seconds.into_iter().flat_map(stress_ng);
    let programs = iter::once(program).chain(others).collect();
    let time = Duration::from_secs(args.seconds.max(seconds.unwrap_or(0)));
    let mut plan = Plan {
        accel: args.accel,
        timeout: Some(time + PATIENCE),
        ..Plan::new(&built, Work::Programs(programs))
    };
    plan.archives.extend(kit.as_ref().map(Kit::programs));
    let report = plan.boot(workshop, Streams::outputs())?;
    let release = &built.target.kernel.release;
    let failed = failed_stressors(&report);
    match &report.outcome {
        Outcome::Passed { .. } if failed.is_empty() => {
            println!(
                "{release}: {}, and the kernel has not complained",
                report.outcome
            );
            return Ok(ExitCode::AsExpected);
        }
        Outcome::Interrupted => {
            return Err(Failure::Interrupted("stressing the driver".into()).into());
        }
        Outcome::Passed { .. }
        | Outcome::Failed { .. }
        | Outcome::Skipped { .. }
        | Outcome::OutputClosed(_) => {}
        _ => eprint!("{}", report.last_words()),
    }
    eprintln!("lab: {release}: {}", report.outcome);
    for line in &failed {
        eprintln!("lab: {release}: {line}");
    }
    eprintln!("  next step: {}", again(args, seed));
    Ok(match report.outcome.exit_code() {
        ExitCode::AsExpected => ExitCode::NotAsExpected,
        code => code,
    })
}

/// Those of stress-ng's runs that did not do what they were to do: it says by its status that something failed, that it
/// has no such stressor, or that it could not open the node (stress-ng(1), EXIT STATUS).
fn failed_stressors(report: &Report) -> Vec<String> {
    let runs = report.programs.iter().skip(1).zip(NODES);
    let failed = runs.filter(|(run, _)| run.status != Some(ProgramStatus::Exited(0)));
    let said = failed.map(|(run, node)| match &run.status {
        Some(status) => format!("stress-ng at {node} {status}"),
        None => format!("stress-ng at {node} did not end"),
    });
    said.collect()
}

/// What runs in the guest.
fn command(args: &Stress, seed: u64) -> Vec<String> {
    let mut command = vec!["mmapdemo".to_owned(), "stress".to_owned()];
    command.extend(options(args, seed));
    command.extend(["--ktap".to_owned(), format!("{PORTS_DIR}/{KTAP_PORT}")]);
    command
}

/// What has stress-ng(1) call whatever it knows of devices, on each node for so many seconds.
fn stress_ng(seconds: u64) -> impl Iterator<Item = Program> {
    NODES.into_iter().map(move |node| {
        let seconds = seconds.to_string();
        Program::new([
            "stress-ng",
            "--dev",
            STRESSORS,
            "--dev-file",
            node,
            "--timeout",
            &seconds,
            "--metrics-brief",
        ])
    })
}

/// The options that the guest's program has in common with `lab stress`.
fn options(args: &Stress, seed: u64) -> Vec<String> {
    let mut options = Vec::new();
    let mut add = |name: &str, value: String| options.extend([format!("--{name}"), value]);
    add("seed", seed.to_string());
    add("seconds", args.seconds.to_string());
    add("workers", args.workers.to_string());
    if let Some(round) = args.round {
        add("round", round.to_string());
    }
    if let Some(only) = args.only {
        add("only", only.to_string());
    }
    options
}

/// The command that does the same again.
fn again(args: &Stress, seed: u64) -> String {
    let mut options = options(args, seed);
    if let Some(seconds) = args.stress_ng {
        options.extend(["--stress-ng".to_owned(), seconds.to_string()]);
    }
    let (kernel, options) = (&args.kernel.kernel, options.join(" "));
    format!("cargo lab stress --kernel {kernel} {options}")
}

fn random_seed() -> Result<u64> {
    let mut bytes = [0; size_of::<u64>()];
    let path = "/dev/urandom";
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .with_context(|| format!("failed to read {path}"))?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::report::ProgramReport;

    fn parse(words: &[&str]) -> Stress {
        match Cli::try_parse_from(words).unwrap().command {
            Command::Stress(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_that_replays_is_one_of_the_lab_with_the_same_options() {
        let args = parse(&[
            "lab",
            "stress",
            "--kernel",
            "7.2",
            "--seconds",
            "7",
            "--round",
            "3",
            "--stress-ng",
            "5",
        ]);
        let again = again(&args, 11);
        let words: Vec<_> = again.split(' ').skip(1).collect();
        let replayed = parse(&words);
        assert_eq!(replayed.seed, Some(11));
        assert_eq!(options(&replayed, 11), options(&args, 11));
        assert_eq!(replayed.kernel.kernel, args.kernel.kernel);
        assert_eq!(replayed.stress_ng, Some(5));
    }

    #[test]
    fn a_stressor_that_did_nothing_is_named_with_its_node() {
        let program = |status| ProgramReport {
            name: "x".into(),
            status,
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        let statuses = [Some(0), Some(0), Some(4), None];
        let statuses = statuses.map(|status| status.map(ProgramStatus::Exited));
        let report = Report {
            outcome: Outcome::Completed,
            events: Vec::new(),
            programs: statuses.map(program).into(),
            console: String::new(),
            ktap: String::new(),
            qemu_stderr: String::new(),
            timings: Vec::new(),
        };
        let failed = [
            "stress-ng at /dev/mmapdemo-pfn exited with 4",
            "stress-ng at /dev/mmapdemo-fault did not end",
        ];
        assert_eq!(failed_stressors(&report), failed);
    }

    #[test]
    fn the_guests_program_gets_seed_and_results_port() {
        let command = command(&parse(&["lab", "stress"]), 5);
        assert_eq!(&command[..4], ["mmapdemo", "stress", "--seed", "5"]);
        assert!(command.ends_with(&["--ktap".into(), "/dev/virtio-ports/lab.ktap".into()]));
    }
}
