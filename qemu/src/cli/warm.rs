//! `lab watch` and `lab bench` on the command line: what restores machines.

use clap::Args;

use super::{GuestArgs, KernelArgs};

/// What the help of `lab watch` ends with.
pub(super) const WATCH_NOTES: &str = "\
A machine that has booted is saved once, in the cache, and restored for each run; it then gets the module
that was just built. As long as it waits for that, it rehearses the claims that are named. What it is saved for is in
the name of the saved one: kernel, QEMU, init, this boot of the host. Where nothing can be restored, the
guest boots, and the reason is said. Of the driver is compiled what has changed. Ctrl-C ends.";

/// `lab watch`.
#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// Kernel and mirror.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// How the guest runs.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// The claims to judge after each change; all that a warm start can do, if none is named.
    #[arg(value_name = "CLAIM")]
    pub claims: Vec<String>,
    /// Say of every claim what was said, seen and concluded, as is done where claims are named.
    #[arg(long)]
    pub details: bool,
}

/// `lab bench`.
#[derive(Clone, Debug, Args)]
pub struct Bench {
    /// Kernel and mirror.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// How often the driver is edited.
    #[arg(long, default_value_t = 10)]
    pub edits: usize,
    /// How often a machine is restored.
    #[arg(long, default_value_t = 100)]
    pub restores: usize,
}
