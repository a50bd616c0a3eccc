//! Every way in which a run can end, brought about in a real guest: the lab has to tell which it was.
//!
//! Uses the cache that `lab` itself uses, and fills it if need be.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what helps a test may panic as the test may"
)]

mod bench;
mod guest;
mod host;
mod kernel;

/// Which kernel the guests have.
const KERNEL: &str = "stock";
