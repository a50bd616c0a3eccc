//! Drawer: what an operation and its arguments are drawn from, and how often each kind is; pure.

use fastrand::Rng;

use super::{By, KINDS, NR_AREAS, NR_CHILDREN, NR_FILES, NR_PINS, Operation, Other, Part, Where};
use crate::sys::PAGE_SIZE;
use crate::uapi;

/// Which kind is drawn how often, in the order of [`KINDS`].
const WEIGHTS: [u32; KINDS.len()] = [
    10, 4, 16, 6, 20, 20, 4, 4, 10, 10, 3, 3, 8, 8, 4, 14, 4, 10, 12, 8, 2, 3, 1, 2, 2, 1, 2, 1,
];

/// Draws the parts of one operation.
pub(super) struct Drawer {
    pub(super) rng: Rng,
    pub(super) nr_pages: usize,
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

    pub(super) fn operation(&mut self) -> Operation {
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
