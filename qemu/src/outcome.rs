//! How a run ended: one pure function of everything that was seen of it.

mod status;
mod words;

use crate::console::{self, Allowance, Death};
use crate::job::{Ending, Event, Job, LEAK_KIB, Program, Refusal, Work};
use crate::ktap::{self, Ktap, Verdict};
use crate::output::Closed;
use crate::phase::Phase;

/// Taint flags that belong to the experiment: a module from outside the tree, without a signature
/// (`TAINT_OOT_MODULE`, `TAINT_UNSIGNED_MODULE`; `Documentation/admin-guide/tainted-kernels.rst`).
const EXPECTED_TAINT: u64 = 1 << 12 | 1 << 13;

/// The first of them; a kernel that checks no signatures does not set the other.
const OUT_OF_TREE: u64 = 1 << 12;

/// How a run ended. Whether a claim is true is another question, answered by the results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything asked for was done; no results were promised. A program's own status is not judged.
    Completed,
    /// All results are there, none is `not ok`, and at least one is `ok`.
    Passed {
        /// How many are `ok`.
        passed: usize,
        /// How many were skipped.
        skipped: usize,
    },
    /// All results are there, and some are `not ok`.
    Failed {
        /// The names of those.
        failed: Vec<String>,
        /// How many results there are.
        total: usize,
    },
    /// All results are there, and all were skipped.
    Skipped {
        /// How many.
        skipped: usize,
    },
    /// Results were promised, and there are none.
    NoTests,
    /// There are fewer results than planned.
    MissingTests {
        /// How many were planned.
        planned: usize,
        /// How many there are.
        seen: usize,
    },
    /// The results are not in the format, or cut off.
    Unparsable {
        /// Where, and why.
        why: String,
    },
    /// The results say one thing, and the status of the program that wrote them another.
    Contradicted {
        /// Both.
        why: String,
    },
    /// A program could not be started.
    NotStarted {
        /// Its name.
        program: String,
        /// Why.
        refusal: Refusal,
    },
    /// The kernel broke one of its rules, or saw the module break it, and went on.
    Splat {
        /// The first line of each report.
        lines: Vec<String>,
    },
    /// The kernel says by its taint flags that something is wrong.
    Tainted {
        /// The unexpected flags.
        flags: u64,
    },
    /// The guest's power was to be cut, and it ended otherwise.
    NotCut,
    /// A module was loaded, and the kernel does not say by its taint flags that it came from outside the
    /// tree: another one was loaded than ours.
    NotTainted {
        /// The flags.
        flags: u64,
    },
    /// More memory is in use after the module's life than before, and nobody answers for it.
    Leaked {
        /// How much more.
        kib: u64,
    },
    /// The kernel found objects that nothing points to any more, after the module's life.
    Unreferenced {
        /// How many.
        count: usize,
        /// What it says of the first.
        report: String,
    },
    /// The guest ended in good order, but a part of its output did not arrive.
    OutputLost,
    /// The module could not be unloaded.
    UnloadRefused(Refusal),
    /// The module could not be loaded.
    InsmodRefused(Refusal),
    /// `init` could not do its work.
    InitFailed {
        /// In its words.
        why: String,
    },
    /// The guest ended before `init` was ready.
    DiedInBoot {
        /// The line that says why, if there is one.
        line: Option<String>,
    },
    /// The kernel panicked.
    Panicked {
        /// Its line.
        line: String,
        /// Its first complaint before that, which may say why.
        before: Option<String>,
        /// When.
        phase: Phase,
    },
    /// The kernel ran into a fault of its own.
    Oopsed {
        /// The line that says so.
        line: String,
        /// Its first complaint before that, which may say why.
        before: Option<String>,
        /// When.
        phase: Phase,
    },
    /// The guest reset or switched itself off in the middle of its work, and did not say why.
    Vanished {
        /// When.
        phase: Phase,
        /// What QEMU said about it.
        reason: Option<String>,
        /// The kernel's first complaint before that, which may say why.
        before: Option<String>,
    },
    /// QEMU was killed, or gave up.
    QemuDied {
        /// Its status.
        how: String,
        /// When.
        phase: Phase,
    },
    /// A phase took longer than it may.
    TimedOut {
        /// Which one.
        phase: Phase,
        /// The kernel's first complaint before that, which may say why.
        before: Option<String>,
    },
    /// The lab's own output can be written no more.
    OutputClosed(Closed),
    /// A signal stopped the run.
    Interrupted,
    /// There was no run.
    SetUp {
        /// Why.
        why: String,
    },
}

/// Why the lab stopped watching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// QEMU ended by itself.
    QemuExited {
        /// In words, unless it ended with status 0.
        failure: Option<String>,
        /// The reason in its last `SHUTDOWN` event.
        reason: Option<String>,
    },
    /// The console said that the guest is dead, but QEMU stayed.
    Dead,
    /// The work was done, all of its output was there, and the lab cut the power, as the job asks.
    PowerCut,
    /// A deadline passed.
    TimedOut,
    /// An output can be written no more.
    OutputClosed(Closed),
    /// A signal came.
    Interrupted,
}

/// Everything that was seen of a run.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// What was asked for.
    pub job: &'a Job,
    /// What `init` said.
    pub events: &'a [Event],
    /// What the kernel said.
    pub console: &'a str,
    /// What the test programs said.
    pub ktap: &'a str,
    /// Whether every mark arrived.
    pub output_complete: bool,
    /// Why the lab stopped watching.
    pub end: &'a End,
    /// In which phase that was.
    pub phase: &'a Phase,
    /// Complaints of the kernel's that are no failure.
    pub allowed: &'a [Allowance],
}

/// Decides. The worst comes first: a crash explains missing results, never the other way round.
#[must_use]
pub fn judge(seen: &Observed<'_>) -> Outcome {
    stopped_by_us(seen)
        .or_else(|| died(seen))
        .or_else(|| refused(seen))
        .or_else(|| unclean(seen))
        .unwrap_or_else(|| results(seen))
}

fn stopped_by_us(seen: &Observed<'_>) -> Option<Outcome> {
    match seen.end {
        End::Interrupted => Some(Outcome::Interrupted),
        End::OutputClosed(closed) => Some(Outcome::OutputClosed(closed.clone())),
        _ => None,
    }
}

fn died(seen: &Observed<'_>) -> Option<Outcome> {
    let phase = seen.phase.clone();
    let booted = seen
        .events
        .iter()
        .any(|event| matches!(event, Event::Ready { .. }))
        // A guest that was restored booted long ago.
        || phase == Phase::HandOver;
    let before = console::first_complaint(seen.console, seen.allowed).map(str::to_owned);
    if let Some(death) = console::death(seen.console) {
        return Some(match death {
            Death::Panic(line) | Death::Oops(line) if !booted => {
                Outcome::DiedInBoot { line: Some(line) }
            }
            Death::Panic(line) => Outcome::Panicked {
                line,
                before,
                phase,
            },
            Death::Oops(line) => Outcome::Oopsed {
                line,
                before,
                phase,
            },
        });
    }
    match seen.end {
        End::TimedOut | End::Dead => Some(Outcome::TimedOut { phase, before }),
        End::QemuExited {
            failure: Some(how), ..
        } => Some(Outcome::QemuDied {
            how: how.clone(),
            phase,
        }),
        End::QemuExited { reason, .. } if !is_down(seen.events) => {
            // An `init` that cannot reach its port still has the console.
            let failed = console::init_failure(seen.console).map(|why| Outcome::InitFailed {
                why: why.to_owned(),
            });
            let reason = reason.clone();
            let silent = if booted {
                Outcome::Vanished {
                    phase,
                    reason,
                    before,
                }
            } else {
                Outcome::DiedInBoot { line: None }
            };
            Some(failed.unwrap_or(silent))
        }
        _ => None,
    }
}

fn is_down(events: &[Event]) -> bool {
    events
        .iter()
        .any(|event| matches!(event, Event::Down { .. }))
}

fn refused(seen: &Observed<'_>) -> Option<Outcome> {
    seen.events.iter().find_map(|event| match event {
        Event::Failed { why } => Some(Outcome::InitFailed { why: why.clone() }),
        Event::ModuleRefused(refusal) if !is_shell(seen.job) => {
            Some(Outcome::InsmodRefused(refusal.clone()))
        }
        _ => None,
    })
}

fn is_shell(job: &Job) -> bool {
    matches!(job.work, Work::Shell(_))
}

fn unclean(seen: &Observed<'_>) -> Option<Outcome> {
    // What a person does in a shell is theirs: neither an oops nor a warning there is ours to judge.
    if is_shell(seen.job) {
        return Some(Outcome::Completed);
    }
    if (seen.job.ending == Ending::PowerCut) != (*seen.end == End::PowerCut) {
        return Some(Outcome::NotCut);
    }
    if !seen.output_complete {
        return Some(Outcome::OutputLost);
    }
    // It says on the console, too, that there are leaks, and not which.
    if let Some(leak) = unreferenced(seen.events) {
        return Some(leak);
    }
    let splats = console::splats(seen.console, seen.allowed);
    if !splats.is_empty() {
        return Some(Outcome::Splat {
            lines: splats.into_iter().map(str::to_owned).collect(),
        });
    }
    // A guest whose power is cut has no last line.
    if seen.job.ending == Ending::PowerOff && !console::is_whole(seen.console) {
        return Some(Outcome::OutputLost);
    }
    let expected = EXPECTED_TAINT | console::allowed_taint(seen.console, seen.allowed);
    seen.events
        .iter()
        .find_map(|event| match event {
            Event::UnloadRefused(refusal) => Some(Outcome::UnloadRefused(refusal.clone())),
            Event::Ready { taint, .. } | Event::Down { taint } | Event::AwaitsCut { taint }
                if taint & !expected != 0 =>
            {
                Some(Outcome::Tainted {
                    flags: taint & !expected,
                })
            }
            Event::Down { taint } | Event::AwaitsCut { taint }
                if has_module(seen.events) && taint & OUT_OF_TREE == 0 =>
            {
                Some(Outcome::NotTainted { flags: *taint })
            }
            Event::NotStarted { program, refusal } => Some(Outcome::NotStarted {
                program: program_name(seen.job, *program),
                refusal: refusal.clone(),
            }),
            _ => None,
        })
        .or_else(|| leaked(seen.events))
}

fn has_module(events: &[Event]) -> bool {
    events.contains(&Event::ModuleLoaded)
}

/// Compares the first count of memory with the last one.
fn leaked(events: &[Event]) -> Option<Outcome> {
    let mut counts = events.iter().filter_map(|event| match event {
        Event::Unaccounted { kib } => Some(*kib),
        _ => None,
    });
    let before = counts.next()?;
    let kib = counts.next_back()?.saturating_sub(before);
    (kib > LEAK_KIB).then_some(Outcome::Leaked { kib })
}

/// What the kernel's own search for leaks has found.
fn unreferenced(events: &[Event]) -> Option<Outcome> {
    events.iter().find_map(|event| match event {
        Event::Scanned {
            unreferenced,
            report,
        } if *unreferenced > 0 => Some(Outcome::Unreferenced {
            count: *unreferenced,
            report: report.clone(),
        }),
        _ => None,
    })
}

fn program_name(job: &Job, index: usize) -> String {
    match &job.work {
        Work::Programs(programs) => programs.get(index).map_or_else(String::new, Program::name),
        Work::Shell(_) => "sh".to_owned(),
    }
}

fn results(seen: &Observed<'_>) -> Outcome {
    let Work::Programs(programs) = &seen.job.work else {
        return Outcome::Completed;
    };
    if !programs.iter().any(|program| program.ktap) {
        return Outcome::Completed;
    }
    let ktap = ktap::parse(seen.ktap);
    let of_results = of_results(&ktap);
    if matches!(of_results, Outcome::Passed { .. } | Outcome::Skipped { .. }) {
        let promised = programs
            .iter()
            .enumerate()
            .filter(|(_, program)| program.ktap);
        for (index, program) in promised {
            if let Some(why) = contradiction(&program.name(), index, seen.events) {
                return Outcome::Contradicted { why };
            }
        }
    }
    of_results
}

/// What the results alone say.
fn of_results(ktap: &Ktap) -> Outcome {
    let Ktap {
        results,
        planned,
        problem,
    } = ktap;
    if let Some(problem) = problem {
        return Outcome::Unparsable {
            why: problem.to_string(),
        };
    }
    if results.len() < *planned {
        return Outcome::MissingTests {
            planned: *planned,
            seen: results.len(),
        };
    }
    let failed: Vec<String> = results
        .iter()
        .filter(|result| result.verdict == Verdict::NotOk)
        .map(|result| result.name.clone())
        .collect();
    let passed = results
        .iter()
        .filter(|result| result.verdict == Verdict::Ok)
        .count();
    match (failed.is_empty(), passed, results.len()) {
        (_, _, 0) => Outcome::NoTests,
        (false, _, total) => Outcome::Failed { failed, total },
        (true, 0, skipped) => Outcome::Skipped { skipped },
        (true, passed, total) => Outcome::Passed {
            passed,
            skipped: total - passed,
        },
    }
}

/// What the status of a program says against results that are all good.
fn contradiction(name: &str, index: usize, events: &[Event]) -> Option<String> {
    let ended = events.iter().find_map(|event| match event {
        Event::Exited { program, code } if *program == index => Some(Ok(*code)),
        Event::Signaled { program, signal } if *program == index => Some(Err(*signal)),
        _ => None,
    });
    match ended {
        // 4 is "nothing ran: everything was skipped", of this program's part at least.
        Some(Ok(0 | 4)) => None,
        Some(Ok(code)) => Some(format!(
            "no result is `not ok`, but {name} exited with {code}"
        )),
        Some(Err(signal)) => Some(format!(
            "no result is `not ok`, but {name} was killed by signal {signal}"
        )),
        None => Some(format!("no result is `not ok`, but {name} never ended")),
    }
}
