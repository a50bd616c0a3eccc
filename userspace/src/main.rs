//! Finds out by experiment which claims about mmap are true.

#![forbid(unsafe_code)]

use clap::Parser;
use mmapdemo::actor;
use mmapdemo::app::{self, Failure};
use mmapdemo::cli::Cli;
use mmapdemo::exit_code::ExitCode;

fn main() -> ExitCode {
    let done = if actor::is_one() {
        let served = actor::serve().map(|()| ExitCode::AsExpected);
        served.map_err(Failure::from)
    } else {
        app::run(&Cli::parse())
    };
    done.unwrap_or_else(|failure| {
        eprintln!("mmapdemo: {failure}");
        failure.exit_code()
    })
}
