//! Finds out by experiment which claims about mmap are true.
//!
//! The crate is a pipeline, and each module is one noun in it:
//!
//! ```text
//! claims.toml -> Catalogue -> Claim -> Experiment -> Evidence -> Verdict -> report
//!                                        |
//!                 Fixture: Device, Mapping, Actor, probe, faults, procfs
//! ```
//!
//! A [`catalogue::Catalogue`] of [`claim::Claim`]s is read from `claims.toml`. Each claim names an
//! [`experiment::Experiment`], which does something to memory and writes down [`evidence::Evidence`]: typed
//! values under labels. It never judges. The claim's [`prediction::Prediction`]s compare those values, and
//! [`verdict::judge`], which is pure, turns the comparisons into a [`verdict::Verdict`]. [`run::run`] does this
//! for every claim and counts; [`report`] shows what came of it.
//!
//! Two questions never share a type: whether a claim is true ([`verdict::Verdict`]) and whether the lab worked
//! ([`error::Error`], [`run::Outcome`]). A refuted claim is a good result; a missing result is never a pass.

#![deny(unsafe_code)]

pub mod actor;
pub mod app;
mod bytes;
pub mod catalogue;
pub mod claim;
pub mod cli;
pub mod device;
pub mod error;
pub mod evidence;
pub mod exit_code;
pub mod experiment;
pub mod faults;
pub mod fixture;
pub mod map_call;
pub mod message;
pub mod need;
pub mod object;
pub mod prediction;
pub mod probe;
pub mod process;
pub mod procfs;
pub mod race;
pub mod report;
pub mod run;
pub mod surroundings;
#[expect(unsafe_code, reason = "wraps raw memory and raw calls")]
pub mod sys;
pub mod turn;
#[path = "../../driver/uapi.rs"]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the driver's file: the structures are small"
)]
pub mod uapi;
pub mod verdict;

/// The claims that the documents make, as the program carries them.
#[must_use]
pub fn claims_of_the_documents() -> &'static str {
    include_str!("../claims.toml")
}
