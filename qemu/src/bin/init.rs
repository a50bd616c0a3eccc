//! PID 1 of the guest; see [`lab::init`].
#![forbid(unsafe_code)]

fn main() {
    lab::init::main();
}
