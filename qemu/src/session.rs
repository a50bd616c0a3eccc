//! One run of the guest: boots it, watches it, and reports.

mod attendance;
mod awaited;
mod front;
mod heard;
mod listener;
mod resting;
mod save;
mod watch;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::console::Allowance;
use crate::debugger::Debugger;
use crate::initramfs::{self, GuestFile};
use crate::job::{Job, ORDER_PATH, Order, Work};
use crate::machine::Machine;
use crate::mark;
use crate::outcome::{Observed, judge};
use crate::output::Sink;
use crate::phase::Deadlines;
use crate::progress::Waiting;
use crate::report::{ProgramReport, Report};
use crate::vm::Vm;
use attendance::Attendance;
use listener::Listener;
pub use resting::{Refused, Resting, resume};
pub use save::save;
use watch::{Seen, Watch};

/// What runs in the machine.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The archives that it has in common with others, the base first.
    pub archives: Vec<PathBuf>,
    /// What this one has beside it: the module, copied files.
    pub files: Vec<GuestFile>,
    /// What it does.
    pub job: Job,
    /// Complaints of its kernel's that are no failure.
    pub allowed: Vec<Allowance>,
}

/// Where the guest's standard streams lead. For a shell, `stdin` and `stdout` are its terminal.
pub struct Streams {
    /// What the program that asked for it reads; nothing if `None`.
    pub stdin: Option<OwnedFd>,
    /// Where standard output goes.
    pub stdout: Sink,
    /// Where standard error goes.
    pub stderr: Sink,
    /// What shows what the guest is awaited for, until a program in it says something, or asks for input.
    pub waiting: Option<Waiting>,
}

impl Streams {
    /// The lab's own outputs, and nothing to read.
    #[must_use]
    pub fn outputs() -> Self {
        Self {
            stdin: None,
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
            waiting: None,
        }
    }
}

/// Boots the guest, sees it through, and says how it went. Whatever happens, QEMU is gone afterwards.
///
/// Everything that goes wrong after the start is an outcome in the report.
///
/// # Errors
///
/// When the run could not begin.
pub fn run(
    machine: &Machine,
    guest: &Guest,
    streams: Streams,
    deadlines: &Deadlines,
) -> Result<Report> {
    run_for(None, machine, guest, streams, deadlines)
}

/// As [`run`]; once the module is loaded, `debugger` may attach to the guest.
///
/// # Errors
///
/// As [`run`], and when the debugger ends before it has attached, or without letting the guest go.
pub fn debug(
    debugger: Debugger,
    machine: &Machine,
    guest: &Guest,
    streams: Streams,
    deadlines: &Deadlines,
) -> Result<Report> {
    run_for(Some(debugger), machine, guest, streams, deadlines)
}

fn run_for(
    debugger: Option<Debugger>,
    machine: &Machine,
    guest: &Guest,
    streams: Streams,
    deadlines: &Deadlines,
) -> Result<Report> {
    let order = Order {
        job: guest.job.clone(),
        mark: mark::random_name().context("failed to make a mark")?,
    };
    let text = serde_json::to_vec_pretty(&order).context("failed to write the order as JSON")?;
    let mut files = guest.files.clone();
    files.push(GuestFile::data(ORDER_PATH, text));
    let initramfs = initramfs::assemble(&guest.archives, &files)?;
    let (vm, attendance) = match debugger {
        None => (Vm::start(machine, initramfs)?, None),
        Some(Debugger { listener, begin }) => (
            Vm::start_to_debug(machine, initramfs, listener)?,
            Some(Attendance::new(begin)),
        ),
    };
    let listener = Listener::new(vm, &order.mark)?;
    let watch = Watch::new(listener, &order, streams, deadlines)?;
    let seen = watch.attended(attendance).until_the_end()?;
    Ok(report(guest, seen))
}

fn report(guest: &Guest, seen: Seen) -> Report {
    let Seen {
        end,
        phase,
        events,
        console,
        ktap,
        qemu_stderr,
        output_complete,
        captured,
        timings,
    } = seen;
    let outcome = judge(&Observed {
        job: &guest.job,
        events: &events,
        console: &console,
        ktap: &ktap,
        output_complete,
        end: &end,
        phase: &phase,
        allowed: &guest.allowed,
    });
    let programs = match &guest.job.work {
        Work::Programs(programs) => programs.as_slice(),
        Work::Shell(_) => &[],
    };
    let programs = programs
        .iter()
        .zip(captured)
        .enumerate()
        .map(|(index, (program, (stdout, stderr)))| {
            ProgramReport::new(program, index, &events, stdout, stderr)
        })
        .collect();
    Report {
        outcome,
        events,
        programs,
        console,
        ktap,
        qemu_stderr,
        timings,
    }
}
