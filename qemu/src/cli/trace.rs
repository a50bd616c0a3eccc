//! `lab trace` on the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{GuestArgs, KernelArgs};

/// What its help text ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  cargo lab trace private-first-write-copies-page
  cargo lab trace fault-nx-exec --device /dev/mmapdemo-fault --depth 3
  cargo lab trace --output trees.txt -- mmapdemo writer hello

docs/debugging.md explains what is shown.";

/// What it says of `--timeout`.
const TIMEOUT: &str =
    "Seconds that the traced program may take in the guest; if not given, any number";

/// `lab trace`.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("timeout", |arg| arg.help(TIMEOUT)))]
pub struct Trace {
    /// Kernel and mirror.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// How the guest runs.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// The claim whose experiment is traced, on each node if it is about the device.
    #[arg(
        value_name = "CLAIM",
        required_unless_present = "argv",
        conflicts_with = "argv"
    )]
    pub claim: Option<String>,
    /// Only on this node, such as /dev/mmapdemo-fault.
    #[arg(long, value_name = "NODE", conflicts_with = "argv")]
    pub device: Option<PathBuf>,
    /// Record all functions, noise as well: it takes a minute to begin, and the trees are long.
    #[arg(long)]
    pub all: bool,
    /// Which memory to look at; by default what the claim is about, and files and devices for a program.
    #[arg(long, value_enum)]
    pub memory: Option<Memory>,
    /// How many levels of each tree to show.
    #[arg(long, value_name = "LEVELS", value_parser = clap::value_parser!(u16).range(1..))]
    pub depth: Option<u16>,
    /// Print what the kernel's tracer wrote, as it is.
    #[arg(long, conflicts_with = "depth")]
    pub raw: bool,
    /// Write to this file instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Copy a file of the host into the guest's /root; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub copy: Vec<PathBuf>,
    /// A static program in the guest, and its arguments; its standard output goes to standard error.
    #[arg(last = true, value_name = "PROG")]
    pub argv: Vec<OsString>,
}

/// `--memory`, in the words of `mmapdemo trace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Memory {
    /// What is mapped from the driver.
    Device,
    /// What is mapped from files and devices.
    Files,
    /// What is mapped by mmap(2).
    Mapped,
    /// All of it: text, heap and stack as well.
    Any,
}

impl Memory {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Files => "files",
            Self::Mapped => "mapped",
            Self::Any => "any",
        }
    }
}
