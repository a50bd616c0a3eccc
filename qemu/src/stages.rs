//! What each subcommand does, in terms of the artefacts that [`crate::workshop`] makes.

mod doctor;
mod earlier;
mod exec;
mod mutants;
mod reports;
mod run;
mod shell;
mod stress;
mod test;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::cli::{Check, Cli, Command};
use crate::exit_code::ExitCode as Code;
use crate::failure::Failure;
use crate::prepare;
use crate::progress::Progress;
use crate::workshop::Workshop;

/// Runs the subcommand, and returns the exit status.
///
/// # Errors
///
/// Whatever keeps it from an answer; [`crate::failure::Failure`] gives the exit status.
pub fn run(cli: &Cli, progress: &Progress) -> Result<ExitCode> {
    let workshop = Workshop::open(progress)?;
    match &cli.command {
        Command::Demo(args) => run::demo(&workshop, args).map(Into::into),
        Command::Doctor(args) => doctor::doctor(&workshop, args).map(Into::into),
        Command::Prepare(args) => {
            let target = workshop.prepare(&args.kernel, args.update)?;
            workshop.kit(&args.kernel, args.update)?;
            progress.note(&format!("  Linux {} is prepared", target.kernel.release));
            Ok(Code::AsExpected.into())
        }
        Command::Build(args) => {
            let built = workshop.build(args)?;
            println!(
                "{}\n{}",
                built.module.path.display(),
                built.programs.mmapdemo.display()
            );
            Ok(Code::AsExpected.into())
        }
        Command::Run(args) => run::run(&workshop, args).map(Into::into),
        Command::Exec(args) => Ok(exec::exec(&workshop, args)),
        Command::Shell(args) => shell::shell(&workshop, args).map(Into::into),
        Command::Check(args) => check(&workshop, args).map(Into::into),
        Command::Clean => clean(&workshop).map(Into::into),
        Command::Mutants(args) => mutants::mutants(&workshop, args).map(Into::into),
        Command::Test(args) => test::test(&workshop, args).map(Into::into),
        Command::Stress(args) => stress::stress(&workshop, args).map(Into::into),
    }
}

/// `lab check`.
fn check(workshop: &Workshop<'_>, args: &Check) -> Result<Code> {
    let mut code = Code::Skipped;
    for kernel in args.kernels.each() {
        let target = match workshop.prepare(&kernel, false) {
            Err(error) if matches!(error.downcast_ref(), Some(Failure::Unavailable(_))) => {
                println!("{}: UNAVAILABLE, not checked: {error:#}", kernel.kernel);
                continue;
            }
            target => target?,
        };
        workshop.builder(&target).check(&workshop.stop)?;
        println!("{}: the driver is clean", target.kernel.release);
        code = Code::AsExpected;
    }
    Ok(code)
}

/// `lab clean`.
fn clean(workshop: &Workshop<'_>) -> Result<Code> {
    for dir in prepare::clean(&workshop.layout, Duration::ZERO)? {
        println!("removed {}", dir.display());
    }
    Ok(Code::AsExpected)
}
