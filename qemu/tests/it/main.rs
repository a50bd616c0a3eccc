//! Tests of the lab on the host: on saved logs and stand-ins, without a guest, in seconds.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what tests share ends like a test: by a panic"
)]

mod accel;
mod aftermath;
mod cli;
mod console;
mod death;
mod hostile;
mod initramfs;
mod job;
mod ktap;
mod machine;
mod mark;
mod mutants;
mod outcome;
mod pager;
mod readme;
mod run;
mod saved;
#[path = "../screen/mod.rs"]
mod screen;
mod session;
mod show;
mod vmlinux;
