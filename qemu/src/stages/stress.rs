//! `lab stress`: the driver under random and hostile use, by a seed that replays.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cli::Stress;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::job::{KTAP_PORT, PORTS_DIR, Program, Work};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::session::Streams;
use crate::workshop::Workshop;

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
    let plan = Plan {
        accel: args.accel,
        timeout: Some(Duration::from_secs(args.seconds) + PATIENCE),
        ..Plan::new(&built, Work::Programs(vec![program]))
    };
    let report = plan.boot(workshop, Streams::outputs())?;
    let release = &built.target.kernel.release;
    match &report.outcome {
        Outcome::Passed { .. } => {
            println!(
                "{release}: {}, and the kernel has not complained",
                report.outcome
            );
            return Ok(ExitCode::AsExpected);
        }
        Outcome::Interrupted => {
            return Err(Failure::Interrupted("stressing the driver".into()).into());
        }
        Outcome::Failed { .. } | Outcome::Skipped { .. } | Outcome::OutputClosed(_) => {}
        _ => eprint!("{}", report.last_words()),
    }
    eprintln!("lab: {release}: {}", report.outcome);
    eprintln!("  next step: {}", again(args, seed));
    Ok(report.outcome.exit_code())
}

/// What runs in the guest.
fn command(args: &Stress, seed: u64) -> Vec<String> {
    let mut command = vec!["mmapdemo".to_owned(), "stress".to_owned()];
    command.extend(options(args, seed));
    command.extend(["--ktap".to_owned(), format!("{PORTS_DIR}/{KTAP_PORT}")]);
    command
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
    let options = options(args, seed).join(" ");
    format!("cargo lab stress --kernel {} {options}", args.kernel.kernel)
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
        ]);
        let again = again(&args, 11);
        let words: Vec<_> = again.split(' ').skip(1).collect();
        let replayed = parse(&words);
        assert_eq!(replayed.seed, Some(11));
        assert_eq!(options(&replayed, 11), options(&args, 11));
        assert_eq!(replayed.kernel.kernel, args.kernel.kernel);
    }

    #[test]
    fn the_guests_program_gets_seed_and_results_port() {
        let command = command(&parse(&["lab", "stress"]), 5);
        assert_eq!(&command[..4], ["mmapdemo", "stress", "--seed", "5"]);
        assert!(command.ends_with(&["--ktap".into(), "/dev/virtio-ports/lab.ktap".into()]));
    }
}
