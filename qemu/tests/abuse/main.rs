//! The lab under abuse: many at once, killed at any moment, in places that nobody meant.
//!
//! Uses a copy of the cache that `lab` itself uses, filled if need be: what is broken here stays here.
#![expect(
    clippy::unwrap_used,
    reason = "what helps a test may panic as the test may"
)]

mod crowd;
mod kill;
mod names;
mod place;
mod scene;
