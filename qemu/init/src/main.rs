//! PID 1 of the guest; see [`init`].
#![forbid(unsafe_code)]

fn main() {
    init::main();
}
