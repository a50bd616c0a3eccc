//! The command line of `lab`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::accel::Wish;
use crate::boot::{self, Boot};
use crate::machine::Accel;

pub mod course;
pub mod debug;
mod kernel;
pub mod manual;
mod run;
pub mod trace;
pub mod warm;

pub use kernel::{Kernel, KernelArgs, Kernels};
pub use run::Run;

/// What every help text ends with.
const EXIT_STATUSES: &str = "\
Exit statuses:
  0    every result was as expected
  1    the lab worked, and some result was not as expected (or a source does not compile)
  2    wrong usage
  3    the host lacks something; the message has the command that brings it
  4    nothing ran: all was skipped, or the kernel is not to be had
  10 to 36  the run came to a bad end, each with its own number: see docs/outcomes.md
  70   the lab broke: nothing is said about any claim
  130  interrupted
  `lab exec` passes the status of the guest's program through (death by signal included) and has 125
  for everything that the lab itself failed at.

Files:
  ~/.cache/mmapdemo    toolchain, kernels, package lists (MMAPDEMO_CACHE or XDG_CACHE_HOME move it)
  target/              build products of this clone";

/// Boots a stock Debian kernel in QEMU, loads the Rust driver built from this clone into it, and finds out
/// what is true of mmap.
///
/// The stages are prepare, build and run; each does first what the ones before it have not done yet.
#[derive(Debug, Parser)]
#[command(name = "lab", version, after_help = EXIT_STATUSES)]
pub struct Cli {
    /// Say nothing but results and errors.
    #[arg(long, short, global = true)]
    pub quiet: bool,

    /// Show each command of the host's before it is run.
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    pub verbose: bool,

    /// At the end, print how long each stage took.
    #[arg(long, global = true)]
    pub timings: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// From nothing to the report: install what the host lacks, prepare, build, boot, judge every claim.
    Demo(Demo),
    /// Say what is there, what is missing or does not match, and how to mend it.
    Doctor(KernelArgs),
    /// Fetch the toolchain and the kernel, and compile the kernel's rust/ crates.
    Prepare(Prepare),
    /// Build the module and the programs of the guest.
    Build(KernelArgs),
    /// Boot, load the module, run the experiments and print the report.
    #[command(after_help = RUN_BOOTS)]
    Run(Run),
    /// After each change of the driver or the experiments, build, restore a booted machine, run and report.
    #[command(after_help = warm::WATCH_NOTES)]
    Watch(warm::Watch),
    /// Write everything that is found about the claims into one HTML page: verdicts, evidence, costs, with search.
    Report(Report),
    /// Show what mmap does step by step: processes, page tables, frames of memory, as they were in a real run.
    #[command(after_help = SHOW_KEYS)]
    Show(Show),
    /// Run a static program in the guest, with the module loaded; its output and status come through.
    #[command(after_help = EXEC_EXAMPLES)]
    Exec(Exec),
    /// Show which functions of the kernel and of the driver an experiment or a program goes through.
    #[command(after_help = trace::EXAMPLES)]
    Trace(trace::Trace),
    /// Attach gdb to the guest, with the symbols of its kernel and all that is to be known of the driver.
    #[command(after_help = debug::NOTES)]
    Debug(debug::Debug),
    /// Give an interactive shell in the guest: busybox, the module, the mmapdemo program.
    Shell(Shell),
    /// Write driver/rust-project.json, by which rust-analyzer, in your editor, understands driver/.
    Editor(KernelArgs),
    /// Check the driver's sources: CLIPPY=1 and rustdoc with warnings denied, and rustfmt.
    Check(Check),
    /// Run the tests that need the guest.
    Test(Test),
    /// Use the driver in random and hostile ways, and find that it keeps its promises.
    #[command(after_help = STRESS_EXAMPLES)]
    Stress(Stress),
    /// Measure warm starts: from an edit of the driver to a verdict, and from a restore to insmod.
    Bench(warm::Bench),
    /// Try the tests of the driver, and the claims about it, on drivers that are wrong, and say who noticed.
    #[command(after_help = MUTANTS)]
    Mutants(Mutants),
    /// Print what makes a shell complete the lab's command line.
    #[command(after_help = manual::COMPLETIONS)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write it and those of all subcommands.
    #[command(after_help = manual::MAN)]
    Man {
        /// Write them there, one file each, instead.
        #[arg(value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Make the tree that a student starts from: an unfinished driver, or one with a mistake in it.
    New(course::New),
    /// Say what a student's driver and answers are worth, and why.
    #[command(after_help = course::GRADE_NOTES)]
    Grade(course::Grade),
    /// Remove from the cache what this clone does not refer to and no run uses.
    Clean,
}

const SHOW_KEYS: &str = "\
On a terminal:
  space, right, enter    the next step        n, p    the next scenario, the one before
  left, backspace        the step before      q       an end
  down, up               what does not fit    g, G    the first step, the last
Elsewhere all steps are printed one after the other. Colours: not if NO_COLOR is set.

Examples:
  cargo lab show many-frames                           a private mapping, store by store
  cargo lab show --html mmap.html                      all scenarios as one page for a browser or paper
  cargo lab show --json run.json && cargo lab show --from run.json not-a-snapshot

All is drawn from what was recorded in the guest. Exit status 1: something that a step is to show was not seen in
this run.";

const RUN_BOOTS: &str = "\
Most claims are judged in one boot. Some take another machine, which is booted before, and only if such
claims are asked for: one whose power is cut, one with little memory, one whose clock counts instructions
(by TCG, whatever --accel says). A boot that fails, fails the run. The kernels' logs are in target/lab.";

const MUTANTS: &str = "\
Prints the table of docs/mutants.md. The status is 0 if each mutant was noticed, and 1 if one was not, or if no
boot of it has said anything about the driver. As many guests run at once as there are processors. --write keeps
what is known after each mutant: name the others to go on.";

const EXEC_EXAMPLES: &str = "\
Examples:
  cargo lab exec -- mmapdemo explain private-is-snapshot
  cargo lab exec -- sh -c 'hexdump -C /dev/mmapdemo | head -3'
  cargo lab exec --copy ./my-test -- /root/my-test --verbose    (a static program of your own)
  cargo lab exec --tools -- sh -c 'strace -e trace=mmap cat /dev/mmapdemo'

The program runs as root in /root. What --copy names is there; so is mmapdemo.ko. Its death by signal is
passed on as such: a shell shows 128 + the signal's number. 125 is the lab's own failure, and 2 wrong
usage of the lab itself; --status FILE
tells the two apart without doubt: it gets `exited N`, `signaled N` or `lab failed`.";

const STRESS_EXAMPLES: &str = "\
Processes open, map, touch, fork, remap, advise, protect, pin, read, write, ask and try to unload the module,
with arguments that are right or not, and in every fourth round the module comes and goes under them. All is
drawn from the seed, which is printed first. What a call answers is compared with docs/driver.md, and what
nobody else writes with what was written. The usual checks of a run come on top: the kernel's log, its taint,
its memory.

Examples:
  cargo lab stress --seconds 600
  cargo lab stress --seed 1234 --round 7            (one round of a run again, to its end)
  cargo lab stress --seed 1234 --round 7 --only 2   (and one worker of it, alone)

The same seed draws the same operations; in which order those of several processes meet is up to the kernel.";

/// How the guest runs.
#[derive(Clone, Debug, Args)]
pub struct GuestArgs {
    /// What executes the guest's instructions; `auto` takes KVM where it works and is fast.
    #[arg(long, default_value = "auto")]
    pub accel: AccelChoice,

    /// A parameter for the module, such as `pages=4`; may be repeated.
    #[arg(long = "insmod-arg", value_name = "NAME=VALUE")]
    pub insmod_args: Vec<String>,

    /// Seconds that a program may take in the guest, and in each boot that comes before it; if not given, 600,
    /// and in those 120 or 180.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: Option<u64>,
}

impl GuestArgs {
    /// [`Self::timeout`] as a duration.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }
}

/// What a guest gets only if it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct Extras {
    /// Attach an empty disk, a new one each time: 64 MiB, ext4, not mounted; the guest finds it by the
    /// serial number `lab-scratch` in /sys/block/*/device/serial.
    #[arg(long)]
    pub disk: bool,
    /// Add Debian's pmap and strace to the guest, with the libraries that they are linked to.
    #[arg(long)]
    pub tools: bool,
}

/// Which machine a single guest is.
#[derive(Clone, Debug, Args)]
pub struct Furnishing {
    /// What it has beside the usual.
    #[command(flatten)]
    pub extras: Extras,
    /// The kind of the boot, instead of the usual one: `power-cut`, `small-memory` or `counting`, as
    /// claims take them. The first two have a disk.
    #[arg(long, value_name = "KIND", value_parser = boot::find)]
    pub boot: Option<&'static Boot>,
}

impl Furnishing {
    /// What of the kit it takes.
    #[must_use]
    pub fn of_the_kit(&self) -> Extras {
        let disk = self.boot.is_some_and(|boot| boot.disk.is_some());
        Extras {
            disk: self.extras.disk || disk,
            ..self.extras
        }
    }
}

/// `--accel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccelChoice {
    /// KVM where it works and is fast, TCG elsewhere.
    Auto,
    /// QEMU's own translator: works everywhere.
    Tcg,
    /// The host's processor.
    Kvm,
}

impl From<AccelChoice> for Wish {
    fn from(choice: AccelChoice) -> Self {
        match choice {
            AccelChoice::Auto => Self::Auto,
            AccelChoice::Tcg => Self::Only(Accel::Tcg),
            AccelChoice::Kvm => Self::Only(Accel::Kvm),
        }
    }
}

/// `lab demo`.
#[derive(Clone, Debug, Args)]
pub struct Demo {
    /// Kernel and mirror.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// How the guest runs.
    #[command(flatten)]
    pub guest: GuestArgs,
}

/// `lab prepare`.
#[derive(Clone, Debug, Args)]
pub struct Prepare {
    /// Kernel and mirror.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Ask the archive for newer packages, even if what an earlier run found is there.
    #[arg(long)]
    pub update: bool,
}

/// `lab report`.
#[derive(Clone, Debug, Args)]
pub struct Report {
    /// Kernel and mirror.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// How the guest runs.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// The claims to judge; all of them, if none is named.
    #[arg(value_name = "CLAIM", conflicts_with = "from")]
    pub claims: Vec<String>,
    /// What `lab run --json` wrote before; otherwise the claims are judged now.
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// The page.
    #[arg(long, value_name = "FILE", default_value = "mmap-report.html")]
    pub html: PathBuf,
}

/// `lab show`.
#[derive(Clone, Debug, Args)]
pub struct Show {
    /// Kernel and mirror.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// How the guest runs.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// The scenarios; all of them, if none is named.
    #[arg(value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// Name the scenarios.
    #[arg(long)]
    pub list: bool,
    /// Draw what was recorded before, without a guest.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "json"])]
    pub from: Option<PathBuf>,
    /// Write one HTML document to this file, instead of showing anything here.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write what was recorded to this file, for `--from` and other programs (docs/results.md).
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `lab exec`.
#[derive(Clone, Debug, Args)]
pub struct Exec {
    /// Kernel and mirror.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// How the guest runs.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// Which machine it is.
    #[command(flatten)]
    pub furnishing: Furnishing,
    /// Copy a file of the host into the guest's /root; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub copy: Vec<PathBuf>,
    /// Restore a machine that was saved after its boot, instead of booting; of the driver, only what has changed is
    /// compiled.
    #[arg(long)]
    pub warm: bool,
    /// Write how the program ended to this file: `exited N`, `signaled N` or `lab failed`.
    #[arg(long, value_name = "FILE")]
    pub status: Option<PathBuf>,
    /// The program, and its arguments.
    #[arg(last = true, required = true, value_name = "PROG")]
    pub argv: Vec<std::ffi::OsString>,
}

/// `lab shell`.
#[derive(Clone, Debug, Args)]
pub struct Shell {
    /// Kernel and mirror.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// What executes the guest's instructions.
    #[arg(long, default_value = "auto")]
    pub accel: AccelChoice,
    /// Which machine it is.
    #[command(flatten)]
    pub furnishing: Furnishing,
    /// Copy a file of the host into the guest's /root; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub copy: Vec<PathBuf>,
    /// A parameter for the module, such as `pages=4`; may be repeated.
    #[arg(long = "insmod-arg", value_name = "NAME=VALUE")]
    pub insmod_args: Vec<String>,
    /// Restore a machine that was saved after its boot, instead of booting; of the driver, only what has changed is
    /// compiled.
    #[arg(long)]
    pub warm: bool,
}

/// `lab check`.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// Kernels and mirror.
    #[command(flatten)]
    pub kernels: Kernels,
}

/// `lab test`.
#[derive(Clone, Debug, Args)]
pub struct Test {
    /// Kernels and mirror.
    #[command(flatten)]
    pub kernels: Kernels,
    /// What executes the guest's instructions.
    #[arg(long, default_value = "auto")]
    pub accel: AccelChoice,
}

/// `lab stress`.
#[derive(Clone, Debug, Args)]
pub struct Stress {
    /// Kernel and mirror.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// What executes the guest's instructions.
    #[arg(long, default_value = "auto")]
    pub accel: AccelChoice,
    /// How long new rounds are begun.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// What everything is drawn from; another one each time, if it is not given.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// How many processes there are, not counting their children.
    #[arg(long, value_name = "NUMBER", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..=32))]
    pub workers: u16,
    /// Do this round alone, to its end.
    #[arg(long, value_name = "NUMBER")]
    pub round: Option<u64>,
    /// Have only this worker do its part.
    #[arg(long, value_name = "NUMBER")]
    pub only: Option<usize>,
    /// Then have Debian's stress-ng(1) do to each node what it does to devices (--dev-file), for so long.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub stress_ng: Option<u64>,
}

/// `lab mutants`.
#[derive(Clone, Debug, Args)]
pub struct Mutants {
    /// Kernel and mirror.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Write what is found to docs/mutants.md, too; what it has of mutants that are not named, stays there.
    #[arg(long)]
    pub write: bool,
    /// Ask some of those first who have noticed, according to docs/mutants.md (four tests and four claims at most), and all
    /// only of a mutant that these do not notice.
    #[arg(long, conflicts_with = "write")]
    pub recorded: bool,
    /// The mutants, by name or number; all in driver/mutants, if none is named.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
