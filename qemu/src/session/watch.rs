//! Watches a guest from its start to its end, all channels at once.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Streams;
use super::attendance::Attendance;
use super::front::Front;
use super::heard::Heard;
use super::listener::{Listener, poll_timeout};
use crate::interrupt;
use crate::job::{Command, Event, Order, Work};
use crate::ktap;
use crate::mark::Piece;
use crate::outcome::End;
use crate::phase::{Deadlines, Phase, Progress, Timing};
use crate::qmp;

/// How long a dead guest may take to end QEMU, which `panic=-1` does at once.
const DEATH_GRACE: Duration = Duration::from_secs(1);

/// How long a guest in which a program takes too long may take to say what its processes are doing.
const DESCRIPTION: Duration = Duration::from_secs(1);

/// How much longer a deadline is put off while the reader of the output keeps the guest waiting.
const READER_GRACE: Duration = Duration::from_secs(1);

/// What was seen of a run.
pub(super) struct Seen {
    pub(super) end: End,
    pub(super) phase: Phase,
    pub(super) events: Vec<Event>,
    pub(super) console: String,
    pub(super) ktap: String,
    pub(super) qemu_stderr: String,
    pub(super) output_complete: bool,
    /// Standard output and standard error, for each program.
    pub(super) captured: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) timings: Vec<Timing>,
}

/// A guest that is being watched.
pub(super) struct Watch<'a> {
    listener: Listener,
    front: Front,
    order: &'a Order,
    deadlines: Deadlines,
    progress: Progress,
    /// When the guest was found dead.
    dead_since: Option<Instant>,
    /// Until when the deadline was put off last, if it was.
    put_off: Option<Instant>,
    /// If the run is debugged.
    attendance: Option<Attendance>,
}

impl<'a> Watch<'a> {
    /// Begins to watch a machine that was just started.
    pub(super) fn new(
        listener: Listener,
        order: &'a Order,
        streams: Streams,
        deadlines: &Deadlines,
    ) -> Result<Self> {
        let front = Front::new(&listener.vm, order, streams)?;
        let mut deadlines = deadlines.clone();
        let nr_programs = match &order.job.work {
            Work::Programs(programs) => programs.len(),
            Work::Shell(_) => {
                deadlines.program = None; // a person decides
                1
            }
        };
        Ok(Self {
            listener,
            front,
            order,
            deadlines,
            progress: Progress::new(order.job.module.is_some(), nr_programs),
            dead_since: None,
            put_off: None,
            attendance: None,
        })
    }

    /// This run is debugged, if there is an attendance.
    pub(super) fn attended(mut self, attendance: Option<Attendance>) -> Self {
        self.attendance = attendance;
        self
    }

    /// This machine was restored; since `since`, the run waited for it.
    pub(super) fn restored(mut self, since: Instant) -> Self {
        self.progress.restored(since);
        self
    }

    /// Watches until the end, whatever it is, and cleans up.
    pub(super) fn until_the_end(mut self) -> Result<Seen> {
        let mut end = loop {
            if let Some(end) = self.step()? {
                break end;
            }
        };
        let phase = self.progress.phase().clone();
        if let (End::TimedOut, Phase::Program(_)) = (&end, &phase) {
            self.ask_for_processes()?;
        }
        self.listener.close(&mut end)?;
        self.wait_for_readers(&end)?;
        self.wait_for_debugger(&end)?;
        Ok(self.into_seen(end, phase))
    }

    /// Has `init`, if it still listens, say what the processes are doing.
    fn ask_for_processes(&mut self) -> Result<()> {
        self.listener.tell(&Command::Describe);
        let described = |heard: &Heard| {
            let is_answer = |event: &Event| matches!(event, Event::Described { .. });
            heard.events.iter().any(is_answer)
        };
        // Without an answer, the end is what it was.
        self.listener.listen_until(described, DESCRIPTION).map(drop)
    }

    /// Waits for something to happen, and deals with it.
    fn step(&mut self) -> Result<Option<End>> {
        let ready = self.wait()?;
        if ready.interrupted {
            return Ok(Some(End::Interrupted));
        }
        for index in ready.inlets {
            self.read(index)?;
        }
        self.attend()?;
        if ready.resized {
            if let Some(command) = self.front.resize() {
                self.listener.tell(&command);
            }
        }
        self.front.rest();
        if let Some(closed) = self.front.closed() {
            return Ok(Some(End::OutputClosed(closed)));
        }
        if ready.exited {
            return Ok(Some(End::QemuExited {
                failure: None,
                reason: None,
            }));
        }
        if *self.progress.phase() == Phase::Drain && self.output_complete() {
            if self.listener.heard.awaits_cut() {
                return Ok(Some(End::PowerCut));
            }
            self.listener.tell(&Command::Bye);
            self.progress.enter(Phase::PowerOff);
        }
        Ok(self.overdue())
    }

    /// Waits until a channel has something to read, QEMU ends, a signal comes, or a deadline passes.
    fn wait(&self) -> Result<Ready> {
        let open = self.listener.open();
        let mut fds: Vec<BorrowedFd<'_>> = vec![
            interrupt::fd(),
            self.front.leave(),
            self.listener.vm.qemu.exited(),
            self.front.woken(),
        ];
        fds.extend(open.iter().map(|(_, fd)| *fd));
        fds.extend(self.front.resized());
        let nr_resized = fds.len() - 4 - open.len();
        fds.extend(self.attendance.as_ref().and_then(Attendance::ended));
        let mut fds: Vec<PollFd<'_>> = fds
            .into_iter()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, poll_timeout(self.deadline())) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("failed to wait for the guest"),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let (fixed, rest) = ready.split_at(4);
        let (of_inlets, behind) = rest.split_at(open.len());
        Ok(Ready {
            interrupted: fixed[0] || fixed[1],
            exited: fixed[2],
            resized: behind[..nr_resized].contains(&true),
            inlets: open
                .into_iter()
                .zip(of_inlets)
                .filter(|(_, ready)| **ready)
                .map(|((index, _), _)| index)
                .collect(),
        })
    }

    fn deadline(&self) -> Option<Instant> {
        if self.is_held() {
            return None;
        }
        let phase = self.progress.deadline(&self.deadlines).max(self.put_off);
        let dead = self.dead_since.map(|since| since + DEATH_GRACE);
        [phase, dead].into_iter().flatten().min()
    }

    fn overdue(&mut self) -> Option<End> {
        let now = Instant::now();
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        if self.dead_since.is_some() {
            return Some(End::Dead);
        }
        if self.front.writing() {
            self.put_off = Some(now + READER_GRACE);
            return None;
        }
        Some(End::TimedOut)
    }

    /// Reads once from a channel that is ready.
    fn read(&mut self, index: usize) -> Result<()> {
        let heard = &self.listener.heard;
        let (nr_events, len_ktap) = (heard.events.len(), heard.ktap.len());
        self.listener.read(index);
        let Listener { vm, heard, .. } = &self.listener;
        if heard.ktap.len() > len_ktap && self.front.shows_results() {
            let ktap = ktap::parse(&String::from_utf8_lossy(&heard.ktap));
            self.front.show_results(ktap.results.len(), ktap.planned);
        }
        if heard.monitor.started() && *self.progress.phase() == Phase::Start {
            self.progress.enter(Phase::Boot);
        }
        if heard.console.death().is_some() {
            self.dead_since.get_or_insert_with(Instant::now);
        }
        for event in &heard.events[nr_events..] {
            self.progress.note(event);
            if let (Event::AwaitsDebugger { sections }, Some(attendance)) =
                (event, &mut self.attendance)
            {
                self.front.begun();
                if attendance.begin(sections)? {
                    self.listener.tell(&Command::Go);
                }
            }
            if let Event::Started { program } = event {
                self.front.started(vm, &self.order.job.work, *program)?;
            }
        }
        Ok(())
    }

    /// Whether a debugger holds the guest, so that no time passes for it.
    fn is_held(&self) -> bool {
        self.attendance.is_some() && self.listener.heard.monitor.held()
    }

    /// Keeps track of a debugger, if the run has one.
    fn attend(&mut self) -> Result<()> {
        let is_held = self.is_held();
        self.progress.hold(is_held);
        if is_held {
            // A guest that died has its grace again when it is let go.
            self.dead_since = self.dead_since.map(|_| Instant::now());
        }
        let Some(attendance) = &mut self.attendance else {
            return Ok(());
        };
        if self.listener.heard.monitor.was_held() && attendance.held() {
            self.listener.tell(&Command::Go);
        }
        if attendance.end()? {
            self.listener.tell_qemu(qmp::STATUS);
        }
        let monitor = &self.listener.heard.monitor;
        if monitor.shutdown().is_some() {
            if attendance.leave() {
                self.listener.tell_qemu(qmp::QUIT);
            }
            return Ok(());
        }
        match monitor.running() {
            Some(running) if attendance.asks() => attendance.answered(running),
            _ => Ok(()),
        }
    }

    /// Waits until gdb has ended, which a person may use when the guest is gone.
    fn wait_for_debugger(&mut self, end: &End) -> Result<()> {
        let Some(ended) = self.attendance.as_ref().and_then(Attendance::ended) else {
            return Ok(());
        };
        let mut fds = [interrupt::fd(), ended].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        while *end != End::Interrupted && !fds.iter().any(|fd| fd.any().unwrap_or(false)) {
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("failed to wait for gdb"),
            }
        }
        let now = *end == End::Interrupted || fds[0].any() == Some(true);
        let attendance = self.attendance.as_mut();
        attendance.map_or(Ok(()), |attendance| attendance.finish(now))
    }

    /// Waits until the outputs have gone where they belong, however slow their readers are.
    fn wait_for_readers(&self, end: &End) -> Result<()> {
        while !self.front.ended() && !matches!(end, End::Interrupted | End::OutputClosed(_)) {
            let mut fds =
                [interrupt::fd(), self.front.woken()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => {
                    return Err(errno).context("failed to wait for the readers of the output");
                }
            }
            if fds[0].any().unwrap_or(false) {
                return Ok(());
            }
            self.front.rest();
        }
        Ok(())
    }

    /// Whether all that the programs wrote has arrived.
    fn output_complete(&self) -> bool {
        let Work::Programs(programs) = &self.order.job.work else {
            return true;
        };
        let ended: Vec<usize> = self
            .listener
            .heard
            .events
            .iter()
            .filter_map(Event::ended_program)
            .collect();
        let nr_ktap = ended
            .iter()
            .filter_map(|&index| programs.get(index))
            .filter(|p| p.ktap)
            .count();
        self.front.has_marks(ended.len()) && self.listener.heard.ktap_marks >= nr_ktap
    }

    fn into_seen(self, end: End, phase: Phase) -> Seen {
        let output_complete = self.output_complete();
        let programs = match &self.order.job.work {
            Work::Programs(programs) => programs.as_slice(),
            Work::Shell(_) => &[],
        };
        let captured = self.front.captured(programs);
        let Heard {
            events,
            console,
            mut ktap,
            ktap_splitter,
            qemu_stderr,
            ..
        } = self.listener.heard;
        for piece in ktap_splitter.finish() {
            if let Piece::Bytes(bytes) = piece {
                ktap.extend_from_slice(&bytes);
            }
        }
        Seen {
            end,
            phase,
            events,
            console: console.text(),
            ktap: String::from_utf8_lossy(&ktap).into_owned(),
            qemu_stderr: String::from_utf8_lossy(&qemu_stderr).into_owned(),
            output_complete,
            captured,
            timings: self.progress.finish(),
        }
    }
}

/// What a wait found.
struct Ready {
    interrupted: bool,
    exited: bool,
    resized: bool,
    inlets: Vec<usize>,
}
