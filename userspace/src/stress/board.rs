//! Board: shared memory in which workers note where they are and what came of their operations.
//!
//! It survives its writers: of a worker that was killed, the parent still knows the last step.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::operation::{KINDS, MAX_WORKERS};
use crate::error::Result;
use crate::object::Request;
use crate::sys::{Mapping, PAGE_SIZE};

/// What came of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was done.
    Done,
    /// There was nothing to do it with.
    Idle,
    /// The kernel refused.
    Refused(Errno),
    /// A signal came instead.
    Signal(Signal),
}

/// How many ends are told apart.
const NR_ENDS: usize = 256;
const FIRST_SIGNAL: usize = 2;
const FIRST_ERRNO: usize = 2 + 64;

impl End {
    fn index(self) -> usize {
        let number = |number: i32| usize::try_from(number).unwrap_or(0);
        let index = match self {
            Self::Done => 0,
            Self::Idle => 1,
            Self::Signal(signal) => FIRST_SIGNAL + number(signal as i32).min(63),
            Self::Refused(errno) => FIRST_ERRNO + number(errno as i32),
        };
        index.min(NR_ENDS - 1)
    }

    /// The name of the end with this index.
    fn name(index: usize) -> String {
        let number = |from: usize| i32::try_from(index - from).unwrap_or(0);
        match index {
            0 => "done".to_owned(),
            1 => "idle".to_owned(),
            FIRST_SIGNAL..FIRST_ERRNO => Signal::try_from(number(FIRST_SIGNAL))
                .map_or_else(|_| "a signal".to_owned(), |signal| signal.to_string()),
            _ => format!("{:?}", Errno::from_raw(number(FIRST_ERRNO))),
        }
    }
}

/// Words of all.
const PAUSE: usize = 0;
const OVER: usize = 1;
const USES: usize = 2;
/// Words of one worker: its step, and how often it has incremented the number of all.
const WORKERS: usize = 8;
const WORDS: usize = 8;
const STEP: usize = 0;
const INCREMENTS: usize = 1;
const COUNTS: usize = WORKERS + WORDS * MAX_WORKERS;
const FRAMES: usize = COUNTS + KINDS.len() * NR_ENDS;
const MAX_PAGES: usize = 256;

/// The shared memory.
#[derive(Debug)]
pub struct Board(Mapping);

impl Board {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// If there is no memory.
    pub fn new() -> Result<Self> {
        let len = ((FRAMES + MAX_PAGES) * size_of::<u64>()).next_multiple_of(PAGE_SIZE);
        Request::anonymous(libc::MAP_SHARED)
            .len(len)
            .map()
            .map(Self)
    }

    fn word(&self, index: usize) -> Result<&AtomicU64> {
        self.0.long(index * size_of::<u64>())
    }

    fn get(&self, index: usize) -> Result<u64> {
        self.word(index).map(|word| word.load(Ordering::Relaxed))
    }

    fn set(&self, index: usize, value: u64) -> Result<()> {
        self.word(index)
            .map(|word| word.store(value, Ordering::Relaxed))
    }

    /// Notes that a worker begins this step.
    ///
    /// # Errors
    ///
    /// If there is no such worker.
    pub fn begin(&self, worker: usize, step: u64) -> Result<()> {
        self.set(WORKERS + WORDS * worker + STEP, step)
    }

    /// The step that a worker has begun last.
    ///
    /// # Errors
    ///
    /// If there is no such worker.
    pub fn step(&self, worker: usize) -> Result<u64> {
        self.get(WORKERS + WORDS * worker + STEP)
    }

    /// Counts an operation of this kind.
    ///
    /// # Errors
    ///
    /// If there is no such kind.
    pub fn count(&self, kind: usize, end: End) -> Result<()> {
        let word = self.word(COUNTS + kind * NR_ENDS + end.index())?;
        word.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Counts how often a worker has incremented the number of all.
    ///
    /// # Errors
    ///
    /// If there is no such worker.
    pub fn count_increments(&self, worker: usize, count: u64) -> Result<()> {
        let word = self.word(WORKERS + WORDS * worker + INCREMENTS)?;
        word.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// How often all together have incremented the number in this round, and from now on never.
    ///
    /// # Errors
    ///
    /// None, with a board that is whole.
    pub fn take_increments(&self) -> Result<u64> {
        let mut sum = 0;
        for worker in 0..MAX_WORKERS {
            let word = self.word(WORKERS + WORDS * worker + INCREMENTS)?;
            sum += word.swap(0, Ordering::Relaxed);
        }
        Ok(sum)
    }

    /// Asks all who use the module to let go of it, or to go on.
    ///
    /// # Errors
    ///
    /// None, with a board that is whole.
    pub fn set_pause(&self, pause: bool) -> Result<()> {
        self.set(PAUSE, pause.into())
    }

    /// Whether all are to let go of the module.
    ///
    /// # Errors
    ///
    /// None, with a board that is whole.
    pub fn pause(&self) -> Result<bool> {
        Ok(self.get(PAUSE)? != 0)
    }

    /// Counts that somebody got hold of the module while it comes and goes.
    ///
    /// # Errors
    ///
    /// None, with a board that is whole.
    pub fn count_use(&self) -> Result<()> {
        let word = self.word(USES)?;
        word.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// How often somebody got hold of it.
    ///
    /// # Errors
    ///
    /// None, with a board that is whole.
    pub fn uses(&self) -> Result<u64> {
        self.get(USES)
    }

    /// Says that the round is over, or that another begins.
    ///
    /// # Errors
    ///
    /// None, with a board that is whole.
    pub fn set_over(&self, over: bool) -> Result<()> {
        self.set(OVER, over.into())
    }

    /// Whether the round is over.
    ///
    /// # Errors
    ///
    /// None, with a board that is whole.
    pub fn over(&self) -> Result<bool> {
        Ok(self.get(OVER)? != 0)
    }

    /// Notes in which frame the page at `pgoff` of the buffer is.
    ///
    /// # Errors
    ///
    /// If there can be no such page.
    pub fn set_frame(&self, pgoff: usize, pfn: u64) -> Result<()> {
        self.set(FRAMES + pgoff, pfn)
    }

    /// In which frame the page at `pgoff` is.
    ///
    /// # Errors
    ///
    /// If there can be no such page.
    pub fn frame(&self, pgoff: usize) -> Result<u64> {
        self.get(FRAMES + pgoff)
    }

    /// How many operations of this kind did something, and how they all ended, in words.
    ///
    /// # Errors
    ///
    /// If there is no such kind.
    pub fn counts(&self, kind: usize) -> Result<(u64, String)> {
        let (mut sum, mut words) = (0, String::new());
        for index in 0..NR_ENDS {
            let count = self.get(COUNTS + kind * NR_ENDS + index)?;
            if count == 0 {
                continue;
            }
            if index != End::Idle.index() {
                sum += count;
            }
            let comma = if words.is_empty() { "" } else { ", " };
            let _ = write!(words, "{comma}{} {count}", End::name(index));
        }
        Ok((sum, words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_by_their_names_and_idle_is_no_operation() {
        let board = Board::new().unwrap();
        for end in [
            End::Done,
            End::Done,
            End::Idle,
            End::Refused(Errno::EHWPOISON),
            End::Signal(Signal::SIGBUS),
        ] {
            board.count(3, end).unwrap();
        }
        let (sum, words) = board.counts(3).unwrap();
        assert_eq!(sum, 4);
        assert_eq!(words, "done 2, idle 1, SIGBUS 1, EHWPOISON 1");
        assert_eq!(board.counts(2).unwrap(), (0, String::new()));
    }

    #[test]
    fn words_of_different_owners_are_different_words() {
        let board = Board::new().unwrap();
        board.begin(MAX_WORKERS - 1, 5).unwrap();
        board.count_increments(MAX_WORKERS - 1, 1).unwrap();
        board.count_increments(0, 1).unwrap();
        board.count(0, End::Done).unwrap();
        board
            .count(KINDS.len() - 1, End::Refused(Errno::from_raw(1000)))
            .unwrap();
        board.set_frame(0, 9).unwrap();
        board.set_frame(MAX_PAGES - 1, 8).unwrap();
        assert_eq!(board.step(MAX_WORKERS - 1).unwrap(), 5);
        assert_eq!(board.take_increments().unwrap(), 2);
        assert_eq!(board.take_increments().unwrap(), 0);
        assert_eq!(
            (board.frame(0).unwrap(), board.frame(MAX_PAGES - 1).unwrap()),
            (9, 8)
        );
        assert!(!board.pause().unwrap() && !board.over().unwrap());
    }
}
