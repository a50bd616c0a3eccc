//! Finds out by experiment which claims about mmap are true.

#![forbid(unsafe_code)]

use clap::Parser;
use mmapdemo::actor;
use mmapdemo::app;
use mmapdemo::cli::Cli;
use mmapdemo::exit_code::ExitCode;

fn main() -> ExitCode {
    if actor::is_one() {
        return actor::live();
    }
    app::run(&Cli::parse()).unwrap_or_else(|failure| {
        eprintln!("mmapdemo: {failure}");
        failure.exit_code()
    })
}
