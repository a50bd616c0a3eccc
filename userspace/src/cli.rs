//! The command line: types only.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::boot::Boot;
use crate::calls::Memory;
use crate::claim::{Expected, Object};
use crate::device::DEFAULT_NODES;
use crate::need::Need;
use crate::report::style::When;

/// Finds out by experiment which claims about mmap are true.
///
/// Documents claim things about mmap: that a store is seen by every process that maps the same file, that a
/// private mapping is a copy, that a bad pointer raises SIGBUS. Each claim here has an experiment that tries it on
/// the kernel this program runs on. The evidence decides: the claim holds, holds with a qualification, or is false.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Claims to use instead of the built-in ones: a file, or a directory of such as `userspace/claims`.
    #[arg(long, global = true, value_name = "PATH")]
    pub claims: Option<PathBuf>,
    /// The device nodes under test; `writer` and `reader` use the first.
    #[arg(long, global = true, value_name = "NODE", default_values = DEFAULT_NODES)]
    pub device: Vec<PathBuf>,
    /// Whether to colour the output.
    #[arg(long, global = true, value_enum, default_value_t = When::Auto, value_name = "WHEN")]
    pub color: When,
}

const AFTER_HELP: &str = "\
Start with:
  mmapdemo run                                     every claim, the false ones first
  mmapdemo list --verdict false                    what not to believe
  mmapdemo explain private-is-snapshot             one claim: what was done, seen and concluded
  mmapdemo reader                                  in one terminal, then in another:
  mmapdemo writer 'hello'                          two unrelated processes, one page
  mmapdemo example print --as-written              a program of the documents, and where it fails

Exit status:
  0   every verdict is as expected (a claim known to be false was refuted)
  1   some verdict is not as expected; nobody wrote or read in time
  2   wrong usage, or a claims file that cannot be trusted
  4   nothing could be run here: everything was skipped
  70  the lab itself broke";

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put claims to the test and report the verdicts.
    Run(Run),
    /// List the claims.
    List(List),
    /// Put one claim to the test and say everything about it.
    Explain {
        /// The claim.
        claim: String,
    },
    /// Say what these claims need, one thing a line.
    Requirements {
        /// The claims; all if none is given.
        #[arg(value_name = "CLAIM")]
        ids: Vec<String>,
    },
    /// Run experiments and print what they see as JSON, a line each, for a later `run --recorded`.
    Observe(Observe),
    /// Play scenarios, and print as JSON what was there after each step, for `lab show` to draw.
    Scenario(Scenario),
    /// Write a text into a shared page for a reader in another process.
    Writer(Writer),
    /// Wait for a writer's text in a shared page and print it.
    Reader(Reader),
    /// Run a program of the documents, done right or as it was written.
    Example(Example),
    /// Use the device in random and hostile ways, and find that it keeps its promises.
    Stress(Stress),
    /// Show which functions of the kernel and of the driver an experiment or a program goes through.
    Trace(Trace),
    /// Print what makes a shell complete this command line.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// Put claims to the test and report the verdicts.
///
/// With `MMAPDEMO_STANDBY` in the environment, the experiments about the device are done on a file in memory first;
/// then a byte is written to standard input, which has to be a socket, and the claims are put to the test when one can be
/// read there. An emulator keeps the code that it has translated, and processes that were started stay.
#[derive(Debug, Args)]
pub struct Run {
    /// The claims; all if none is given.
    #[arg(value_name = "CLAIM")]
    pub ids: Vec<String>,
    /// Write one KTAP line a claim to this file or character device, as soon as it is judged.
    #[arg(long, value_name = "FILE")]
    pub ktap: Option<PathBuf>,
    /// Write everything that was found to this file or character device, as JSON (docs/results.md).
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write one test case a claim and node to this file or character device, as JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// What `observe` saw in earlier boots.
    #[arg(long, value_name = "FILE")]
    pub recorded: Option<PathBuf>,
    /// Say of every claim what was said, seen and concluded, as is done where claims are named.
    #[arg(long)]
    pub details: bool,
}

/// Run experiments and print what they see.
#[derive(Debug, Args)]
pub struct Observe {
    /// The claims whose experiments are run; all if none is given.
    #[arg(value_name = "CLAIM")]
    pub ids: Vec<String>,
    /// The boot that this is: only experiments that are to look in it are run.
    #[arg(long, value_enum, default_value_t = Boot::Main)]
    pub boot: Boot,
}

/// Play scenarios, and print what was there after each step.
#[derive(Debug, Args)]
pub struct Scenario {
    /// The scenarios; all if none is given.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Write the recording to this file or character device (docs/results.md), not to standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The boot that this is: only what is to be done in it is done.
    #[arg(long, value_enum, default_value_t = Boot::Main)]
    pub boot: Boot,
    /// What was recorded in earlier boots, one recording after the other.
    #[arg(long, value_name = "FILE")]
    pub recorded: Vec<PathBuf>,
    /// List the scenarios.
    #[arg(long)]
    pub list: bool,
    /// Say what they need, one thing a line.
    #[arg(long, conflicts_with = "list")]
    pub requirements: bool,
}

/// List the claims.
#[derive(Debug, Args)]
pub struct List {
    /// Only those with this expected verdict.
    #[arg(long, value_enum)]
    pub verdict: Option<ListedVerdict>,
    /// Only those of this group, for example `private`.
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Only those about this.
    #[arg(long, value_enum)]
    pub object: Option<ListedObject>,
    /// Only those made by this document, for example 001.
    #[arg(long, value_name = "NUMBER")]
    pub document: Option<String>,
    /// Only those that need nothing beside these, separated by commas, for example device,pagemap.
    #[arg(long, value_enum, value_name = "NEED,...", value_delimiter = ',')]
    pub needs_only: Option<Vec<Need>>,
    /// For programs: the names of the claims and nothing else, one a line.
    #[arg(long)]
    pub ids: bool,
}

/// A verdict as a word on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ListedVerdict {
    /// True as it stands.
    Holds,
    /// True with a condition that the claim leaves out.
    Qualified,
    /// Not true.
    False,
}

/// An object as a word on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ListedObject {
    /// The device's buffer.
    Device,
    /// A file in the page cache.
    File,
    /// Memory that belongs to no file.
    Anonymous,
    /// A file on a disk.
    Disk,
    /// `/dev/zero`.
    DevZero,
    /// Memory with a name or a descriptor.
    SharedMemory,
    /// A process, or the kernel's view of one.
    Process,
    /// The whole system's limits and settings.
    System,
    /// A program that is not ours.
    Software,
}

/// Write a text into a shared page for a reader in another process.
#[derive(Debug, Args)]
pub struct Writer {
    /// The text.
    pub text: String,
    /// Wait until a reader has taken it.
    #[arg(long)]
    pub wait: bool,
    /// What is shared with the reader.
    #[command(flatten)]
    pub page: SharedPage,
}

/// Wait for a writer's text in a shared page and print it.
#[derive(Debug, Args)]
pub struct Reader {
    /// What is shared with the writer.
    #[command(flatten)]
    pub page: SharedPage,
}

/// The page that a writer and a reader share.
#[derive(Debug, Args)]
pub struct SharedPage {
    /// A file of at least one page instead of the device.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How long to wait for the other side, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub timeout: Duration,
}

/// Run a program of the documents, done right or as it was written.
///
/// It says what it did, what was seen, and why; the status is 1 if what it is to show was not seen.
#[derive(Debug, Args)]
pub struct Example {
    /// The program.
    #[arg(value_parser = PossibleValuesParser::new(crate::example::names()))]
    pub name: String,
    /// Make the mistakes of the original, and watch where they lead.
    #[arg(long)]
    pub as_written: bool,
}

/// Use the device in random and hostile ways, and find that it keeps its promises.
///
/// For the lab's guest, as root: it unloads the module and loads it again. Processes open, map, touch, fork,
/// remap, advise, protect, pin, read, write and ask, with arguments that are drawn from the seed, right or not;
/// what the kernel answers has to be what docs/driver.md allows. The same seed draws the same operations; in
/// which order those of different processes meet is up to the kernel.
#[derive(Debug, Args)]
pub struct Stress {
    /// What everything is drawn from; another one each time, if it is not given.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// How long new rounds are begun.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub seconds: Duration,
    /// How many processes there are, not counting their children.
    #[arg(long, value_name = "NUMBER", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..=MAX_WORKERS))]
    pub workers: u16,
    /// Do this round alone, to its end.
    #[arg(long, value_name = "NUMBER")]
    pub round: Option<u64>,
    /// Have only this worker do its part.
    #[arg(long, value_name = "NUMBER")]
    pub only: Option<usize>,
    /// Write a KTAP line for each kind of operation to this file or character device.
    #[arg(long, value_name = "FILE")]
    pub ktap: Option<PathBuf>,
}

/// As many as there are lanes for.
const MAX_WORKERS: i64 = 32;

/// Show which functions of the kernel and of the driver an experiment or a program goes through.
///
/// Of the kernel, the functions of memory management are recorded and the others left out, such as those for locking,
/// RCU and accounting: `--all` shows everything. Times are not shown, as a tracer and an emulator falsify them. It takes
/// root, and the `function_graph` tracer.
#[derive(Debug, Args)]
pub struct Trace {
    /// The claim whose experiment it is, on each node if it is about the device.
    #[arg(
        value_name = "CLAIM",
        required_unless_present = "argv",
        conflicts_with = "argv"
    )]
    pub claim: Option<String>,
    /// Record all functions: it takes a minute to begin, and the trees are long.
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
    /// A program and its arguments; its standard output goes to standard error.
    #[arg(last = true, value_name = "PROG")]
    pub argv: Vec<OsString>,
}

/// A day: longer than anybody waits, and short enough to be added to any `Instant`.
const LONGEST: f64 = 86_400.0;

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if !(0.0..=LONGEST).contains(&seconds) {
        return Err(format!("must be between 0 and {LONGEST}"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl From<ListedVerdict> for Expected {
    fn from(verdict: ListedVerdict) -> Self {
        match verdict {
            ListedVerdict::Holds => Self::Holds,
            ListedVerdict::Qualified => Self::HoldsWithQualification,
            ListedVerdict::False => Self::False,
        }
    }
}

impl From<ListedObject> for Object {
    fn from(object: ListedObject) -> Self {
        match object {
            ListedObject::Device => Self::Device,
            ListedObject::File => Self::File,
            ListedObject::Anonymous => Self::Anonymous,
            ListedObject::Disk => Self::Disk,
            ListedObject::DevZero => Self::DevZero,
            ListedObject::SharedMemory => Self::SharedMemory,
            ListedObject::Process => Self::Process,
            ListedObject::System => Self::System,
            ListedObject::Software => Self::Software,
        }
    }
}
