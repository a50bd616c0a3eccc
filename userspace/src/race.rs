//! Race: processes that run at the same time, each on a CPU of its own, and meet before every round.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::cpu;
use crate::error::{Error, Result};
use crate::fixture::Fixture;
use crate::object::Request;
use crate::process::{End, Process};
use crate::sys::Mapping;
use crate::turn::TURN;

/// One racer's view of the race.
#[derive(Debug)]
pub struct Lane<'a> {
    /// Which racer this is, from 0.
    pub index: usize,
    racers: usize,
    deadline: Instant,
    board: &'a Mapping,
}

/// What the racers counted.
#[derive(Debug)]
pub struct Tally(Mapping);

// The board is a page that all racers inherit. The words on which they meet have a cache line each.
const ARRIVED: usize = 0;
const GO: usize = 64;
const STOP: usize = 128;
const COUNTERS: usize = 256;

/// How often a racer looks for the others before it gives way: who spins leaves at the same time.
const SPINS: u32 = 20_000;

/// In `GO`: the meetings that are over, and whether the race is.
const OVER: u64 = 1 << 63;

/// Runs `body` in `racers` processes until they stop, and returns what they counted.
///
/// `limit` bounds the time: after it the next meeting is the last.
///
/// # Errors
///
/// If a racer cannot be started or does not come to its end.
pub fn run(
    fixture: &Fixture,
    racers: usize,
    limit: Duration,
    body: impl Fn(&Lane<'_>) -> Result<()>,
) -> Result<Tally> {
    let board = Request::anonymous(libc::MAP_SHARED).map()?;
    let deadline = Instant::now() + limit;
    let mut running = Vec::new();
    for index in 0..racers {
        let lane = Lane {
            index,
            racers,
            deadline,
            board: &board,
        };
        let cpu = fixture.cpus.get(index % fixture.cpus.len().max(1));
        let race = || {
            cpu.map_or(Ok(()), |cpu| cpu::pin(*cpu))
                .and_then(|()| lane.meet())
                .and_then(|_| body(&lane))
        };
        running.push(Process::fork(format!("racer {index}"), || match race() {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("racer {index}: {error}");
                1
            }
        })?);
    }
    for (index, racer) in running.into_iter().enumerate() {
        let end = racer.wait(limit + TURN)?;
        if end != End::Exited(0) {
            return Err(Error::Gone {
                who: format!("racer {index} ({end:?})"),
                what: "the end of the race".to_owned(),
            });
        }
    }
    Ok(Tally(board))
}

impl Lane<'_> {
    /// Waits until every racer is here; `false` if the race is over. All racers get the same answer.
    ///
    /// # Errors
    ///
    /// If somebody does not come.
    pub fn meet(&self) -> Result<bool> {
        let racers = self.racers as u64;
        let arrived = self.board.long(ARRIVED)?.fetch_add(1, Ordering::AcqRel) + 1;
        let meeting = arrived.div_ceil(racers);
        let go = self.board.long(GO)?;
        if arrived == meeting * racers {
            let asked = self.board.long(STOP)?.load(Ordering::Relaxed) != 0;
            let over = asked || Instant::now() > self.deadline;
            go.store(meeting | if over { OVER } else { 0 }, Ordering::Release);
            return Ok(!over);
        }
        let give_up = Instant::now() + TURN;
        for spins in 0_u32.. {
            let state = go.load(Ordering::Acquire);
            if state & !OVER >= meeting {
                return Ok(state & OVER == 0);
            }
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            // Two processes on one CPU must give way to each other.
            std::thread::yield_now();
            if Instant::now() > give_up {
                break;
            }
        }
        Err(Error::Deadline {
            what: format!("the others by racer {}", self.index),
            timeout: TURN,
        })
    }

    /// Asks for the next meeting to be the last.
    ///
    /// # Errors
    ///
    /// Never in practice.
    pub fn stop(&self) -> Result<()> {
        self.board.long(STOP)?.store(1, Ordering::Release);
        Ok(())
    }

    /// Whether somebody asked to stop, or the time is over.
    ///
    /// # Errors
    ///
    /// Never in practice.
    pub fn stopped(&self) -> Result<bool> {
        let asked = self.board.long(STOP)?.load(Ordering::Acquire) != 0;
        Ok(asked || Instant::now() > self.deadline)
    }

    /// Adds to a counter and returns its new value.
    ///
    /// # Errors
    ///
    /// If there is no such counter.
    pub fn count(&self, counter: usize, more: u64) -> Result<u64> {
        let counter = self.board.long(COUNTERS + counter * size_of::<u64>())?;
        Ok(counter.fetch_add(more, Ordering::Relaxed) + more)
    }
}

impl Tally {
    /// The value of a counter.
    ///
    /// # Errors
    ///
    /// If there is no such counter.
    pub fn get(&self, counter: usize) -> Result<u64> {
        let counter = self.0.long(COUNTERS + counter * size_of::<u64>())?;
        Ok(counter.load(Ordering::Acquire))
    }
}
