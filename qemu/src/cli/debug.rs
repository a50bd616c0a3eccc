//! `lab debug` on the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{GuestArgs, KernelArgs};

/// What its help text ends with.
pub(super) const NOTES: &str = "\
Without a CLAIM and --sh, the guest gives its shell in this terminal, and the lab says what to type in another one
to attach gdb. With one of them, gdb is here; the guest waits with its work until gdb has attached, and goes on at
`continue`. Before that, the module is loaded: set breakpoints. Ctrl-C stops the guest, `quit` lets it go on alone.

gdb knows the functions of the kernel by name, and finds callers, but has no types or lines of them: Debian's
kernel is booted without its debug information. Of the driver it has all; the optimiser may have left no trace of a
variable. While gdb holds the guest, no time passes for it, nor for the lab's deadlines.

Examples:
  cargo lab debug private-is-snapshot
      (gdb) break driver/device.rs:81
      (gdb) continue
      (gdb) backtrace
  cargo lab debug --sh 'mmapdemo writer hello' -- -batch -ex 'break vm_insert_page' -ex continue -ex backtrace
  cargo lab debug --print fault-nx-exec       (for the debugger of an editor)

Exit status: 0; 1 if gdb or the guest's program ended with another; otherwise as the run ended (docs/outcomes.md).";

/// What it says of `--timeout`.
const TIMEOUT: &str = "Seconds that the work may take in the guest, without those for which gdb holds it; if not given, any number";

/// `lab debug`.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("timeout", |arg| arg.help(TIMEOUT)))]
pub struct Debug {
    /// Kernel and mirror.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// How the guest runs.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// The claim whose experiment the guest does.
    #[arg(value_name = "CLAIM")]
    pub claim: Option<String>,
    /// What the guest does instead, as commands of its shell.
    #[arg(long, value_name = "COMMANDS", conflicts_with = "claim")]
    pub sh: Option<String>,
    /// Copy a file of the host into the guest's /root; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub copy: Vec<PathBuf>,
    /// Your own gdb, or a program around it that takes its options, instead of Debian's from the cache.
    #[arg(long, value_name = "PROG")]
    pub gdb: Option<PathBuf>,
    /// Start no gdb: print the commands that attach one, and wait for that.
    #[arg(long, conflicts_with_all = ["gdb", "gdb_args"])]
    pub print: bool,
    /// Arguments for gdb.
    #[arg(last = true, value_name = "GDB-ARGS")]
    pub gdb_args: Vec<OsString>,
}
