//! Stress: processes that use the device in random and hostile ways, by a seed that replays.
//!
//! A run is rounds. In each the module is loaded anew, with a buffer of another length, and workers do
//! [`operation::Operation`]s, drawn from the seed alone. In most rounds somebody keeps the module, so that no
//! attempt to unload it may succeed; in every fourth it comes and goes under the workers. What a call answers is
//! compared with what `docs/driver.md` allows; bytes that one worker alone writes with what it has written; and
//! when a round is over, nobody may have left anything behind.

use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::device::{DEFAULT_NODES, Device};
use crate::error::{Error, Result};
use crate::process::{self, Process};
use crate::sys::ioctl;

pub mod board;
mod memory;
mod module;
pub mod operation;
mod worker;

use board::Board;
use module::Params;
use operation::{COUNTER, Draw, KINDS, Operation};
use worker::{Round, Worker};

/// Time for a round to end after its deadline, on a busy host.
const PATIENCE: Duration = Duration::from_secs(300);

/// Steps of each worker in a round.
const STEPS: u64 = 2000;
/// Loads in a round in which the module comes and goes.
const CYCLES: usize = 20;
/// The longest buffer, in pages.
const LONGEST: usize = 16;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What all is drawn from.
    pub seed: u64,
    /// How long rounds begin.
    pub time: Duration,
    /// How many processes there are, at most [`operation::MAX_WORKERS`].
    pub nr_workers: usize,
    /// The only round to be done, instead of those that there is time for.
    pub round: Option<u64>,
    /// The only worker to be at work.
    pub only: Option<usize>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// How many rounds there were, and in how many the module came and went.
    pub nr_rounds: (u64, u64),
    /// How many operations of each kind did something, and how they ended.
    pub counts: Vec<(u64, String)>,
    /// What was not to be.
    pub violations: Vec<String>,
    /// What the kernel had for itself before, and after, in KiB.
    pub memory: (u64, u64),
}

impl Plan {
    /// The command that does this round again.
    fn again(&self, round: u64) -> String {
        let (seed, workers) = (self.seed, self.nr_workers);
        format!("mmapdemo stress --seed {seed} --workers {workers} --round {round}")
    }

    /// How long the buffer is in this round, and whether the module comes and goes.
    fn kind_of(&self, round: u64) -> (usize, bool) {
        let draw = Draw {
            seed: self.seed,
            round,
            worker: usize::MAX,
            step: 0,
        };
        (draw.rng().usize(2..=LONGEST), round % 4 == 3)
    }

    /// Does it all; `begun` is told of each round.
    ///
    /// # Errors
    ///
    /// If it could not be done; then nothing is said of the driver.
    pub fn run(&self, begun: impl Fn(u64)) -> Result<Report> {
        let board = Board::new()?;
        let deadline = Instant::now() + self.time;
        let mut report = Report::default();
        let mut round = self.round.unwrap_or(0);
        loop {
            begun(round);
            let (_, racing) = self.kind_of(round);
            report.nr_rounds.0 += 1;
            report.nr_rounds.1 += u64::from(racing);
            let violations = self.round(&board, round, deadline)?;
            report.violations.extend(violations);
            if report.nr_rounds.0 == 1 {
                // What the first round costs, or frees from before, is no leak.
                report.memory.0 = memory::of_kernel()?;
            }
            round += 1;
            if self.round.is_some() || !report.violations.is_empty() || Instant::now() > deadline {
                break;
            }
        }
        module::reload(Params::Default)?;
        report.memory.1 = memory::settled(report.memory.0)?;
        let (before, after) = report.memory;
        if memory::is_leak(before, after) {
            report.violations.push(format!(
                "the kernel had {before} KiB after the first round, and has {after} KiB after the last"
            ));
        }
        for kind in 0..KINDS.len() {
            report.counts.push(board.counts(kind)?);
        }
        Ok(report)
    }

    /// Does one round, and says what was not to be.
    fn round(&self, board: &Board, number: u64, deadline: Instant) -> Result<Vec<String>> {
        let (nr_pages, racing) = self.kind_of(number);
        module::reload(Params::Pages(nr_pages))?;
        board.set_over(false)?;
        let anchor = (!racing).then(|| Device::new(DEFAULT_NODES[0]).open());
        let anchor = anchor.transpose()?;
        if let Some(anchor) = &anchor {
            for pgoff in 0..nr_pages {
                let page = ioctl::page_info(anchor.as_fd(), pgoff as u64);
                let page = page.map_err(Error::call("PAGE_INFO", DEFAULT_NODES[0]))?;
                board.set_frame(pgoff, page.pfn)?;
            }
        }
        let round = Round {
            board,
            nr_pages,
            racing,
            nr_steps: STEPS,
            // Who replays a round waits for its end.
            deadline: if self.round.is_some() {
                Instant::now() + PATIENCE
            } else {
                deadline
            },
        };
        let mut violations = self.work(&round, number)?;
        if violations.is_empty() && !racing {
            violations.extend(self.check_counter(board)?);
        }
        drop(anchor);
        if violations.is_empty() {
            let unused = module::await_unused(nr_pages);
            violations.extend(
                unused
                    .err()
                    .map(|error| format!("after round {number}: {error}")),
            );
        }
        let again = self.again(number);
        for violation in &mut violations {
            let _ = write!(violation, "\n  again: {again}");
        }
        Ok(violations)
    }

    /// Has all workers do their steps.
    fn work(&self, round: &Round<'_>, number: u64) -> Result<Vec<String>> {
        let wanted = |worker: &usize| self.only.is_none_or(|only| only == *worker);
        let mut running = Vec::new();
        for worker in (0..self.nr_workers).filter(wanted) {
            let draw = Draw {
                seed: self.seed,
                round: number,
                worker,
                step: 0,
            };
            let process = Process::fork(format!("worker {worker}"), || work(round, draw))?;
            running.push((draw, process));
        }
        if round.racing {
            module::cycle(round.board, round.nr_pages, CYCLES, round.deadline)?;
            round.board.set_over(true)?;
        }
        let mut violations = Vec::new();
        for (mut draw, process) in running {
            let end = process.wait(PATIENCE + self.time)?;
            draw.step = round.board.step(draw.worker)?;
            if end != process::End::Exited(0) {
                // What the others do is not to the point any more.
                round.board.set_over(true)?;
                let operation = Operation::draw(draw, round.nr_pages);
                let Draw { worker, step, .. } = draw;
                violations.push(format!(
                    "worker {worker} ended by {end:?} in round {number} at step {step}: {operation:?}"
                ));
            }
        }
        Ok(violations)
    }

    /// Compares the number that all have incremented with how often they have.
    fn check_counter(&self, board: &Board) -> Result<Option<String>> {
        let bytes = Device::new(DEFAULT_NODES[1]).read(COUNTER, size_of::<u64>())?;
        let number = bytes.try_into().map_or(0, u64::from_ne_bytes);
        let expected = board.take_increments()?;
        Ok((number != expected).then(|| {
            format!(
                "a number was incremented {expected} times and is {number} (seed {})",
                self.seed
            )
        }))
    }
}

/// What a worker does: its status is 0 if all was as it should be.
fn work(round: &Round<'_>, draw: Draw) -> i32 {
    let done = Worker::new(round, draw)
        .map_err(Into::into)
        .and_then(|mut worker| {
            if round.racing {
                worker.run_until_over()
            } else {
                worker.run()
            }
        });
    match done {
        Ok(()) => 0,
        Err(trouble) => {
            let Draw {
                worker,
                round: number,
                ..
            } = draw;
            eprintln!("stress: worker {worker} in round {number}: {trouble}");
            let _ = round.board.set_over(true);
            1
        }
    }
}

impl Report {
    /// How many operations did something.
    #[must_use]
    pub fn nr_operations(&self) -> u64 {
        self.counts.iter().map(|(count, _)| count).sum()
    }

    /// As KTAP: a result for each kind, and one for all that was seen.
    ///
    /// A kind that never did anything is not ok, unless only a part was to be done (`partly`).
    #[must_use]
    pub fn ktap(&self, partly: bool) -> String {
        let mut text = format!("KTAP version 1\n1..{}\n", KINDS.len() + 1);
        for (index, name) in KINDS.iter().enumerate() {
            let number = index + 1;
            let none = (0, String::new());
            let (count, ends) = self.counts.get(index).unwrap_or(&none);
            let _ = match (count, partly) {
                (0, false) => writeln!(text, "not ok {number} stress-{name} # never done"),
                (0, true) => writeln!(text, "ok {number} stress-{name} # SKIP not in this part"),
                _ => writeln!(text, "ok {number} stress-{name} # {ends}"),
            };
        }
        let word = if self.violations.is_empty() {
            "ok"
        } else {
            "not ok"
        };
        let first = self
            .violations
            .first()
            .and_then(|violation| violation.lines().next());
        let _ = writeln!(
            text,
            "{word} {} stress-as-documented # {}",
            KINDS.len() + 1,
            first
                .unwrap_or("nothing that the driver does not promise")
                .replace('#', "")
        );
        text
    }

    /// For people.
    #[must_use]
    pub fn text(&self, plan: &Plan) -> String {
        let mut text = String::new();
        for ((count, ends), name) in self.counts.iter().zip(KINDS) {
            let _ = writeln!(text, "  {name:<14} {count:>8}  {ends}");
        }
        let (rounds, races) = self.nr_rounds;
        let (before, after) = self.memory;
        let _ = writeln!(
            text,
            "seed {}: {} operations of {} workers in {rounds} rounds, {races} of them with the module coming and \
             going; the kernel had {before} KiB for itself, and has {after}",
            plan.seed,
            self.nr_operations(),
            plan.nr_workers,
        );
        for violation in &self.violations {
            let _ = writeln!(text, "NOT ALLOWED: {violation}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(counts: u64, violations: &[&str]) -> Report {
        Report {
            counts: vec![(counts, format!("done {counts}")); KINDS.len()],
            violations: violations.iter().map(|&text| text.to_owned()).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn a_violation_is_a_result_that_is_not_ok() {
        let good = report(5, &[]).ktap(false);
        assert_eq!(
            good.lines().filter(|line| line.starts_with("ok ")).count(),
            KINDS.len() + 1
        );
        let bad = report(5, &["a # b\n  again: c"]).ktap(false);
        let last = bad.lines().last().unwrap();
        assert_eq!(
            last,
            format!("not ok {} stress-as-documented # a  b", KINDS.len() + 1)
        );
    }

    #[test]
    fn what_was_never_done_is_no_pass() {
        assert!(
            report(0, &[])
                .ktap(false)
                .contains("not ok 1 stress-open # never done")
        );
        assert!(
            Report::default()
                .ktap(false)
                .contains("not ok 1 stress-open # never done")
        );
        assert!(
            report(0, &[])
                .ktap(true)
                .contains("ok 1 stress-open # SKIP")
        );
    }

    #[test]
    fn a_seed_decides_how_each_round_is() {
        let plan = Plan {
            seed: 5,
            time: Duration::ZERO,
            nr_workers: 1,
            round: None,
            only: None,
        };
        let kinds: Vec<_> = (0..8).map(|round| plan.kind_of(round)).collect();
        assert_eq!(
            kinds,
            (0..8).map(|round| plan.kind_of(round)).collect::<Vec<_>>()
        );
        assert_eq!(kinds.iter().filter(|(_, racing)| *racing).count(), 2);
        assert!(
            kinds
                .iter()
                .all(|(nr_pages, _)| (2..=LONGEST).contains(nr_pages))
        );
    }
}
