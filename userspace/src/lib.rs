//! Finds out by experiment which claims about mmap are true.
//!
//! The crate is a pipeline, and each module is one noun in it:
//!
//! ```text
//! claims/ -> Catalogue -> Claim -> Experiment -> Evidence -> Verdict -> report
//!                                     |
//!                 Fixture: Device, Mapping, Actor, probe, faults, procfs
//! ```
//!
//! A [`catalogue::Catalogue`] of [`claim::Claim`]s is read from `claims/`. Each claim names an
//! [`experiment::Experiment`], which does something to memory and writes down [`evidence::Evidence`]: typed
//! values under labels. It never judges. The claim's [`prediction::Prediction`]s compare those values, and
//! [`verdict::judge`], which is pure, turns the comparisons into a [`verdict::Verdict`]. [`run::run`] does this
//! for every claim and counts; [`report`] shows what came of it.
//!
//! Two questions never share a type: whether a claim is true ([`verdict::Verdict`]) and whether the lab worked
//! ([`error::Error`], [`run::Outcome`]). A refuted claim is a good result; a missing result is never a pass.

#![deny(unsafe_code)]

use crate::catalogue::ClaimsFile;

pub mod actor;
pub mod app;
pub mod boot;
pub mod btf;
mod bytes;
pub mod calls;
pub mod catalogue;
pub mod claim;
pub mod cli;
pub mod cost;
pub mod cpu;
pub mod device;
pub mod disk;
pub mod driver_functions;
pub mod errand;
pub mod error;
pub mod evidence;
pub mod example;
pub mod exit_code;
pub mod experiment;
pub mod faults;
pub mod fixture;
pub mod frame;
pub mod ftrace;
pub mod grapher;
pub mod kcore;
pub mod kernel_symbols;
pub mod map_call;
pub mod message;
pub mod need;
pub mod object;
pub mod page_table;
pub mod prediction;
pub mod probe;
pub mod process;
pub mod procfs;
pub mod race;
pub mod record;
pub mod report;
pub mod run;
pub mod scenario;
pub mod standby;
pub mod strategy;
pub mod stress;
pub mod surroundings;
pub mod swapfile;
#[expect(unsafe_code, reason = "wraps raw memory and raw calls")]
pub mod sys;
pub mod syscalls;
pub mod sysctl;
pub mod trace;
pub mod tracer;
pub mod turn;
#[path = "../../driver/uapi.rs"]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the driver's file: the structures are small"
)]
pub mod uapi;
pub mod verdict;

/// The claims that the documents make, as the program carries them: the files of `claims/`.
pub const CLAIMS_OF_THE_DOCUMENTS: &[ClaimsFile<'static>] = &[
    ClaimsFile {
        name: "claims/catalogue.toml",
        text: include_str!("../claims/catalogue.toml"),
    },
    ClaimsFile {
        name: "claims/shared.toml",
        text: include_str!("../claims/shared.toml"),
    },
    ClaimsFile {
        name: "claims/private.toml",
        text: include_str!("../claims/private.toml"),
    },
    ClaimsFile {
        name: "claims/fault.toml",
        text: include_str!("../claims/fault.toml"),
    },
    ClaimsFile {
        name: "claims/api.toml",
        text: include_str!("../claims/api.toml"),
    },
    ClaimsFile {
        name: "claims/flags.toml",
        text: include_str!("../claims/flags.toml"),
    },
    ClaimsFile {
        name: "claims/sync.toml",
        text: include_str!("../claims/sync.toml"),
    },
    ClaimsFile {
        name: "claims/file.toml",
        text: include_str!("../claims/file.toml"),
    },
    ClaimsFile {
        name: "claims/anon.toml",
        text: include_str!("../claims/anon.toml"),
    },
    ClaimsFile {
        name: "claims/kernel.toml",
        text: include_str!("../claims/kernel.toml"),
    },
    ClaimsFile {
        name: "claims/perf.toml",
        text: include_str!("../claims/perf.toml"),
    },
    ClaimsFile {
        name: "claims/limits.toml",
        text: include_str!("../claims/limits.toml"),
    },
    ClaimsFile {
        name: "claims/tools.toml",
        text: include_str!("../claims/tools.toml"),
    },
];
