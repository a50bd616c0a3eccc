//! What a worker does with open files, and what may come of it.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, PosixFadviseAdvice, fallocate, open, posix_fadvise};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::{Whence, fsync, ftruncate, lseek};

use super::{Opened, PFN, Trouble, Worker, is_open, judge, seen, violation};
use crate::device::DEFAULT_NODES;
use crate::stress::board::End;
use crate::stress::operation::{LANE_LEN, Other, Where};
use crate::sys::argument::{self, Place};
use crate::uapi;

/// The order in which [`super::Operation::Seek`] numbers them.
const WHENCE: [Whence; 5] = [
    Whence::SeekSet,
    Whence::SeekCur,
    Whence::SeekEnd,
    Whence::SeekData,
    Whence::SeekHole,
];

/// What a call with bytes may return.
struct Copied {
    /// As many as there are to be copied.
    all: usize,
    /// As many are accessible; `None` if that is not known.
    accessible: Option<usize>,
}

impl Copied {
    /// Compares.
    fn judge(&self, result: Result<usize, Errno>) -> Result<End, Trouble> {
        let reachable = self.accessible.map_or(self.all, |len| len.min(self.all));
        let complete = self.accessible.is_some_and(|len| len >= self.all);
        match result {
            Ok(len) if complete && len != self.all => {
                violation(format!("copied {len} bytes instead of {}", self.all))
            }
            Ok(len) if len > reachable => {
                violation(format!("copied {len} bytes, and {reachable} could be"))
            }
            // Nothing copied is an error, unless there was nothing to be copied.
            Ok(0) if self.all > 0 => violation("copied nothing, and said so"),
            other => judge(other, true, if complete { &[] } else { &[Errno::EFAULT] }),
        }
    }
}

impl Worker<'_> {
    pub(super) fn open(&mut self, slot: usize, node: usize, flags: i32) -> Result<End, Trouble> {
        let opened = open(
            DEFAULT_NODES[node],
            OFlag::from_bits_retain(flags | libc::O_CLOEXEC),
            Mode::empty(),
        );
        let has = |flag: i32| flags & flag == flag;
        let path_only = has(libc::O_PATH);
        let mut refusals = Vec::new();
        if has(libc::O_DIRECTORY) {
            refusals.push(Errno::ENOTDIR);
        }
        if has(libc::O_DIRECT) && !path_only {
            refusals.push(Errno::EINVAL);
        }
        let may_succeed = refusals.is_empty();
        if self.round.racing {
            refusals.extend([Errno::ENOENT, Errno::ENODEV]);
        }
        let end = judge(seen(&opened), may_succeed, &refusals)?;
        let mode = flags & libc::O_ACCMODE;
        if let Ok(fd) = opened {
            self.files[slot] = Some(Opened {
                fd,
                node,
                readable: !path_only && [libc::O_RDONLY, libc::O_RDWR].contains(&mode),
                writable: !path_only && [libc::O_WRONLY, libc::O_RDWR].contains(&mode),
                appends: has(libc::O_APPEND),
                path_only,
            });
        }
        Ok(end)
    }

    pub(super) fn read(
        &mut self,
        file: usize,
        at: Where,
        len: usize,
        offset: i64,
    ) -> Result<End, Trouble> {
        let len = Self::clip(at, len);
        let (Some((opened, fd)), Some((place, accessible))) = (self.fd(file), self.place(at))
        else {
            return Ok(End::Idle);
        };
        let result = argument::read(fd, place, len, offset);
        let readable = opened.readable;
        self.forget(at);
        let Ok(start) = usize::try_from(offset) else {
            return judge(result, false, &[Errno::EINVAL, Errno::EBADF]);
        };
        if !readable {
            return judge(result, false, &[Errno::EBADF]);
        }
        if matches!(at, Where::Kernel(_)) {
            return judge(result, false, &refused_address(offset, len));
        }
        let all = len.min(self.end().saturating_sub(start));
        if overflows(offset, len) {
            return judge(result, true, &[Errno::EINVAL, Errno::EOVERFLOW]);
        }
        let end = Copied { all, accessible }.judge(result)?;
        let lane = self.lane_offset();
        if at == Where::Good
            && start <= lane
            && lane + LANE_LEN <= start + all
            && !self.round.racing
        {
            self.check_bytes(lane - start, lane)?;
        }
        Ok(end)
    }

    pub(super) fn write(
        &mut self,
        file: usize,
        at: Where,
        len: usize,
        offset: i64,
        value: u8,
    ) -> Result<End, Trouble> {
        let len = Self::clip(at, len);
        self.memory.store(usize::from(value), value)?;
        let (Some((opened, fd)), Some((place, accessible))) = (self.fd(file), self.place(at))
        else {
            return Ok(End::Idle);
        };
        let result = argument::write(fd, place, len, offset);
        let Ok(start) = usize::try_from(offset) else {
            return judge(result, false, &[Errno::EINVAL, Errno::EBADF]);
        };
        if !opened.writable {
            return judge(result, false, &[Errno::EBADF]);
        }
        if matches!(at, Where::Kernel(_)) {
            return judge(result, false, &refused_address(offset, len));
        }
        if overflows(offset, len) {
            return judge(
                result,
                true,
                &[Errno::EINVAL, Errno::EOVERFLOW, Errno::ENOSPC],
            );
        }
        let all = len.min(self.end().saturating_sub(start));
        if len > 0 && (all == 0 || opened.appends) {
            return judge(result, false, &[Errno::ENOSPC]);
        }
        Copied { all, accessible }.judge(result)
    }

    pub(super) fn seek(&mut self, file: usize, offset: i64, whence: usize) -> Result<End, Trouble> {
        let Some((opened, fd)) = self.fd(file) else {
            return Ok(End::Idle);
        };
        let result = lseek(fd, offset, WHENCE[whence]);
        if opened.path_only {
            return judge(result, false, &[Errno::EBADF]);
        }
        match result {
            Ok(at) if usize::try_from(at).is_ok_and(|at| at <= self.end()) => Ok(End::Done),
            Ok(at) => violation(format!("went to {at}, which is outside of the buffer")),
            refused => judge(refused, false, &[Errno::EINVAL, Errno::ENXIO]),
        }
    }

    pub(super) fn ioctl(
        &mut self,
        file: usize,
        request: u32,
        at: Where,
        numbers: [u64; 3],
    ) -> Result<End, Trouble> {
        let known = [
            uapi::INFO,
            uapi::PAGE_INFO,
            uapi::FILL,
            uapi::INCREMENT,
            uapi::CHECKSUM,
            uapi::RESET,
        ];
        // What lies in the device itself is anything, and might be a command that changes lanes.
        let at = match at {
            Where::Area(_) if request != uapi::INFO => Where::Nowhere,
            at => at,
        };
        self.put(at, numbers)?;
        self.forget(at);
        let (Some((opened, fd)), Some((place, accessible))) = (self.fd(file), self.place(at))
        else {
            return Ok(End::Idle);
        };
        let denied = match request {
            uapi::FILL | uapi::INCREMENT | uapi::RESET => !opened.writable,
            uapi::CHECKSUM => !opened.readable,
            _ => false,
        };
        if request == uapi::RESET && !denied && !self.round.racing {
            // It would do what it says, to everybody's lane.
            return Ok(End::Idle);
        }
        let result = argument::ioctl(fd, request, place);
        if opened.path_only || denied && known.contains(&request) {
            return judge(result, false, &[Errno::EBADF]);
        }
        if !known.contains(&request) {
            return judge(result, false, &[Errno::ENOTTY]);
        }
        let len = (request >> 16 & 0x3fff) as usize;
        match accessible {
            None => judge(result, true, &[Errno::EFAULT]),
            Some(accessible) if accessible < len => judge(result, false, &[Errno::EFAULT]),
            Some(_) if self.is_valid(request, numbers) => {
                let end = judge(result, true, &[])?;
                self.check_answer(request, at, numbers)?;
                Ok(end)
            }
            // Whether nothing, at the very end, is inside is the driver's to say.
            Some(_) if numbers[1] == 0 => judge(result, true, &[Errno::EINVAL]),
            Some(_) => judge(result, false, &[Errno::EINVAL]),
        }
    }

    /// Forgets what was stored where a call puts its answer: in a private page that is now the kernel's.
    fn forget(&mut self, at: Where) {
        let Where::Area(slot) = at else { return };
        let area = self.areas[slot].as_mut();
        if let Some(page) = area.and_then(|area| area.pages.last_mut()) {
            page.mine = None;
        }
    }

    /// Writes the structure where the call is told that it is, as far as that is accessible.
    fn put(&self, at: Where, numbers: [u64; 3]) -> Result<(), Trouble> {
        let Some((Place::In(memory, offset), Some(accessible))) = self.place(at) else {
            return Ok(());
        };
        let bytes = numbers.into_iter().flat_map(u64::to_ne_bytes);
        for (index, byte) in bytes.enumerate().take(accessible) {
            memory.store(offset + index, byte)?;
        }
        Ok(())
    }

    /// Whether the driver is to do what the structure says.
    fn is_valid(&self, request: u32, [first, second, third]: [u64; 3]) -> bool {
        let end = self.end() as u64;
        let fits = |len: u64| first.checked_add(len).is_some_and(|until| until <= end);
        match request {
            uapi::PAGE_INFO => first < self.round.nr_pages as u64,
            uapi::FILL => fits(second) && third < 256,
            uapi::CHECKSUM => fits(second),
            uapi::INCREMENT => fits(8) && first % 8 == 0,
            _ => true,
        }
    }

    /// Looks at what an ioctl has said about what does not change in a round.
    fn check_answer(&self, request: u32, at: Where, numbers: [u64; 3]) -> Result<(), Trouble> {
        let Some((Place::In(memory, offset), _)) = self.place(at) else {
            return Ok(());
        };
        let number = |index: usize| -> Result<u64, Trouble> {
            let mut bytes = [0; 8];
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = memory.load(offset + 8 * index + at)?;
            }
            Ok(u64::from_ne_bytes(bytes))
        };
        let (found, expected) = match request {
            uapi::INFO => (number(1)?, self.end() as u64),
            uapi::PAGE_INFO => {
                let page = usize::try_from(numbers[0]).unwrap_or(0);
                (number(1)?, self.round.board.frame(page)?)
            }
            _ => return Ok(()),
        };
        if found != expected && !self.round.racing {
            return violation(format!("answered {found:#x} instead of {expected:#x}"));
        }
        Ok(())
    }

    pub(super) fn other(&mut self, file: usize, call: Other, number: i64) -> Result<End, Trouble> {
        let Some((opened, fd)) = self.fd(file) else {
            return Ok(End::Idle);
        };
        if !is_open(fd) {
            return violation("lost its file");
        }
        let refused_path: &[Errno] = &[Errno::EBADF];
        match call {
            Other::Fsync if opened.path_only => judge(fsync(fd), false, refused_path),
            Other::Fsync => judge(fsync(fd), true, &[]),
            Other::Ftruncate => judge(ftruncate(fd, number), false, &[Errno::EINVAL, Errno::EBADF]),
            Other::Poll => {
                let asked = PollFlags::POLLIN | PollFlags::POLLOUT | PollFlags::POLLPRI;
                judge(
                    poll(&mut [PollFd::new(fd, asked)], PollTimeout::ZERO),
                    true,
                    &[],
                )
            }
            Other::Fallocate => {
                let result = fallocate(fd, FallocateFlags::empty(), number, 1);
                let refusals = [Errno::ENODEV, Errno::EBADF, Errno::EINVAL, Errno::EFBIG];
                judge(result, false, &refusals)
            }
            Other::Readahead => {
                let advice = PosixFadviseAdvice::POSIX_FADV_WILLNEED;
                let result = posix_fadvise(fd, number, 1 << 20, advice);
                judge(result, true, &[Errno::EINVAL, Errno::EBADF])
            }
        }
    }

    pub(super) fn look(&mut self, area: usize, file: usize) -> Result<End, Trouble> {
        let read = |path: &str| {
            let text = std::fs::read(path);
            text.map_err(crate::error::Error::file("read", path))
        };
        read("/proc/self/smaps")?;
        if let Some((opened, fd)) = self.fd(file).filter(|(opened, _)| !opened.path_only) {
            check_fdinfo(
                &read(&format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?,
                opened,
            )?;
        }
        let Some(area) = &self.areas[area] else {
            return Ok(End::Idle);
        };
        let memory = std::fs::File::open("/proc/self/mem");
        let memory = memory.map_err(crate::error::Error::file("open", "/proc/self/mem"))?;
        let at = i64::try_from(area.mapping.addr()).unwrap_or(0);
        let to = Place::In(&self.memory, 0);
        let result = argument::read(memory.as_fd(), to, area.mapping.len(), at);
        let refusals = [Errno::EIO];
        judge(result, area.node != PFN || !area.shared, &refusals)
    }
}

/// What `/proc` has to say of a file of a node.
fn check_fdinfo(text: &[u8], opened: &Opened) -> Result<(), Trouble> {
    const NAMES: [&str; 3] = ["vm_insert_page", "remap_pfn_range", "fault"];
    let text = String::from_utf8_lossy(text);
    let line = format!("strategy:\t{}\n", NAMES[opened.node]);
    if text.contains(&line) {
        return Ok(());
    }
    violation(format!("{line:?} is not in {text:?}"))
}

/// Whether the end of what is asked for is no offset.
fn overflows(offset: i64, len: usize) -> bool {
    i64::try_from(len).is_ok_and(|len| offset.checked_add(len).is_none())
}

/// What is said of an address that no process has.
fn refused_address(offset: i64, len: usize) -> Vec<Errno> {
    let mut refusals = vec![Errno::EFAULT];
    if overflows(offset, len) {
        refusals.extend([Errno::EINVAL, Errno::EOVERFLOW]);
    }
    refusals
}
