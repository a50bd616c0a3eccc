//! The lab: from Debian's kernel packages to a verdict.
//!
//! ```text
//! release ─▶ package ─▶ sysroot ─▶ kernel ─▶ module ─▶ initramfs ─▶ vm ─▶ console, ktap ─▶ outcome
//!                                                ▲          ▲
//!                                     driver/ ───┘          └─── programs (userspace/, init)
//! ```
//!
//! Each stage makes one artefact out of those before it. The left half ([`prepare`]) works on the user's
//! cache and is done once; [`module`] and [`programs`] work on the clone; the right half boots a guest,
//! whose PID 1 is [`init`]. What the lab says about itself ([`outcome`], [`failure`]) and what the
//! experiments say about a claim never share a type.
#![forbid(unsafe_code)]

pub mod accel;
pub mod allowed;
pub mod apt;
pub mod boot;
pub mod cache;
pub mod cached_kernel;
pub mod changes;
pub mod checks;
pub mod cli;
pub mod command;
pub mod compiler;
pub mod config;
pub mod console;
pub mod course;
pub mod debug_kernel;
pub mod debugger;
pub mod disk;
pub mod editor;
pub mod evidence;
pub mod exceptions;
pub mod exit_code;
pub mod failure;
pub mod grade;
pub mod host;
pub mod html;
pub mod incremental;
pub mod initramfs;
pub mod input;
pub mod interrupt;
pub mod kbuild;
pub mod kernel;
pub mod kit;
pub mod ktap;
pub mod layout;
pub mod libtest;
pub mod lock;
pub mod machine;
pub mod matrix;
pub mod module;
pub mod orc;
pub mod outcome;
pub mod output;
pub mod own_kernel;
pub mod package;
pub mod parallel;
pub mod patch;
pub mod phase;
pub mod plan;
pub mod prepare;
pub mod programs;
pub mod progress;
pub mod qemu;
pub mod qmp;
pub mod release;
pub mod report;
pub mod requirements;
pub mod rom;
pub mod seal;
pub mod session;
pub mod show;
pub mod snapshot;
pub mod sparse;
pub mod stages;
pub mod stop;
pub mod store;
pub mod symbol_file;
pub mod sysroot;
pub mod terminal;
pub mod verdicts;
pub mod vm;
pub mod vmlinux;
pub mod warm;
pub mod workshop;

pub use init::{job, mark};
