//! What each subcommand does, in terms of the artefacts that [`crate::workshop`] makes.

mod bench;
mod debug;
mod doctor;
mod earlier;
mod editor;
mod exec;
mod grade;
mod manual;
mod mutants;
mod new;
mod reports;
mod run;
mod shell;
mod show;
mod stress;
mod test;
mod trace;
mod verdicts;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::cli::{AccelChoice, Check, Cli, Command, Exec, Furnishing, KernelArgs, Run, Shell};
use crate::exit_code::ExitCode as Code;
use crate::failure::Failure;
use crate::kit::Kit;
use crate::module::Manner;
use crate::prepare;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::warm::Start;
use crate::workshop::{Built, TargetSoon, Workshop};

/// Runs the subcommand, and returns the exit status.
///
/// # Errors
///
/// Whatever keeps it from an answer; [`crate::failure::Failure`] gives the exit status.
pub fn run(cli: &Cli, progress: &Progress) -> Result<ExitCode> {
    match &cli.command {
        Command::Completions { shell } => return manual::completions(*shell).map(Into::into),
        Command::Man { dir } => return manual::man(dir.as_deref()).map(Into::into),
        _ => {}
    }
    let mut workshop = Workshop::open(progress)?;
    workshop.manner = manner(&cli.command);
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
        Command::Trace(args) => trace::trace(&workshop, args).map(Into::into),
        Command::Editor(args) => editor::editor(&workshop, args).map(Into::into),
        Command::Debug(args) => debug::debug(&workshop, args).map(Into::into),
        Command::Shell(args) => shell::shell(&workshop, args).map(Into::into),
        Command::Report(args) => verdicts::report(&workshop, args).map(Into::into),
        Command::Show(args) => show::show(&workshop, args).map(Into::into),
        Command::Check(args) => check(&workshop, args).map(Into::into),
        // They are done, above: neither takes a workshop.
        Command::Completions { .. } | Command::Man { .. } => Ok(Code::AsExpected.into()),
        Command::New(args) => new::new(&workshop, args).map(Into::into),
        Command::Grade(args) => grade::grade(&workshop, args).map(Into::into),
        Command::Clean => clean(&workshop).map(Into::into),
        Command::Watch(args) => watch::watch(&workshop, args).map(Into::into),
        Command::Bench(args) => bench::bench(&workshop, args).map(Into::into),
        Command::Mutants(args) => mutants::mutants(&workshop, args).map(Into::into),
        Command::Test(args) => test::test(&workshop, args).map(Into::into),
        Command::Stress(args) => stress::stress(&workshop, args).map(Into::into),
    }
}

/// For what is about the clone's own driver.
fn of_the_clone(workshop: &Workshop<'_>, kernel: &KernelArgs) -> KernelArgs {
    if let Some(driver) = &kernel.driver {
        let text = format!(
            "  not the driver in {}, but the clone's: this is about nothing else",
            driver.display()
        );
        workshop.progress.note(&text);
    }
    KernelArgs {
        driver: None,
        ..kernel.clone()
    }
}

/// How a command builds modules: what restores machines is in a hurry.
fn manner(command: &Command) -> Manner {
    match command {
        Command::Watch(_)
        | Command::Run(Run { warm: true, .. })
        | Command::Exec(Exec { warm: true, .. })
        | Command::Shell(Shell { warm: true, .. }) => Manner::Incremental,
        Command::Debug(_) => Manner::Debugged,
        _ => Manner::Whole,
    }
}

/// Builds, and meanwhile has a guest with this furniture begin: restored, if it was asked for and can be.
fn furnished(
    workshop: &Workshop<'_>,
    kernel: &KernelArgs,
    (accel, furnishing, warm): (AccelChoice, &Furnishing, bool),
) -> Result<(Built, Option<Kit>, Start)> {
    let wanted = furnishing.of_the_kit();
    let meanwhile = |programs: &Programs, target: &TargetSoon| {
        let kit = workshop.kit_for(wanted, kernel)?;
        let start = match furnishing.boot.filter(|_| warm) {
            _ if !warm => Start::Cold,
            Some(boot) => Start::Instead(format!("the boot {} is another machine", boot.name)),
            None => {
                let extras = (kit.as_ref(), wanted);
                Start::warm(workshop, &target.wait()?, programs, accel, extras)?
            }
        };
        Ok((kit, start))
    };
    let (built, (kit, start)) = workshop.build_meanwhile(kernel, meanwhile)?;
    Ok((built, kit, start))
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
        let release = &target.kernel.release;
        let stage = workshop
            .progress
            .stage(format!("check the driver for Linux {release}"));
        workshop.builder(&target).check(&workshop.stop)?;
        stage.done();
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
