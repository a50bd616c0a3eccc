//! Operation: one thing that a worker does, drawn by its seed and its number alone; pure.
//!
//! Nothing that has happened goes into the draw, so that the same seed is the same operations, whatever the
//! kernel answered and whoever else was at work.

use fastrand::Rng;
use nix::sys::mman::ProtFlags;

use crate::map_call::MapCall;
use crate::sys::PAGE_SIZE;

mod drawer;

use drawer::Drawer;

/// How many files a worker may have open.
pub const NR_FILES: usize = 3;
/// How many areas of memory a worker may have mapped.
pub const NR_AREAS: usize = 4;
/// How many children a worker may have.
pub const NR_CHILDREN: usize = 2;
/// How many areas a worker may have pinned.
pub const NR_PINS: usize = 2;

/// The bytes that belong to one worker alone, in the first page: one lane each.
pub const LANE_LEN: usize = 64;
/// How many workers there can be: their lanes are the first half of the first page.
pub const MAX_WORKERS: usize = 32;
/// Where the number is that all increment: at the end of the first page.
pub const COUNTER: usize = PAGE_SIZE - 8;

/// Which draw: what is needed to have it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Of the whole run.
    pub seed: u64,
    /// Counted from 0.
    pub round: u64,
    /// Counted from 0.
    pub worker: usize,
    /// Counted from 0.
    pub step: u64,
}

impl Draw {
    /// Random numbers for this draw alone.
    #[must_use]
    pub fn rng(self) -> Rng {
        let parts = [self.round, self.worker as u64, self.step];
        parts
            .into_iter()
            .fold(Rng::with_seed(self.seed), |mut rng, part| {
                Rng::with_seed(rng.u64(..) ^ part)
            })
    }
}

/// Where the argument of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In memory of the worker's own.
    Good,
    /// There, but only so many bytes before what is not accessible.
    Edge(usize),
    /// Where nothing is accessible.
    Nowhere,
    /// In the kernel's half of the addresses.
    Kernel(usize),
    /// In the last page of this area, which shows the device itself.
    Area(usize),
}

/// What a lane is written or read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A shared mapping of the first page: this area.
    Area(usize),
    /// `pwrite(2)` or `pread(2)` of this file.
    Call(usize),
    /// An ioctl on this file: fill or checksum.
    Ioctl(usize),
}

/// One thing that a worker does. Numbers of files and areas may name none; then nothing is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are arguments of the calls that are named"
)]
pub enum Operation {
    /// `open(2)` of the node of this number.
    Open {
        file: usize,
        node: usize,
        flags: i32,
    },
    /// `close(2)`.
    Close { file: usize },
    /// `mmap(2)`.
    Map {
        area: usize,
        file: usize,
        len: usize,
        prot: i32,
        flags: i32,
        offset: i64,
    },
    /// `munmap(2)` of all of it, or of the pages before or after a page.
    Unmap {
        area: usize,
        page: usize,
        part: Part,
    },
    /// A load.
    Load {
        area: usize,
        page: usize,
        offset: usize,
    },
    /// A store.
    Store {
        area: usize,
        page: usize,
        offset: usize,
        value: u8,
    },
    /// `mremap(2)` to another length.
    Resize { area: usize, len: usize },
    /// `mremap(2)` to another place.
    Move { area: usize },
    /// `madvise(2)`.
    Advise {
        area: usize,
        page: usize,
        nr_pages: usize,
        advice: i32,
    },
    /// `mprotect(2)`.
    Protect {
        area: usize,
        page: usize,
        nr_pages: usize,
        prot: i32,
    },
    /// `mlock(2)` or `munlock(2)`.
    Lock { area: usize, lock: bool },
    /// `msync(2)`.
    Sync { area: usize, flags: i32 },
    /// `pread(2)`.
    Read {
        file: usize,
        at: Where,
        len: usize,
        offset: i64,
    },
    /// `pwrite(2)`, of bytes outside of the first page.
    Write {
        file: usize,
        at: Where,
        len: usize,
        offset: i64,
        value: u8,
    },
    /// `lseek(2)`.
    Seek {
        file: usize,
        offset: i64,
        whence: usize,
    },
    /// `ioctl(2)`; the numbers are the first three of the structure.
    Ioctl {
        file: usize,
        request: u32,
        at: Where,
        numbers: [u64; 3],
    },
    /// `fsync(2)`, `ftruncate(2)`, `poll(2)` and the like.
    Other {
        file: usize,
        call: Other,
        number: i64,
    },
    /// Writes the worker's own lane.
    WriteLane { by: By, value: u8 },
    /// Reads the worker's own lane, which has to be as it was written.
    ReadLane { by: By },
    /// Increments the number of all, in memory or by ioctl.
    Increment { by: By },
    /// `fork(2)`; the child touches what it has inherited.
    Fork { child: usize, nr_touches: usize },
    /// Waits for a child, or kills it.
    Reap { child: usize, kill: bool },
    /// Pins an area for `io_uring(7)`.
    Pin { pin: usize, area: usize },
    /// Gives a pinned area back.
    Unpin { pin: usize },
    /// `vmsplice(2)` to a pipe, and what comes out of that.
    Splice { area: usize },
    /// Reads what `/proc` shows of an area or a file.
    Look { area: usize, file: usize },
    /// `delete_module(2)`.
    Rmmod,
    /// `finit_module(2)`.
    Insmod,
}

/// What is unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All.
    All,
    /// What is before the page.
    Before,
    /// The page and what is behind.
    After,
}

/// Calls about a file that say little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the names of the calls")]
pub enum Other {
    Fsync,
    Ftruncate,
    Poll,
    Fallocate,
    Readahead,
}

/// The names of the kinds, in the order of [`Operation::kind`].
pub const KINDS: [&str; 28] = [
    "open",
    "close",
    "mmap",
    "munmap",
    "load",
    "store",
    "mremap-resize",
    "mremap-move",
    "madvise",
    "mprotect",
    "mlock",
    "msync",
    "pread",
    "pwrite",
    "lseek",
    "ioctl",
    "file-calls",
    "write-lane",
    "read-lane",
    "increment",
    "fork",
    "wait-kill",
    "pin",
    "unpin",
    "vmsplice",
    "proc",
    "rmmod",
    "insmod",
];

impl Operation {
    /// The operation of this draw, for a buffer of `nr_pages` pages, at least 2.
    #[must_use]
    pub fn draw(draw: Draw, nr_pages: usize) -> Self {
        Drawer {
            rng: draw.rng(),
            nr_pages,
        }
        .operation()
    }

    /// Which of [`KINDS`] it is.
    #[must_use]
    pub fn kind(&self) -> usize {
        match self {
            Self::Open { .. } => 0,
            Self::Close { .. } => 1,
            Self::Map { .. } => 2,
            Self::Unmap { .. } => 3,
            Self::Load { .. } => 4,
            Self::Store { .. } => 5,
            Self::Resize { .. } => 6,
            Self::Move { .. } => 7,
            Self::Advise { .. } => 8,
            Self::Protect { .. } => 9,
            Self::Lock { .. } => 10,
            Self::Sync { .. } => 11,
            Self::Read { .. } => 12,
            Self::Write { .. } => 13,
            Self::Seek { .. } => 14,
            Self::Ioctl { .. } => 15,
            Self::Other { .. } => 16,
            Self::WriteLane { .. } => 17,
            Self::ReadLane { .. } => 18,
            Self::Increment { .. } => 19,
            Self::Fork { .. } => 20,
            Self::Reap { .. } => 21,
            Self::Pin { .. } => 22,
            Self::Unpin { .. } => 23,
            Self::Splice { .. } => 24,
            Self::Look { .. } => 25,
            Self::Rmmod => 26,
            Self::Insmod => 27,
        }
    }
}

/// The call of an [`Operation::Map`].
#[must_use]
pub fn call(len: usize, prot: i32, flags: i32, offset: i64) -> MapCall {
    MapCall {
        len,
        prot: ProtFlags::from_bits_retain(prot),
        flags,
        offset,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::uapi;

    fn first(seed: u64, worker: usize) -> Vec<Operation> {
        let draw = |step| {
            Operation::draw(
                Draw {
                    seed,
                    round: 3,
                    worker,
                    step,
                },
                4,
            )
        };
        (0..5000).map(draw).collect()
    }

    #[test]
    fn the_same_seed_is_the_same_operations_and_another_is_others() {
        assert_eq!(first(7, 1), first(7, 1));
        assert_ne!(first(7, 1), first(8, 1));
        assert_ne!(first(7, 1), first(7, 2));
    }

    #[test]
    fn every_kind_is_drawn() {
        let kinds: BTreeSet<_> = first(1, 0).iter().map(Operation::kind).collect();
        assert_eq!(kinds.len(), KINDS.len());
    }

    /// What a report says of a seed is to be of use to whoever has the same commit, whatever comes later.
    #[test]
    fn a_seed_that_was_printed_draws_the_same_with_another_version_of_the_generator() {
        let mut rng = Draw {
            seed: 1,
            round: 2,
            worker: 3,
            step: 4,
        }
        .rng();
        assert_eq!(rng.u64(..), PINNED);
    }

    const PINNED: u64 = 11_818_722_340_145_296_245;

    #[test]
    fn no_operation_that_may_succeed_writes_to_the_first_page() {
        for operation in first(5, 0) {
            let end = 4 * PAGE_SIZE as u64;
            match operation {
                Operation::Write { offset, .. } => assert!(!(0..4096).contains(&offset)),
                Operation::Ioctl {
                    request,
                    numbers: [offset, len, _],
                    ..
                } if request == uapi::FILL => {
                    let fits = offset.checked_add(len).is_some_and(|until| until <= end);
                    assert!(offset >= 4096 || !fits, "{operation:?}");
                }
                Operation::Ioctl {
                    request,
                    numbers: [offset, ..],
                    ..
                } if request == uapi::INCREMENT => {
                    assert!(offset >= 4096 || offset % 8 != 0, "{operation:?}");
                }
                _ => {}
            }
        }
    }
}
