//! `lab`: parses the command line, runs the stages, exits with their status.

use std::process::ExitCode;

use clap::Parser;
use lab::cli::Cli;
use lab::failure::Failure;
use lab::progress::Progress;
use lab::{command, interrupt, stages};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = interrupt::install() {
        eprintln!("lab: failed to listen for signals: {error}");
        return lab::exit_code::ExitCode::LabBroke.into();
    }
    let progress = if cli.verbose {
        command::show_all();
        Progress::verbose()
    } else {
        Progress::new(cli.quiet)
    };
    let result = stages::run(&cli, &progress);
    if cli.timings {
        eprint!("\n{}", progress.timings());
    }
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}lab: {error:#}", Failure::diagnostics_of(&error));
            Failure::exit_code_of(&error).into()
        }
    }
}
