//! One of the processes that experiments are about, and nothing else.

#![forbid(unsafe_code)]

use mmapdemo::actor;
use mmapdemo::exit_code::ExitCode;

fn main() -> ExitCode {
    actor::live()
}
