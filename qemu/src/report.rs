//! What a run leaves behind.

use std::fmt::{self, Write as _};

use crate::console;
use crate::job::{Event, Program, Refusal};
use crate::outcome::Outcome;
use crate::phase::Timing;

/// How much of the kernel's log an explanation shows.
const TAIL_LINES: usize = 25;

/// Everything that is known of a run that began.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// What `init` said.
    pub events: Vec<Event>,
    /// What became of each program of the job.
    pub programs: Vec<ProgramReport>,
    /// The kernel's log.
    pub console: String,
    /// The test results, as they came.
    pub ktap: String,
    /// What QEMU complained about.
    pub qemu_stderr: String,
    /// How long each phase took.
    pub timings: Vec<Timing>,
}

/// What became of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramReport {
    /// What people call it.
    pub name: String,
    /// How it ended; nothing if the guest ended first.
    pub status: Option<ProgramStatus>,
    /// Its standard output, if that was to be captured.
    pub stdout: Vec<u8>,
    /// Its standard error, if that was to be captured.
    pub stderr: Vec<u8>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramStatus {
    /// By exit(2), with a status of 0 to 255.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// It never began.
    NotStarted(Refusal),
}

impl ProgramStatus {
    /// Whether a program of Rust's test harness ends like this: all tests passed, or some failed (101).
    #[must_use]
    pub fn is_of_libtest(&self) -> bool {
        matches!(self, Self::Exited(0 | 101))
    }
}

impl fmt::Display for ProgramStatus {
    /// In words that follow the program's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::Signaled(signal) => write!(f, "was killed by signal {signal}"),
            Self::NotStarted(refusal) => write!(f, "could not be started: {refusal}"),
        }
    }
}

impl ProgramStatus {
    /// What `init` said of the program with this index, if anything.
    #[must_use]
    pub fn find(events: &[Event], index: usize) -> Option<Self> {
        events.iter().find_map(|event| match event {
            Event::Exited { program, code } if *program == index => Some(Self::Exited(*code)),
            Event::Signaled { program, signal } if *program == index => {
                Some(Self::Signaled(*signal))
            }
            Event::NotStarted { program, refusal } if *program == index => {
                Some(Self::NotStarted(refusal.clone()))
            }
            _ => None,
        })
    }
}

impl ProgramReport {
    /// The report of the program with this index.
    #[must_use]
    pub fn new(
        program: &Program,
        index: usize,
        events: &[Event],
        stdout: Vec<u8>,
        stderr: Vec<u8>,
    ) -> Self {
        Self {
            name: program.name(),
            status: ProgramStatus::find(events, index),
            stdout,
            stderr,
        }
    }
}

fn processes(event: &Event) -> impl Iterator<Item = &str> {
    let lines = match event {
        Event::Described { processes } => processes.as_slice(),
        _ => &[],
    };
    lines.iter().map(String::as_str)
}

impl Report {
    /// What led to the outcome, for people who want to know why: the end of the kernel's log, QEMU's own words, and what
    /// the processes were doing if one took too long. The outcome itself is to come below it, where a terminal shows it.
    #[must_use]
    pub fn last_words(&self) -> String {
        let processes: Vec<&str> = self.events.iter().flat_map(processes).collect();
        let mut text = String::new();
        for (title, source) in [
            ("the kernel's last words", &self.console),
            ("QEMU's last words", &self.qemu_stderr),
            ("the guest's processes", &processes.join("\n")),
        ] {
            if !source.trim().is_empty() {
                let tail = console::tail(source.trim_end(), TAIL_LINES).replace('\n', "\n  | ");
                let _ = write!(text, "{title}:\n  | {tail}\n");
            }
        }
        text
    }
}
