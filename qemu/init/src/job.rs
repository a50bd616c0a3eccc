//! What the guest is asked to do, and what it says while doing it.
//!
//! The host writes an [`Order`] to [`ORDER_PATH`] of the initramfs; `init` answers with one [`Event`] per
//! line on the port [`CONTROL_PORT`], and listens there for [`Command`]s. All three are JSON.
//!
//! A guest whose initramfs has [`AWAIT_PATH`] is to be saved, and gets its order later: it says
//! [`Event::Awaiting`], and goes on in each machine that is restored, where the host says
//! [`Command::Wake`], perhaps [`Command::Rehearse`], then [`Command::Begin`] with the order.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Where `init` finds its [`Order`].
pub const ORDER_PATH: &str = "/lab/order.json";

/// The file that has `init` wait for its order, in a guest that is to be saved.
pub const AWAIT_PATH: &str = "/lab/await";

/// Where the initramfs keeps the module.
pub const MODULE_PATH: &str = "/root/mmapdemo.ko";

/// Events from the guest, commands from the host.
pub const CONTROL_PORT: &str = "lab.control";
/// Standard input of the one program that asked for it.
pub const STDIN_PORT: &str = "lab.stdin";
/// Standard output of the programs, each followed by the order's mark.
pub const STDOUT_PORT: &str = "lab.stdout";
/// Standard error of the programs, each followed by the order's mark.
pub const STDERR_PORT: &str = "lab.stderr";
/// Test results, written by programs that open it by its path.
pub const KTAP_PORT: &str = "lab.ktap";
/// Where `init` links the ports by name, as udev's rules do.
pub const PORTS_DIR: &str = "/dev/virtio-ports";
/// Where a program in the guest finds [`KTAP_PORT`].
pub const KTAP_PATH: &str = "/dev/virtio-ports/lab.ktap";
/// What a program finds in its environment that is started before its turn. Its standard input is a socket then: it says
/// a byte there when it is ready, and begins when it gets one.
pub const STANDBY: &str = "MMAPDEMO_STANDBY";
/// How `init` begins the line on the console that says what it failed at.
pub const INIT_FAILED: &str = "init: failed: ";
/// How much more memory may be in use after the module's life than before, in KiB: almost twice the 4.6 MiB that the
/// longest suite was seen to leave behind on a stock kernel.
pub const LEAK_KIB: u64 = 8 << 10;
/// The program that the actors of the experiments run, which find its path in `MMAPDEMO_ACTOR`.
pub const ACTOR: &str = "/bin/mmapdemo-actor";

/// A job, and what the host and `init` need beside it to do it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The job itself.
    pub job: Job,
    /// The name of the mark ([`crate::mark`]) that `init` writes behind each program's output, so that
    /// the host knows that nothing is missing. Different in every run.
    pub mark: String,
}

/// What the guest does between its start and its power-off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The module to load first and to unload last.
    pub module: Option<Module>,
    /// What to do in between.
    pub work: Work,
    /// What comes after the work.
    pub ending: Ending,
    /// Whether it waits, once the module is in, for a debugger.
    pub debugged: bool,
}

/// How a guest ends once its work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It unloads the module, writes back what belongs on its disks, and powers off.
    PowerOff,
    /// It does nothing any more, and the host cuts its power.
    PowerCut,
}

/// A kernel module in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// The `.ko` file.
    pub path: PathBuf,
    /// Its name in `/proc/modules`.
    pub name: String,
    /// Parameters, as on the command line of insmod(8).
    pub params: String,
}

impl Module {
    /// The driver at its usual place.
    #[must_use]
    pub fn mmapdemo(params: impl Into<String>) -> Self {
        Self {
            path: MODULE_PATH.into(),
            name: "mmapdemo".into(),
            params: params.into(),
        }
    }
}

/// A section of a module that is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Its name, such as `.text`.
    pub name: String,
    /// Where it is in the memory of the kernel.
    pub addr: u64,
}

/// The two things that a guest is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Runs programs one after another, whatever the status of the one before.
    Programs(Vec<Program>),
    /// Gives a person a shell.
    Shell(Shell),
}

/// A program to run in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The program, looked up in `PATH`, and its arguments.
    #[serde(with = "os_strings")]
    pub argv: Vec<OsString>,
    /// Variables to add to the environment, or to replace in it.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Whether it reads the host's standard input; `/dev/null` otherwise. At most one program may.
    pub stdin: bool,
    /// Whether its outputs are kept for the report rather than passed through.
    pub capture: bool,
    /// Whether it promises results on [`KTAP_PORT`].
    pub ktap: bool,
}

impl Program {
    /// A program that reads nothing, writes through, and promises no results.
    pub fn new<I, S>(argv: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: "/root".into(),
            stdin: false,
            capture: false,
            ktap: false,
        }
    }

    /// What people call it: its first argument.
    #[must_use]
    pub fn name(&self) -> String {
        self.argv
            .first()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }
}

/// The terminal that the shell runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shell {
    /// `TERM` of the host's terminal.
    pub term: String,
    /// Its size at the start.
    pub size: WindowSize,
}

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines of text.
    pub rows: u16,
    /// Characters per line.
    pub columns: u16,
}

/// What the host tells `init` while the guest runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// The machine was restored: its clock stands at the time when it was saved, and its random numbers
    /// are those of every other machine that is restored from the same file.
    Wake {
        /// The time now, since 1970.
        now: Duration,
        /// Bytes that nobody else has.
        seed: Vec<u8>,
    },
    /// Nobody waits yet: start this program, which may be the job's first, with [`STANDBY`] in its environment. One that
    /// is not ready when the next command comes is ended, and started again when its turn comes.
    Rehearse {
        /// The program.
        program: Program,
    },
    /// The order of a guest that was restored. An archive follows, in the format of an initramfs: what a guest that boots
    /// would have found there.
    Begin {
        /// The order.
        order: Order,
        /// The archive's length in bytes.
        len: usize,
    },
    /// The debugger is ready.
    Go,
    /// A program takes too long: what are the processes doing?
    Describe,
    /// The host's terminal has a new size.
    Resize(WindowSize),
    /// Everything arrived: power off.
    Bye,
}

/// What `init` says. After [`Event::Down`] and [`Event::AwaitsCut`] nothing follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The guest is set up, but for an order: it can be saved now.
    Awaiting {
        /// `/proc/sys/kernel/tainted`.
        taint: u64,
    },
    /// A guest that was restored has set its clock, and has random numbers of its own.
    Awake,
    /// The host has said no more, and the program that was to be started early is ready; or it has ended.
    Rehearsed {
        /// Whether it is ready.
        ready: bool,
    },
    /// The guest is set up; the job begins.
    Ready {
        /// `uname -r`.
        release: String,
        /// Milliseconds since the kernel's start.
        uptime_ms: u64,
        /// `/proc/sys/kernel/tainted`.
        taint: u64,
    },
    /// The module is in.
    ModuleLoaded,
    /// The job is to be debugged, and goes on when the host says [`Command::Go`].
    AwaitsDebugger {
        /// Where the kernel has put the module.
        sections: Vec<Section>,
    },
    /// The kernel did not take the module; no program runs.
    ModuleRefused(Refusal),
    /// A program runs; `program` counts from 0 in the order of the job.
    Started {
        /// Which one.
        program: usize,
    },
    /// A program could not be started.
    NotStarted {
        /// Which one.
        program: usize,
        /// What execve(2) said.
        refusal: Refusal,
    },
    /// A program called exit(2).
    Exited {
        /// Which one.
        program: usize,
        /// Its status, 0 to 255.
        code: i32,
    },
    /// A program was killed by a signal.
    Signaled {
        /// Which one.
        program: usize,
        /// The signal's number.
        signal: i32,
    },
    /// The answer to [`Command::Describe`].
    Described {
        /// A line for each process, with the functions of the kernel that it sleeps in.
        processes: Vec<String>,
    },
    /// Processes that a program left behind were killed.
    Leftovers {
        /// How many.
        count: usize,
    },
    /// Memory that is in use, although no counter of the kernel's knows by whom: before the module is
    /// loaded, and after it was unloaded.
    Unaccounted {
        /// In KiB.
        kib: u64,
    },
    /// The kernel has looked for memory that nothing points to any more, after the module's life; only where it
    /// can (`CONFIG_DEBUG_KMEMLEAK`).
    Scanned {
        /// How many objects it has found.
        unreferenced: usize,
        /// What it says of the first of them.
        report: String,
    },
    /// The module is out again.
    ModuleUnloaded,
    /// The kernel kept the module.
    UnloadRefused(Refusal),
    /// A program of the job unloaded the module itself.
    ModuleGone,
    /// All programs have ended, and nothing more will happen until the power is cut.
    AwaitsCut {
        /// `/proc/sys/kernel/tainted`.
        taint: u64,
    },
    /// `init` could not do its work; the guest ends without doing the rest.
    Failed {
        /// What it tried, and why that failed.
        why: String,
    },
    /// The last word before power-off.
    Down {
        /// `/proc/sys/kernel/tainted`.
        taint: u64,
    },
}

impl Event {
    /// The program whose end this is.
    #[must_use]
    pub fn ended_program(&self) -> Option<usize> {
        match self {
            Self::Exited { program, .. }
            | Self::Signaled { program, .. }
            | Self::NotStarted { program, .. } => Some(*program),
            _ => None,
        }
    }
}

/// A call that the guest's kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The number, for programs.
    pub errno: i32,
    /// Its name and meaning, for people.
    pub text: String,
}

impl Refusal {
    /// Whether the kernel found nothing there (`ENOENT`).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.errno == Errno::ENOENT as i32
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self {
            errno: error.raw_os_error().unwrap_or_default(),
            text: error.to_string(),
        }
    }
}

/// Arguments need not be UTF-8, JSON strings must be: they travel as bytes where that is so.
mod os_strings {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Argument {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(args: &[OsString], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(args.iter().map(|arg| match arg.to_str() {
            Some(text) => Argument::Text(text.to_owned()),
            None => Argument::Bytes(arg.as_bytes().to_vec()),
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<OsString>, D::Error> {
        let args = Vec::<Argument>::deserialize(from)?;
        Ok(args
            .into_iter()
            .map(|arg| match arg {
                Argument::Text(text) => text.into(),
                Argument::Bytes(bytes) => OsString::from_vec(bytes),
            })
            .collect())
    }
}
