//! Operation: one thing that a worker does, drawn by its seed and its number alone; pure.
//!
//! Nothing that has happened goes into the draw, so that the same seed is the same operations, whatever the
//! kernel answered and whoever else was at work.

use fastrand::Rng;
use nix::sys::mman::ProtFlags;

use crate::map_call::MapCall;
use crate::sys::PAGE_SIZE;
use crate::uapi;

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

/// Which kind is drawn how often, in the order of [`KINDS`].
const WEIGHTS: [u32; KINDS.len()] = [
    10, 4, 16, 6, 20, 20, 4, 4, 10, 10, 3, 3, 8, 8, 4, 14, 4, 10, 12, 8, 2, 3, 1, 2, 2, 1, 2, 1,
];

/// Draws the parts of one operation.
struct Drawer {
    rng: Rng,
    nr_pages: usize,
}

impl Drawer {
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())]
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(..n) == 0
    }

    fn kind(&mut self) -> usize {
        let all: u32 = WEIGHTS.iter().sum();
        let mut left = self.rng.u32(..all);
        for (kind, weight) in WEIGHTS.into_iter().enumerate() {
            if left < weight {
                return kind;
            }
            left -= weight;
        }
        0
    }

    fn file(&mut self) -> usize {
        self.rng.usize(..NR_FILES)
    }

    fn area(&mut self) -> usize {
        self.rng.usize(..NR_AREAS)
    }

    fn page(&mut self) -> usize {
        self.rng.usize(..self.nr_pages)
    }

    fn operation(&mut self) -> Operation {
        let (file, area, kind) = (self.file(), self.area(), self.kind());
        if kind < 12 {
            return self.of_memory(kind, area, file);
        }
        match kind {
            12 => Operation::Read {
                file,
                at: self.place(),
                len: self.len(),
                offset: self.offset(),
            },
            13 => self.write(file),
            14 => Operation::Seek {
                file,
                offset: self.offset(),
                whence: self.rng.usize(..5),
            },
            15 => self.ioctl(file),
            16 => {
                let others = [
                    Other::Fsync,
                    Other::Ftruncate,
                    Other::Poll,
                    Other::Fallocate,
                    Other::Readahead,
                ];
                Operation::Other {
                    file,
                    call: self.pick(&others),
                    number: self.offset(),
                }
            }
            17 => Operation::WriteLane {
                by: self.by(file, area),
                value: self.rng.u8(1..),
            },
            18 => Operation::ReadLane {
                by: self.by(file, area),
            },
            19 => Operation::Increment {
                by: self.by(file, area),
            },
            20 => Operation::Fork {
                child: self.rng.usize(..NR_CHILDREN),
                nr_touches: self.rng.usize(1..40),
            },
            21 => Operation::Reap {
                child: self.rng.usize(..NR_CHILDREN),
                kill: self.one_in(3),
            },
            22 => Operation::Pin {
                pin: self.rng.usize(..NR_PINS),
                area,
            },
            23 => Operation::Unpin {
                pin: self.rng.usize(..NR_PINS),
            },
            24 => Operation::Splice { area },
            25 => Operation::Look { area, file },
            26 => Operation::Rmmod,
            _ => Operation::Insmod,
        }
    }

    /// One of the first twelve kinds.
    fn of_memory(&mut self, kind: usize, area: usize, file: usize) -> Operation {
        match kind {
            0 => Operation::Open {
                file,
                node: self.rng.usize(..3),
                flags: self.open_flags(),
            },
            1 => Operation::Close { file },
            2 => self.map(area, file),
            3 => {
                let part = self.pick(&[Part::All, Part::All, Part::Before, Part::After]);
                Operation::Unmap {
                    area,
                    page: self.page(),
                    part,
                }
            }
            4 => Operation::Load {
                area,
                page: self.page(),
                offset: self.rng.usize(..PAGE_SIZE),
            },
            5 => Operation::Store {
                area,
                page: self.page(),
                offset: self.rng.usize(..PAGE_SIZE),
                value: self.rng.u8(..),
            },
            6 => Operation::Resize {
                area,
                len: self.len(),
            },
            7 => Operation::Move { area },
            8 => Operation::Advise {
                area,
                page: self.page(),
                nr_pages: 1 + self.page(),
                advice: self.advice(),
            },
            9 => Operation::Protect {
                area,
                page: self.page(),
                nr_pages: 1 + self.page(),
                prot: self.prot(),
            },
            10 => Operation::Lock {
                area,
                lock: self.rng.bool(),
            },
            _ => {
                let (sync, async_) = (libc::MS_SYNC, libc::MS_ASYNC);
                let flags = [
                    sync,
                    async_,
                    sync | async_,
                    sync | libc::MS_INVALIDATE,
                    0,
                    -1,
                    8,
                ];
                Operation::Sync {
                    area,
                    flags: self.pick(&flags),
                }
            }
        }
    }

    fn open_flags(&mut self) -> i32 {
        let mut flags = libc::O_RDWR;
        if self.one_in(3) {
            flags = self.pick(&[libc::O_RDONLY, libc::O_RDONLY, libc::O_WRONLY, 3]);
        }
        // Not O_CREAT: in the moment without a module it would make a file in the place of the node.
        let others = [
            libc::O_APPEND,
            libc::O_NONBLOCK,
            libc::O_SYNC,
            libc::O_TRUNC,
            libc::O_NOATIME,
            libc::O_NOFOLLOW,
            libc::O_DIRECT,
            libc::O_DIRECTORY,
            libc::O_PATH,
        ];
        while self.one_in(5) {
            flags |= self.pick(&others);
        }
        flags
    }

    /// A length in bytes: mostly pages of the buffer, sometimes nonsense.
    fn len(&mut self) -> usize {
        let whole = (1 + self.page()) * PAGE_SIZE;
        match self.rng.u32(..10) {
            0 => self.pick(&[
                0,
                1,
                usize::MAX,
                usize::MAX / 2,
                1 << 47,
                1 << 31,
                usize::MAX - PAGE_SIZE,
            ]),
            1 => self.rng.usize(..2 * self.nr_pages * PAGE_SIZE),
            2 => (self.nr_pages + 1) * PAGE_SIZE,
            _ => whole,
        }
    }

    /// An offset in bytes: mostly pages of the buffer, sometimes nonsense.
    fn offset(&mut self) -> i64 {
        let page = i64::try_from(self.page() * PAGE_SIZE).unwrap_or(0);
        let end = i64::try_from(self.nr_pages * PAGE_SIZE).unwrap_or(0);
        match self.rng.u32(..8) {
            0 => self.pick(&[
                -1,
                i64::MIN,
                i64::MAX,
                i64::MAX - 4095,
                1 << 44,
                end,
                end - 1,
                end + 1,
            ]),
            1 => self.rng.i64(..end),
            _ => page,
        }
    }

    fn prot(&mut self) -> i32 {
        let (read, write, exec) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
        let usual = [
            read | write,
            read | write,
            read | write,
            read,
            write,
            libc::PROT_NONE,
            read | exec,
            exec,
        ];
        if self.one_in(16) {
            return self.pick(&[1 << 24, 1 << 25, 16, -1, read | 1 << 24]);
        }
        self.pick(&usual)
    }

    fn map(&mut self, area: usize, file: usize) -> Operation {
        let mut flags = self.pick(&[
            libc::MAP_SHARED,
            libc::MAP_SHARED,
            libc::MAP_PRIVATE,
            libc::MAP_PRIVATE,
        ]);
        if self.one_in(16) {
            flags = self.pick(&[0, libc::MAP_SHARED_VALIDATE, 8, 15]);
        }
        let others = [
            libc::MAP_POPULATE,
            libc::MAP_NORESERVE,
            libc::MAP_LOCKED,
            libc::MAP_NONBLOCK,
            libc::MAP_32BIT,
            libc::MAP_STACK,
            libc::MAP_GROWSDOWN,
            libc::MAP_HUGETLB,
            libc::MAP_SYNC,
        ];
        while self.one_in(5) {
            flags |= self.pick(&others);
        }
        let (mut len, mut offset) = (self.len(), self.offset());
        if !self.one_in(4) {
            let first = self.page();
            len = self.rng.usize(1..=self.nr_pages - first) * PAGE_SIZE;
            offset = i64::try_from(first * PAGE_SIZE).unwrap_or(0);
        }
        Operation::Map {
            area,
            file,
            len,
            prot: self.prot(),
            flags,
            offset,
        }
    }

    fn advice(&mut self) -> i32 {
        // Not MADV_HWPOISON and MADV_SOFT_OFFLINE (100, 101): they take the machine's memory away for good.
        let known = [
            0, 1, 2, 3, 4, 4, 4, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
            24, 25, 102, 103,
        ];
        if self.one_in(16) {
            return self.pick(&[5, 6, 7, 26, 99, 104, -1, i32::MIN]);
        }
        self.pick(&known)
    }

    fn place(&mut self) -> Where {
        match self.rng.u32(..8) {
            0 => Where::Edge(self.rng.usize(..2 * PAGE_SIZE)),
            1 => Where::Nowhere,
            2 => Where::Kernel(self.pick(&[
                0,
                usize::MAX,
                usize::MAX - 15,
                0xffff_8880_0000_0000,
                0xffff_ffff_8100_0000,
            ])),
            3 => Where::Area(self.area()),
            _ => Where::Good,
        }
    }

    /// Lanes and the number of all are in the first page, which a write that may succeed must spare.
    fn write(&mut self, file: usize) -> Operation {
        let offset = match self.offset() {
            offset @ 0..4096 => offset + 4096,
            offset => offset,
        };
        Operation::Write {
            file,
            at: self.place(),
            len: self.len(),
            offset,
            value: self.rng.u8(..),
        }
    }

    fn ioctl(&mut self, file: usize) -> Operation {
        let known = [
            uapi::INFO,
            uapi::PAGE_INFO,
            uapi::FILL,
            uapi::INCREMENT,
            uapi::CHECKSUM,
            uapi::RESET,
        ];
        let mut request = self.pick(&known);
        if self.one_in(4) {
            // Another number, direction or length, of this driver's type.
            let (nr, len, direction) = (self.rng.u32(..16), self.rng.u32(..64), self.rng.u32(..4));
            request = request & 0xff00 | nr | len << 16 | direction << 30;
        }
        let end = (self.nr_pages * PAGE_SIZE) as u64;
        let page = PAGE_SIZE as u64;
        let outside = [
            end,
            end - 1,
            end + 1,
            u64::MAX,
            u64::MAX - 7,
            1 << 63,
            1 << 32,
        ];
        let (offset, len) = match self.rng.u32(..4) {
            0 => (self.pick(&outside), self.pick(&[1, 8, end, u64::MAX])),
            // From the start, and longer than there is: were it done, it would show in the lanes.
            1 => (
                self.rng.u64(..page) & !7,
                self.pick(&[end + 1, u64::MAX, u64::MAX - 7, 1 << 63]),
            ),
            _ => (self.rng.u64(page..end), self.rng.u64(..end)),
        };
        let mut offset = if self.rng.bool() { offset & !7 } else { offset };
        if request == uapi::INCREMENT && offset < page {
            // It has no length that keeps it from being done; the odd address does.
            offset |= 1;
        }
        let third = if self.one_in(4) {
            self.rng.u64(..)
        } else {
            self.rng.u64(..256)
        };
        // The only number that is an index of pages.
        let first = if request == uapi::PAGE_INFO {
            offset / page
        } else {
            offset
        };
        Operation::Ioctl {
            file,
            request,
            at: self.place(),
            numbers: [first, len, third],
        }
    }

    fn by(&mut self, file: usize, area: usize) -> By {
        self.pick(&[By::Area(area), By::Call(file), By::Ioctl(file)])
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
