//! What a worker does with memory, and what may come of it.

use std::ops::Range;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::mman::ProtFlags;
use nix::sys::signal::Signal;

use super::{Area, INSERT, PFN, Page, Trouble, Worker, judge, seen, violation};
use crate::map_call::MapCall;
use crate::object::Request;
use crate::stress::board::End;
use crate::stress::operation::{COUNTER, Part};
use crate::sys::pinned::Pinned;
use crate::sys::{self, Mapping, PAGE_SIZE};

/// A load succeeds with any of these.
const READABLE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

/// `PROT_*` that are there (`arch_validate_prot()` in `include/linux/mman.h`, with `PROT_SEM`).
const KNOWN_PROT: i32 = 0xf;

/// Which kind a mapping is of (`MAP_TYPE`).
const TYPE: i32 = 0xf;

/// Advice after which pages may be gone.
const TAKING: [i32; 7] = [
    libc::MADV_DONTNEED,
    libc::MADV_FREE,
    libc::MADV_REMOVE,
    libc::MADV_PAGEOUT,
    24, // MADV_DONTNEED_LOCKED
    GUARD_INSTALL,
    103, // MADV_GUARD_REMOVE
];
const GUARD_INSTALL: i32 = 102;

/// What `madvise(2)` says of advice that does not fit the mapping.
const NO_ADVICE: [Errno; 10] = [
    Errno::EINVAL,
    Errno::EBADF,
    Errno::EACCES,
    Errno::EFAULT,
    Errno::EBUSY,
    Errno::EAGAIN,
    Errno::ENODEV,
    Errno::EOPNOTSUPP,
    Errno::EPERM,
    Errno::ENOMEM,
];

impl Worker<'_> {
    pub(super) fn map(&mut self, slot: usize, file: usize, call: MapCall) -> Result<End, Trouble> {
        let Some((opened, fd)) = self.fd(file) else {
            return Ok(End::Idle);
        };
        let (node, writable) = (opened.node, opened.writable);
        let kind = call.flags & TYPE;
        let shared = kind != libc::MAP_PRIVATE;
        let known = [
            libc::MAP_SHARED,
            libc::MAP_PRIVATE,
            libc::MAP_SHARED_VALIDATE,
        ]
        .contains(&kind);
        let refused_flags = libc::MAP_GROWSDOWN | libc::MAP_HUGETLB;
        let validated = kind == libc::MAP_SHARED_VALIDATE && call.flags & libc::MAP_SYNC != 0;
        let stores = shared && call.prot.contains(ProtFlags::PROT_WRITE);
        let may_succeed = known
            && !validated
            && call.flags & refused_flags == 0
            && opened.readable
            && (opened.writable || !stores)
            && self.fits(call);
        let mapped = Mapping::new(call, Some(fd));
        let end = if may_succeed {
            judge(seen(&mapped), true, &[Errno::ENOMEM])?
        } else {
            let refusals = [
                Errno::EINVAL,
                Errno::EACCES,
                Errno::EOVERFLOW,
                Errno::ENOMEM,
                Errno::EOPNOTSUPP,
                Errno::EBADF,
            ];
            judge(seen(&mapped), false, &refusals)?
        };
        if let Ok(mapping) = mapped {
            let page = Page {
                prot: call.prot & ProtFlags::from_bits_retain(7),
                gone: false,
                odd: false,
                mine: None,
            };
            self.areas[slot] = Some(Area {
                node,
                pgoff: usize::try_from(call.offset).unwrap_or(0) / PAGE_SIZE,
                shared,
                writable,
                pages: vec![page; mapping.len() / PAGE_SIZE],
                mapping,
                pieces: false,
                dont_fork: false,
            });
        }
        Ok(end)
    }

    /// Whether the buffer has what is to be mapped.
    fn fits(&self, call: MapCall) -> bool {
        let (offset, len) = (usize::try_from(call.offset), call.len);
        let end = offset.ok().filter(|offset| offset % PAGE_SIZE == 0);
        let end = end.zip(len.checked_next_multiple_of(PAGE_SIZE));
        let end = end.and_then(|(offset, len)| offset.checked_add(len));
        len > 0 && end.is_some_and(|end| end <= self.end())
    }

    pub(super) fn unmap(&mut self, slot: usize, page: usize, part: Part) -> Result<End, Trouble> {
        let Some(mut area) = self.areas[slot].take() else {
            return Ok(End::Idle);
        };
        if part == Part::All {
            return judge(area.mapping.unmap(), true, &[]);
        }
        if page == 0 || page >= area.pages.len() {
            self.areas[slot] = Some(area);
            return Ok(End::Idle);
        }
        let mut rest = area.mapping.split_off(page * PAGE_SIZE)?;
        let behind = area.pages.split_off(page);
        if part == Part::Before {
            std::mem::swap(&mut area.mapping, &mut rest);
            area.pages = behind;
            area.pgoff += page;
        }
        self.areas[slot] = Some(area);
        judge(rest.unmap(), true, &[])
    }

    pub(super) fn load(&mut self, slot: usize, page: usize, offset: usize) -> Result<End, Trouble> {
        let Some((area, page, there)) = self.page(slot, page) else {
            return Ok(End::Idle);
        };
        let offset = there.mine.map_or(offset, |(at, _)| at);
        match self
            .toucher
            .load(&area.mapping, page * PAGE_SIZE + offset)?
        {
            Ok(_) if there.prot.is_empty() => violation("read what must not be accessed"),
            Ok(byte) => match there.mine {
                Some((_, mine)) if mine != byte => violation(format!(
                    "read {byte:#x} of a private page, and {mine:#x} was stored"
                )),
                _ => Ok(End::Done),
            },
            Err(signal) => {
                let sound = there.prot.intersects(READABLE);
                signalled(area, there, signal, sound)
            }
        }
    }

    pub(super) fn store(
        &mut self,
        slot: usize,
        page: usize,
        offset: usize,
        value: u8,
    ) -> Result<End, Trouble> {
        let Some((area, page, there)) = self.page(slot, page) else {
            return Ok(End::Idle);
        };
        // The first half of the first page is the lanes', and its end is the number of all.
        let offset = if area.shows_lanes(page) {
            PAGE_SIZE / 2 + offset % (COUNTER - PAGE_SIZE / 2)
        } else {
            offset
        };
        match self
            .toucher
            .store(&area.mapping, page * PAGE_SIZE + offset, value)?
        {
            Ok(()) if !there.prot.contains(ProtFlags::PROT_WRITE) => {
                violation("stored where it is forbidden")
            }
            Ok(()) => {
                if let Some(area) = self.areas[slot].as_mut().filter(|area| !area.shared) {
                    area.pages[page].mine = Some((offset, value));
                }
                Ok(End::Done)
            }
            Err(signal) => {
                let sound = there.prot.contains(ProtFlags::PROT_WRITE);
                signalled(area, there, signal, sound)
            }
        }
    }

    /// The area, and that of its pages which the number names, whatever it is.
    fn page(&self, slot: usize, number: usize) -> Option<(&Area, usize, Page)> {
        let area = self.areas[slot].as_ref()?;
        let page = number % area.pages.len();
        Some((area, page, area.pages[page]))
    }

    pub(super) fn resize(&mut self, slot: usize, len: usize) -> Result<End, Trouble> {
        let Some(area) = &mut self.areas[slot] else {
            return Ok(End::Idle);
        };
        let before = area.mapping.len();
        let after = len.checked_next_multiple_of(PAGE_SIZE);
        let result = area.mapping.resize(len);
        area.pages.truncate(area.mapping.len() / PAGE_SIZE);
        if after.is_some_and(|after| (1..=before).contains(&after)) {
            let refusals: &[Errno] = if area.pieces { &[Errno::EFAULT] } else { &[] };
            return judge(result, true, refusals);
        }
        judge(
            result,
            false,
            &[Errno::EFAULT, Errno::EINVAL, Errno::ENOMEM],
        )
    }

    pub(super) fn move_elsewhere(&mut self, slot: usize) -> Result<End, Trouble> {
        let Some(area) = self.areas[slot].as_mut().filter(|area| !area.pieces) else {
            return Ok(End::Idle);
        };
        let target = Request::anonymous(libc::MAP_PRIVATE)
            .prot(ProtFlags::PROT_NONE)
            .len(area.mapping.len())
            .map()?;
        judge(area.mapping.move_onto(target), true, &[Errno::ENOMEM])
    }

    pub(super) fn advise(
        &mut self,
        slot: usize,
        page: usize,
        nr_pages: usize,
        advice: i32,
    ) -> Result<End, Trouble> {
        let Some(area) = &mut self.areas[slot] else {
            return Ok(End::Idle);
        };
        let (range, offset, len) = area.part(page, nr_pages);
        let result = area.mapping.advise_part(offset, len, advice);
        // Of what is refused, a part may have been done before.
        area.pieces = true;
        area.dont_fork |= advice == libc::MADV_DONTFORK;
        for page in &mut area.pages[range] {
            if TAKING.contains(&advice) {
                page.gone = true;
                page.mine = None;
            }
            page.odd |= advice == GUARD_INSTALL && result.is_ok();
        }
        judge(result, true, &NO_ADVICE)
    }

    pub(super) fn protect(
        &mut self,
        slot: usize,
        page: usize,
        nr_pages: usize,
        prot: i32,
    ) -> Result<End, Trouble> {
        let Some(area) = &mut self.areas[slot] else {
            return Ok(End::Idle);
        };
        let (range, offset, len) = area.part(page, nr_pages);
        let prot = ProtFlags::from_bits_retain(prot);
        let result = area.mapping.protect_part(offset, len, prot);
        area.pieces = true;
        if prot.bits() & !KNOWN_PROT != 0 {
            return judge(result, false, &[Errno::EINVAL]);
        }
        if prot.contains(ProtFlags::PROT_WRITE) && area.shared && !area.writable {
            return judge(result, false, &[Errno::EACCES]);
        }
        for page in &mut area.pages[range] {
            page.prot = prot;
        }
        judge(result, true, &[])
    }

    pub(super) fn lock(&mut self, slot: usize, lock: bool) -> Result<End, Trouble> {
        let Some(area) = &self.areas[slot] else {
            return Ok(End::Idle);
        };
        if lock {
            let refusals = [Errno::ENOMEM, Errno::EAGAIN];
            return judge(area.mapping.lock(), true, &refusals);
        }
        judge(area.mapping.unlock(), true, &[])
    }

    pub(super) fn sync(&mut self, slot: usize, flags: i32) -> Result<End, Trouble> {
        let Some(area) = &self.areas[slot] else {
            return Ok(End::Idle);
        };
        let both = libc::MS_SYNC | libc::MS_ASYNC;
        let known = flags & !(both | libc::MS_INVALIDATE) == 0 && flags & both != both;
        let result = sys::msync(area.mapping.addr(), area.mapping.len(), flags);
        if known {
            return judge(result, true, &[Errno::EBUSY]);
        }
        judge(result, false, &[Errno::EINVAL])
    }

    pub(super) fn pin(&mut self, pin: usize, slot: usize) -> Result<End, Trouble> {
        let (None, Some(area)) = (&self.pins[pin], &self.areas[slot]) else {
            return Ok(End::Idle);
        };
        let pinned = Pinned::new(&area.mapping);
        let all = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let sound = (0..area.pages.len()).all(|page| area.allows(page, all));
        let end = match (area.node, sound) {
            // To the kernel there are no pages behind it; but behind a copy there is one.
            (PFN, _) if area.shared => judge(seen(&pinned), false, &[Errno::EFAULT])?,
            (node, true) if node != PFN => judge(seen(&pinned), true, &[Errno::ENOMEM])?,
            _ => judge(seen(&pinned), true, &[Errno::ENOMEM, Errno::EFAULT])?,
        };
        self.pins[pin] = pinned.ok();
        Ok(end)
    }

    pub(super) fn unpin(&mut self, pin: usize) -> Result<End, Trouble> {
        match self.pins[pin].take() {
            Some(pinned) => judge(pinned.release(), true, &[]),
            None => Ok(End::Idle),
        }
    }

    pub(super) fn splice(&mut self, slot: usize) -> Result<End, Trouble> {
        let Some(area) = &self.areas[slot] else {
            return Ok(End::Idle);
        };
        let (from, to) = &self.pipe;
        let lent = area.mapping.lend_to(to.as_fd());
        let end = if area.node == PFN && area.shared {
            judge(lent, false, &[Errno::EFAULT])?
        } else {
            judge(lent, true, &[Errno::EFAULT, Errno::EAGAIN])?
        };
        let mut bytes = [0; PAGE_SIZE];
        while nix::unistd::read(from, &mut bytes).is_ok_and(|len| len > 0) {}
        Ok(end)
    }
}

impl Area {
    /// Those of its pages that the numbers name, whatever they are; and where that is, offset and length in bytes.
    fn part(&self, page: usize, nr_pages: usize) -> (Range<usize>, usize, usize) {
        let first = page % self.pages.len();
        let until = self.pages.len().min(first + nr_pages);
        (first..until, first * PAGE_SIZE, (until - first) * PAGE_SIZE)
    }
}

/// A touch was answered by `signal`; `sound` says that the protection does not account for it.
fn signalled(area: &Area, page: Page, signal: Signal, sound: bool) -> Result<End, Trouble> {
    let allowed = match signal {
        Signal::SIGSEGV => !sound || page.odd,
        // Given back, and there is nobody who brings it.
        Signal::SIGBUS => area.node == INSERT && page.gone,
        _ => false,
    };
    if allowed {
        return Ok(End::Signal(signal));
    }
    let (prot, gone) = (page.prot, page.gone);
    violation(format!(
        "met {signal}, where prot is {prot:?} and gone {gone}"
    ))
}
