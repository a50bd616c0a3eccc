//! What is seen of a run, to be spoilt by a test.

use lab::console::Allowance;
use lab::job::{Ending, Event, Job, Module, Program, Work};
use lab::outcome::{End, Observed, Outcome, judge};
use lab::phase::Phase;

use crate::saved::saved;

/// The flags that the module itself causes: from outside the tree, not signed.
pub(crate) const OUR_TAINT: u64 = 0x3000;

/// The guest has reset, and QEMU has ended.
pub(crate) fn reset() -> End {
    End::QemuExited {
        failure: None,
        reason: Some("guest-reset".into()),
    }
}

/// What was seen, to be spoilt by a test.
pub(crate) struct Run {
    pub(crate) job: Job,
    pub(crate) events: Vec<Event>,
    pub(crate) console: String,
    pub(crate) ktap: String,
    pub(crate) output_complete: bool,
    pub(crate) end: End,
    pub(crate) phase: Phase,
    pub(crate) allowed: Vec<Allowance>,
}

impl Run {
    /// A run of one program, with results, in which all is well.
    pub(crate) fn good() -> Self {
        let mut program = Program::new(["mmapdemo", "run"]);
        program.ktap = true;
        Self {
            job: Job {
                module: Some(Module::mmapdemo("")),
                work: Work::Programs(vec![program]),
                ending: Ending::PowerOff,
                debugged: false,
            },
            events: vec![
                Event::Ready {
                    release: "7.3.4".into(),
                    uptime_ms: 1600,
                    taint: 0,
                },
                Event::ModuleLoaded,
                Event::Started { program: 0 },
                Event::Exited {
                    program: 0,
                    code: 0,
                },
                Event::ModuleUnloaded,
                Event::Down { taint: OUR_TAINT },
            ],
            console: saved("clean-7.3.log"),
            ktap: saved("all-ok.ktap"),
            output_complete: true,
            end: End::QemuExited {
                failure: None,
                reason: Some("guest-shutdown".into()),
            },
            phase: Phase::PowerOff,
            allowed: Vec::new(),
        }
    }

    /// The same without a promise of results.
    pub(crate) fn without_results() -> Self {
        let mut run = Self::good();
        run.job.work = Work::Programs(vec![Program::new(["true"])]);
        run.ktap = String::new();
        run
    }

    /// A run that ended in the middle of its program.
    pub(crate) fn ended(end: End, console: &str) -> Self {
        let mut run = Self::good();
        run.events.truncate(3);
        run.ktap = saved("fewer-than-planned.ktap");
        Self {
            console: saved(console),
            end,
            phase: Phase::Program(0),
            ..run
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        judge(&Observed {
            job: &self.job,
            events: &self.events,
            console: &self.console,
            ktap: &self.ktap,
            output_complete: self.output_complete,
            end: &self.end,
            phase: &self.phase,
            allowed: &self.allowed,
        })
    }
}
