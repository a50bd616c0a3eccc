//! The parts of a run, how long each may take, and how long it took.

use std::fmt;
use std::time::{Duration, Instant};

use crate::job::Event;

/// What the run is waiting for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// QEMU to start.
    Start,
    /// The kernel to boot, and `init` to be ready.
    Boot,
    /// A machine that was saved to go on.
    Restore,
    /// A machine that was restored to take its order, and `init` to be ready.
    HandOver,
    /// The module to be loaded.
    Load,
    /// A debugger, whenever somebody attaches one.
    Attach,
    /// A program to end; counted from 0.
    Program(usize),
    /// The module to be unloaded.
    Unload,
    /// The last bytes of output to arrive.
    Drain,
    /// The guest to power off, and QEMU to end.
    PowerOff,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("QEMU's start"),
            Self::Boot => f.write_str("boot"),
            Self::Restore => f.write_str("the restore"),
            Self::HandOver => f.write_str("the hand-over of the order"),
            Self::Load => f.write_str("insmod"),
            Self::Attach => f.write_str("the debugger"),
            Self::Program(index) => write!(f, "program {}", index + 1),
            Self::Unload => f.write_str("rmmod"),
            Self::Drain => f.write_str("the end of the output"),
            Self::PowerOff => f.write_str("power-off"),
        }
    }
}

/// How long each phase may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// [`Phase::Start`].
    pub start: Duration,
    /// [`Phase::Boot`].
    pub boot: Duration,
    /// [`Phase::Restore`].
    pub restore: Duration,
    /// [`Phase::HandOver`].
    pub hand_over: Duration,
    /// [`Phase::Load`].
    pub load: Duration,
    /// [`Phase::Program`], each; `None` is for ever, as for a shell.
    pub program: Option<Duration>,
    /// [`Phase::Unload`].
    pub unload: Duration,
    /// [`Phase::Drain`], without the time for which the reader of the output keeps it waiting.
    pub drain: Duration,
    /// [`Phase::PowerOff`].
    pub power_off: Duration,
}

impl Default for Deadlines {
    /// Ten times what a slow machine was seen to need, as other runs may be in the way; and for the
    /// module, longer than the kernel takes to report a task that spins or blocks (about 20 s).
    fn default() -> Self {
        Self {
            start: Duration::from_secs(20),
            boot: Duration::from_secs(120),
            restore: Duration::from_secs(60),
            hand_over: Duration::from_secs(120),
            load: Duration::from_secs(30),
            program: Some(Duration::from_secs(300)),
            unload: Duration::from_secs(30),
            drain: Duration::from_secs(20),
            power_off: Duration::from_secs(20),
        }
    }
}

impl Deadlines {
    /// How long `phase` may take; `None` is for ever.
    #[must_use]
    pub fn timeout(&self, phase: &Phase) -> Option<Duration> {
        match phase {
            Phase::Start => Some(self.start),
            Phase::Boot => Some(self.boot),
            Phase::Restore => Some(self.restore),
            Phase::HandOver => Some(self.hand_over),
            Phase::Load => Some(self.load),
            Phase::Attach => None,
            Phase::Program(_) => self.program,
            Phase::Unload => Some(self.unload),
            Phase::Drain => Some(self.drain),
            Phase::PowerOff => Some(self.power_off),
        }
    }
}

/// How long a phase took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Which one.
    pub phase: Phase,
    /// How long.
    pub elapsed: Duration,
}

/// Where a run is.
#[derive(Debug)]
pub struct Progress {
    phase: Phase,
    since: Instant,
    /// For how long the guest was held in this phase: for it, no time has passed.
    held: Duration,
    /// Since when it is held.
    held_since: Option<Instant>,
    timings: Vec<Timing>,
    has_module: bool,
    nr_programs: usize,
}

impl Progress {
    /// A run that begins now: with a module to load or without, and this many programs.
    #[must_use]
    pub fn new(has_module: bool, nr_programs: usize) -> Self {
        Self {
            phase: Phase::Start,
            since: Instant::now(),
            held: Duration::ZERO,
            held_since: None,
            timings: Vec::new(),
            has_module,
            nr_programs,
        }
    }

    /// The run is in a machine that was restored: since `since`, it waited for that.
    pub fn restored(&mut self, since: Instant) {
        self.phase = Phase::Restore;
        self.since = since;
        self.enter(Phase::HandOver);
    }

    /// The phase that the run is in.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// When the present phase must be over; never while the guest is held.
    #[must_use]
    pub fn deadline(&self, deadlines: &Deadlines) -> Option<Instant> {
        let timeout = deadlines.timeout(&self.phase);
        let timeout = timeout.filter(|_| self.held_since.is_none());
        timeout.map(|timeout| self.since + self.held + timeout)
    }

    /// Takes note of whether a debugger holds the guest.
    pub fn hold(&mut self, is_held: bool) {
        if is_held {
            self.held_since.get_or_insert_with(Instant::now);
        } else if let Some(since) = self.held_since.take() {
            self.held += since.elapsed();
        }
    }

    /// Enters another phase.
    pub fn enter(&mut self, phase: Phase) {
        if phase != self.phase {
            let now = Instant::now();
            let phase = std::mem::replace(&mut self.phase, phase);
            self.timings.push(Timing {
                phase,
                elapsed: now - self.since,
            });
            self.since = now;
            self.held = Duration::ZERO;
            self.held_since = self.held_since.map(|_| now);
        }
    }

    /// Takes note of what `init` said.
    pub fn note(&mut self, event: &Event) {
        match event {
            Event::Ready { .. } if self.has_module => self.enter(Phase::Load),
            Event::Ready { .. } | Event::ModuleLoaded => self.enter(self.program_or_unload(0)),
            Event::AwaitsDebugger { .. } => self.enter(Phase::Attach),
            Event::Started { program } => self.enter(Phase::Program(*program)),
            Event::Exited { program, .. }
            | Event::Signaled { program, .. }
            | Event::NotStarted { program, .. } => self.enter(self.program_or_unload(program + 1)),
            Event::ModuleRefused(_) | Event::Failed { .. } => self.enter(Phase::Unload),
            Event::Down { .. } | Event::AwaitsCut { .. } => self.enter(Phase::Drain),
            Event::Awaiting { .. }
            | Event::Awake
            | Event::Rehearsed { .. }
            | Event::Described { .. }
            | Event::Leftovers { .. }
            | Event::Unaccounted { .. }
            | Event::Scanned { .. }
            | Event::ModuleUnloaded
            | Event::UnloadRefused(_)
            | Event::ModuleGone => {}
        }
    }

    /// The run is over: the timings of all its phases.
    #[must_use]
    pub fn finish(mut self) -> Vec<Timing> {
        self.timings.push(Timing {
            elapsed: self.since.elapsed(),
            phase: self.phase,
        });
        self.timings
    }

    fn program_or_unload(&self, program: usize) -> Phase {
        if program < self.nr_programs {
            Phase::Program(program)
        } else {
            Phase::Unload
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_for_which_a_debugger_holds_the_guest_does_not_count() {
        let deadlines = Deadlines::default();
        let mut progress = Progress::new(true, 1);
        progress.note(&Event::ModuleLoaded);
        progress.note(&Event::AwaitsDebugger {
            sections: Vec::new(),
        });
        assert_eq!(progress.deadline(&deadlines), None);
        progress.note(&Event::Started { program: 0 });
        let before = progress.deadline(&deadlines).unwrap();
        progress.hold(true);
        progress.hold(true);
        assert_eq!(progress.deadline(&deadlines), None);
        let held_since = progress.held_since.unwrap();
        progress.held_since = held_since.checked_sub(Duration::from_secs(3600));
        progress.hold(false);
        let after = progress.deadline(&deadlines).unwrap();
        assert!(after - before >= Duration::from_secs(3600));
        progress.enter(Phase::Unload);
        let left = progress.deadline(&deadlines).unwrap() - Instant::now();
        assert!(left <= deadlines.unload);
    }
}
