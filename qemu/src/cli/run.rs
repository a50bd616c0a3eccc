//! `lab run` on the command line.

use std::path::PathBuf;

use clap::Args;

use super::{GuestArgs, KernelArgs};

/// `lab run`.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Kernel and mirror.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// How the guest runs.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// The claims to judge; all of them, if none is named. `cargo lab exec -- mmapdemo list` names them.
    #[arg(value_name = "CLAIM")]
    pub claims: Vec<String>,
    /// Say of every claim what was said, seen and concluded, as is done where claims are named.
    #[arg(long)]
    pub details: bool,
    /// Restore a machine that was saved after its boot, instead of booting; of the driver, only what has changed is
    /// compiled. Of all claims, those that take a disk or an earlier boot are skipped then.
    #[arg(long)]
    pub warm: bool,
    /// Fail if a claim is skipped, unless it is one of these.
    #[arg(long, value_name = "none|CLAIM,...", value_delimiter = ',')]
    pub may_skip: Option<Vec<String>>,
    /// Write everything that was found to this file, as JSON (docs/results.md).
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write one test case a claim and node to this file, as JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

impl Run {
    /// All claims, judged in a guest that boots, and no report but the one on standard output.
    #[must_use]
    pub fn all(kernel: KernelArgs, guest: GuestArgs) -> Self {
        Self {
            kernel,
            guest,
            claims: Vec::new(),
            details: false,
            warm: false,
            may_skip: None,
            json: None,
            junit: None,
        }
    }
}
