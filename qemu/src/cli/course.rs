//! `lab new` and `lab grade` on the command line.

use std::path::PathBuf;

use clap::Args;

use super::KernelArgs;

/// What the help of `lab grade` ends with.
pub(super) const GRADE_NOTES: &str = "\
The tests are those of this clone, whatever the student's tree has. A driver that panics, hangs or breaks
the kernel costs the points of the task in whose checks it did so; the others are tried in another guest.
Exit status 0: all points; 1: fewer. Any other status says nothing about the student.";

/// `lab new`.
#[derive(Clone, Debug, Args)]
pub struct New {
    /// A new directory, or an empty one.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Make the finished driver, but with a mistake in it: which one, counted from 1.
    #[arg(long, value_name = "NUMBER")]
    pub bug: Option<usize>,
}

/// `lab grade`.
#[derive(Clone, Debug, Args)]
pub struct Grade {
    /// Kernel and mirror.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// The student's tree, as `lab new` makes it.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Only this lab.
    #[arg(long, value_name = "NUMBER")]
    pub lab: Option<usize>,
    /// Print what the checks said that did not pass.
    #[arg(long)]
    pub details: bool,
    /// Seconds that the checks of one task may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// Write points, checks and reasons to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write one test case a check to this file, as JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write what Gradescope reads as results.json to this file.
    #[arg(long, value_name = "FILE")]
    pub gradescope: Option<PathBuf>,
}
