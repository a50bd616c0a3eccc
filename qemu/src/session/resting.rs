//! A machine that was restored, and waits for the order of a run that may still be building its module.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};

use super::heard::Heard;
use super::listener::Listener;
use super::watch::{Seen, Watch};
use super::{Guest, Streams, report};
use crate::initramfs;
use crate::job::{Command, Event, Order, Program, Work};
use crate::machine::{Channel, Machine};
use crate::mark;
use crate::outcome::End;
use crate::phase::{Deadlines, Phase, Timing};
use crate::report::Report;
use crate::vm::{Saved, Vm};

/// How many bytes the guest's random numbers are seeded with: as many as the kernel's own key has.
const SEED_LEN: usize = 32;

/// The machine. Dropping it ends it.
pub struct Resting {
    listener: Listener,
    mark: String,
}

/// QEMU did not restore the machine, or what it restored did not go on.
pub struct Refused {
    /// Why.
    pub why: String,
    /// What the run was to have.
    pub streams: Streams,
}

impl Resting {
    /// Restores a machine that was `saved`; `log` is what its kernel said before that.
    ///
    /// # Errors
    ///
    /// When the process cannot be made. What QEMU itself does not like shows at [`resume`].
    pub fn restore(machine: &Machine, saved: Saved, log: &str) -> Result<Self> {
        let mark = mark::random_name().context("failed to make a mark")?;
        let mut listener = Listener::new(Vm::restore(machine, saved)?, &mark)?;
        listener.heard.console.push(log.as_bytes());
        listener.tell(&wake().context("failed to read random numbers, and the time")?);
        Ok(Self { listener, mark })
    }

    /// Has the guest start a program early, which is perhaps the job's first. What it does to get ready need not be
    /// done when it is its turn; and QEMU keeps the code that it translates for that.
    pub fn rehearse(&self, program: Program) {
        self.listener.tell(&Command::Rehearse { program });
    }

    /// Waits until that is ready; false if it has ended, or is not ready in this time.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    pub fn rehearsed(&mut self, timeout: Duration) -> Result<bool> {
        let answer = |heard: &Heard| {
            heard.events.iter().find_map(|event| match event {
                Event::Rehearsed { ready } => Some(*ready),
                _ => None,
            })
        };
        self.listener
            .listen_until(|heard| answer(heard).is_some(), timeout)?;
        Ok(answer(&self.listener.heard) == Some(true))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    pub fn ended(&mut self) -> Result<Option<String>> {
        let ended = |_: &Heard| false;
        match self.listener.listen_until(ended, Duration::ZERO)? {
            Some(mut end @ (End::QemuExited { .. } | End::Dead)) => {
                self.listener.close(&mut end)?;
                Ok(Some(describe(&end, &self.listener.heard)))
            }
            _ => Ok(None),
        }
    }
}

/// Has the restored guest do its job, sees it through, and says how it went. Whatever happens, QEMU is gone
/// afterwards. A machine that somebody killed was no bad one: that is reported as any other end.
///
/// # Errors
///
/// When the run could not begin. The inner one is for the caller to boot instead.
pub fn resume(
    resting: Resting,
    guest: &Guest,
    streams: Streams,
    deadlines: &Deadlines,
) -> Result<Result<Report, Refused>> {
    let Resting { mut listener, mark } = resting;
    let since = Instant::now();
    let awake = |heard: &Heard| heard.events.contains(&Event::Awake);
    if let Some(mut end) = listener.listen_until(awake, deadlines.restore)? {
        let status = listener.close(&mut end)?;
        let killed = matches!(end, End::QemuExited { .. }) && status.signal().is_some();
        if !killed && end != End::Interrupted {
            let why = describe(&end, &listener.heard);
            return Ok(Err(Refused { why, streams }));
        }
        let seen = never_began(guest, listener.heard, end, since.elapsed());
        return Ok(Ok(report(guest, seen)));
    }
    let order = Order {
        job: guest.job.clone(),
        mark,
    };
    let archive = initramfs::assemble(&[], &guest.files)?;
    let handed_over = hand_over(order.clone(), archive, &listener);
    handed_over.context("failed to hand the order over to the guest")?;
    let watch = Watch::new(listener, &order, streams, deadlines)?.restored(since);
    Ok(Ok(report(guest, watch.until_the_end()?)))
}

fn wake() -> Result<Command> {
    let mut seed = vec![0; SEED_LEN];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(Command::Wake { now, seed })
}

/// Sends the order and the archive, in a thread of its own: the guest may be slow to take it, or dead.
fn hand_over(order: Order, mut archive: File, listener: &Listener) -> io::Result<()> {
    let len = archive.metadata()?.len();
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut line = serde_json::to_vec(&Command::Begin { order, len })?;
    line.push(b'\n');
    archive.rewind()?;
    let mut port: UnixStream = listener.vm.channel(Channel::Control).try_clone()?;
    thread::Builder::new()
        .name("hand-over".into())
        .spawn(move || {
            // A guest that takes no more of it is noticed by its deadline or its end, which ends this.
            let _ = port
                .write_all(&line)
                .and_then(|()| io::copy(&mut archive, &mut port));
        })?;
    Ok(())
}

fn describe(end: &End, heard: &Heard) -> String {
    let complaints = [
        heard.monitor.refused().map(str::to_owned),
        heard.console.death().map(|death| format!("{death:?}")),
        Some(heard.complaints()),
    ];
    let complaints: Vec<String> = complaints
        .into_iter()
        .flatten()
        .filter(|said| !said.is_empty())
        .collect();
    let what = match end {
        End::QemuExited {
            failure: Some(how), ..
        } => format!("QEMU {how}"),
        End::TimedOut => "it did not wake up in time".to_owned(),
        End::Dead => "its kernel died".to_owned(),
        _ => "it ended by itself".to_owned(),
    };
    [vec![what], complaints].concat().join(": ")
}

/// A run that ended before its order was handed over.
fn never_began(guest: &Guest, heard: Heard, end: End, elapsed: Duration) -> Seen {
    let nr_programs = match &guest.job.work {
        Work::Programs(programs) => programs.len(),
        Work::Shell(_) => 0,
    };
    Seen {
        end,
        phase: Phase::Restore,
        console: heard.console.text(),
        ktap: String::new(),
        qemu_stderr: heard.complaints(),
        events: heard.events,
        output_complete: false,
        captured: vec![Default::default(); nr_programs],
        timings: vec![Timing {
            phase: Phase::Restore,
            elapsed,
        }],
    }
}
