//! Raw memory, raw calls: the only unsafe file.
//!
//! Memory that another process or the driver may change at any time is only ever touched by atomic or
//! volatile accesses of its own; no reference to plain bytes of it exists.

use std::arch::asm;
use std::ffi::{CStr, c_void};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::sys::mman::{self, MRemapFlags, MmapAdvise, MsFlags, ProtFlags};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, Pid};

use crate::error::{Error, Result};
use crate::map_call::MapCall;

/// The size of a page on x86-64, and of the device's buffer.
pub const PAGE_SIZE: usize = 4096;

/// No address of user memory has this bit, `Documentation/arch/x86/x86_64/mm.rst`: all of its half is the kernel's
/// or nobody's.
const KERNEL_HALF: usize = 1 << 63;

/// A mapped range that is unmapped when dropped.
///
/// # Invariants
///
/// `start` is the page-aligned begin of `len` mapped bytes that nothing else unmaps.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
    /// Unmaps by itself; `None` for mappings made by [`Mapping::new`].
    memmap2: Option<MmapRaw>,
}

impl Mapping {
    /// Maps the first `len` bytes of a file or device shared, for reading and writing.
    ///
    /// # Errors
    ///
    /// What `mmap(2)` says.
    pub fn shared(file: &File, len: usize) -> std::io::Result<Self> {
        // A device node has size 0, so the length must be given.
        let raw = MmapOptions::new().len(len).map_raw(file)?;
        let start = NonNull::new(raw.as_mut_ptr()).ok_or(Errno::ENOMEM)?;
        // INVARIANT: `raw` is a mapping of `len` bytes and unmaps it when it is dropped with `self`.
        Ok(Self {
            start,
            len,
            memmap2: Some(raw),
        })
    }

    /// Makes the call exactly as given, of a file or, without one, with descriptor -1.
    ///
    /// # Errors
    ///
    /// What `mmap(2)` says; `ENOTSUP` for a fixed address, which is for [`Mapping::replace_page`] to choose.
    pub fn new(call: MapCall, fd: Option<BorrowedFd<'_>>) -> Result<Self, Errno> {
        if call.is_fixed() {
            return Err(Errno::ENOTSUP);
        }
        let start = Self::call(ptr::null_mut(), call, number(fd))?;
        // INVARIANT: Without a fixed address the kernel returns a range that nothing else uses, rounded
        // up to pages (mmap(2), NOTES).
        Ok(Self {
            start,
            len: call.len.next_multiple_of(PAGE_SIZE),
            memmap2: None,
        })
    }

    /// Makes the call with any number in place of a descriptor, whether a file is open under it or not.
    ///
    /// # Errors
    ///
    /// As [`Mapping::new`].
    pub fn of_number(call: MapCall, fd: RawFd) -> Result<Self, Errno> {
        if call.is_fixed() {
            return Err(Errno::ENOTSUP);
        }
        let start = Self::call(ptr::null_mut(), call, fd)?;
        // INVARIANT: As in `new`. If a file is open under the number, it is mapped and otherwise left alone.
        Ok(Self {
            start,
            len: call.len.next_multiple_of(PAGE_SIZE),
            memmap2: None,
        })
    }

    /// Makes the call with an address: a wish, or with `MAP_FIXED_NOREPLACE`, beside `MAP_FIXED` or
    /// not, a condition. `MAP_FIXED` by itself only where the kernel's half of the addresses is.
    ///
    /// # Errors
    ///
    /// What `mmap(2)` says; `ENOTSUP` for `MAP_FIXED` by itself anywhere else, which is for
    /// [`Mapping::replace_page`] to choose.
    pub fn placed(addr: usize, call: MapCall, fd: Option<BorrowedFd<'_>>) -> Result<Self, Errno> {
        let fixed = call.flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE);
        if fixed == libc::MAP_FIXED && addr < KERNEL_HALF {
            return Err(Errno::ENOTSUP);
        }
        let start = Self::call(ptr::with_exposed_provenance_mut(addr), call, number(fd))?;
        // INVARIANT: As in `new`; and a range that is a condition is free, or refused (since 4.17).
        Ok(Self {
            start,
            len: call.len.next_multiple_of(PAGE_SIZE),
            memmap2: None,
        })
    }

    /// Replaces the page at `offset` by what the call maps there (`MAP_FIXED`), and returns its address.
    ///
    /// # Errors
    ///
    /// What `mmap(2)` says.
    pub fn replace_page(
        &mut self,
        offset: usize,
        call: MapCall,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<usize, Errno> {
        if self.check(offset, PAGE_SIZE).is_err() || call.len > PAGE_SIZE {
            return Err(Errno::ERANGE);
        }
        let at = ptr::with_exposed_provenance_mut(self.addr() + offset);
        let call = MapCall {
            flags: call.flags | libc::MAP_FIXED,
            ..call
        };
        // INVARIANT: The bounds check keeps the new page inside the range of `self`, which stays mapped.
        Self::call(at, call, number(fd)).map(|start| start.as_ptr().expose_provenance())
    }

    fn call(
        addr: *mut c_void,
        MapCall {
            len,
            prot,
            flags,
            offset,
        }: MapCall,
        fd: RawFd,
    ) -> Result<NonNull<u8>, Errno> {
        // SAFETY: `new` and `of_number` give no address and no flag that fixes it, so the kernel takes a free range; so
        // does `placed`, whose flags, if they fix the address, forbid to replace what is there, or whose
        // address is not a user's. `replace_page` gives a page inside its own mapping, and its
        // `&mut self` shows that `word` and `long` have lent no reference into it.
        let start = unsafe { libc::mmap(addr, len, prot.bits(), flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        NonNull::new(start.cast()).ok_or(Errno::ENOMEM)
    }

    /// The address of the first byte.
    #[must_use]
    pub fn addr(&self) -> usize {
        self.start.as_ptr().expose_provenance()
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the length is 0, which `mmap(2)` refuses and only [`Mapping::shared`] lets through.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `len` bytes at `offset` lie inside.
    pub(crate) fn check(&self, offset: usize, len: usize) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(Error::Outside {
                offset,
                len,
                mapped: self.len,
            }),
        }
    }

    fn at(&self, offset: usize, len: usize) -> Result<*mut u8> {
        self.check(offset, len)?;
        // SAFETY: The check keeps the address inside the mapping (type invariant).
        Ok(unsafe { self.start.as_ptr().add(offset) })
    }

    /// Reads one byte from memory, now.
    ///
    /// # Errors
    ///
    /// If the offset lies outside.
    pub fn load(&self, offset: usize) -> Result<u8> {
        let byte = self.at(offset, 1)?;
        // SAFETY: `at` gave an address inside the mapping, which lives as long as `self`. Others may
        // write the byte at any time, hence a volatile read, no `&u8`. Where the kernel forbids the
        // access it raises a signal, which ends the process or is what `probe` waits for.
        Ok(unsafe { byte.read_volatile() })
    }

    /// Writes one byte to memory, now.
    ///
    /// # Errors
    ///
    /// If the offset lies outside.
    pub fn store(&self, offset: usize, value: u8) -> Result<()> {
        let byte = self.at(offset, 1)?;
        // SAFETY: As in `load`. The only references into the mapping are to the atomics that `word`, `long` and
        // `longs` lend, whose insides may change while they exist (`UnsafeCell`).
        unsafe { byte.write_volatile(value) };
        Ok(())
    }

    /// The aligned 32-bit word at `offset`, for atomic accesses.
    ///
    /// # Errors
    ///
    /// If it lies outside or is not aligned.
    pub fn word(&self, offset: usize) -> Result<&AtomicU32> {
        let word = self.aligned::<AtomicU32>(offset)?;
        // SAFETY: Inside the mapping and aligned, both checked; any bits are a valid value. An atomic's
        // inside may change by whatever writer. The reference borrows `self`, and what unmaps, moves,
        // replaces, protects or drops pages needs `self` or `&mut self`.
        Ok(unsafe { &*word })
    }

    /// The aligned 64-bit word at `offset`, for atomic accesses.
    ///
    /// # Errors
    ///
    /// If it lies outside or is not aligned.
    pub fn long(&self, offset: usize) -> Result<&AtomicU64> {
        let long = self.aligned::<AtomicU64>(offset)?;
        // SAFETY: As in `word`.
        Ok(unsafe { &*long })
    }

    /// The aligned 64-bit words from `offset` on, so many, for atomic accesses.
    ///
    /// # Errors
    ///
    /// If one of them lies outside, or if they are not aligned.
    pub fn longs(&self, offset: usize, number: usize) -> Result<&[AtomicU64]> {
        self.check(offset, number.saturating_mul(size_of::<AtomicU64>()))?;
        let first = self.aligned::<AtomicU64>(offset)?;
        // SAFETY: All of their bytes are inside the mapping, which is one allocation, and no longer than `isize::MAX`; the first
        // is aligned, and so is each that follows. Any bits are a valid value, and an atomic's inside may change by whatever
        // writer. The slice borrows `self`, and what unmaps, moves, replaces, protects or drops pages needs `self`
        // or `&mut self`.
        Ok(unsafe { slice::from_raw_parts(first, number) })
    }

    fn aligned<T>(&self, offset: usize) -> Result<*mut T> {
        let at = self.at(offset, size_of::<T>())?.cast::<T>();
        if !at.is_aligned() {
            return Err(Error::Outside {
                offset,
                len: size_of::<T>(),
                mapped: self.len,
            });
        }
        Ok(at)
    }

    /// Reads 64 bits by one machine instruction, at any alignment.
    ///
    /// # Errors
    ///
    /// If they lie outside.
    pub fn load_unaligned(&self, offset: usize) -> Result<u64> {
        let at = self.at(offset, size_of::<u64>())?;
        let value: u64;
        // SAFETY: `at` is the begin of 8 bytes inside the mapping. Rust has no load of its own that may
        // be misaligned and must be a single one; x86-64 allows it (Intel SDM vol. 3, "Guaranteed Atomic Operations").
        unsafe { asm!("mov {}, [{}]", out(reg) value, in(reg) at, options(nostack, readonly)) };
        Ok(value)
    }

    /// Writes 64 bits by one machine instruction, at any alignment.
    ///
    /// # Errors
    ///
    /// If they lie outside.
    pub fn store_unaligned(&self, offset: usize, value: u64) -> Result<()> {
        let at = self.at(offset, size_of::<u64>())?;
        // SAFETY: As in `load_unaligned`, and as in `store` for the references that may exist.
        unsafe { asm!("mov [{}], {}", in(reg) at, in(reg) value, options(nostack)) };
        Ok(())
    }

    /// `munmap(2)` of the whole range.
    ///
    /// # Errors
    ///
    /// What the call says.
    pub fn unmap(mut self) -> Result<(), Errno> {
        if self.memmap2.take().is_some() {
            std::mem::forget(self);
            return Ok(());
        }
        let (start, len) = (self.start.cast(), self.len);
        std::mem::forget(self);
        // SAFETY: By the type invariant the range is ours, and `self` is gone.
        unsafe { mman::munmap(start, len) }
    }

    /// `mremap(2)` of the whole range to `len` bytes, moved if need be.
    ///
    /// # Errors
    ///
    /// What the call says; `ENOTSUP` for a mapping made by [`Mapping::shared`], which memmap2 owns.
    pub fn resize(&mut self, len: usize) -> Result<(), Errno> {
        if self.memmap2.is_some() {
            return Err(Errno::ENOTSUP);
        }
        let flags = MRemapFlags::MREMAP_MAYMOVE;
        // SAFETY: By the type invariant the range is ours, and `&mut self` shows that no reference to
        // its bytes exists.
        let start = unsafe { mman::mremap(self.start.cast(), self.len, len, flags, None) }?;
        // INVARIANT: The kernel has moved the range there, rounded up to pages.
        self.start = start.cast();
        self.len = len.next_multiple_of(PAGE_SIZE);
        Ok(())
    }

    /// `vmsplice(2)` of the whole range: the pipe holds its pages, not copies, until they are read.
    ///
    /// # Errors
    ///
    /// What the call says.
    pub fn lend_to(&self, pipe: BorrowedFd<'_>) -> Result<usize, Errno> {
        let bytes = libc::iovec {
            iov_base: self.start.as_ptr().cast(),
            iov_len: self.len,
        };
        // SAFETY: The range is mapped (type invariant); who reads the pipe reads what is there then.
        let lent = unsafe { libc::vmsplice(pipe.as_raw_fd(), &raw const bytes, 1, 0) };
        Errno::result(lent).map(isize::unsigned_abs)
    }

    /// `mprotect(2)` of the whole range.
    ///
    /// # Errors
    ///
    /// What the call says.
    pub fn protect(&mut self, prot: ProtFlags) -> Result<(), Errno> {
        // SAFETY: By the type invariant the range is ours, and `&mut self` shows that no reference to
        // its bytes exists. Where an access is forbidden now, see `load`.
        unsafe { mman::mprotect(self.start.cast(), self.len, prot) }
    }

    /// `mlock(2)` of the whole range.
    ///
    /// # Errors
    ///
    /// What the call says.
    pub fn lock(&self) -> Result<(), Errno> {
        // SAFETY: Locking changes where the bytes are, not what they are.
        unsafe { mman::mlock(self.start.cast(), self.len) }
    }

    /// `munlock(2)` of the whole range.
    ///
    /// # Errors
    ///
    /// What the call says.
    pub fn unlock(&self) -> Result<(), Errno> {
        // SAFETY: As in `lock`.
        unsafe { mman::munlock(self.start.cast(), self.len) }
    }

    /// `mremap(2)` of the whole range to where `target` is (`MREMAP_FIXED`), which it replaces.
    ///
    /// # Errors
    ///
    /// What the call says; without a call `ENOTSUP`, as [`Mapping::resize`], or `EINVAL`, if the two are not
    /// of one length.
    pub fn move_onto(&mut self, target: Self) -> Result<(), Errno> {
        if self.memmap2.is_some() || target.memmap2.is_some() {
            return Err(Errno::ENOTSUP);
        }
        if self.len != target.len {
            return Err(Errno::EINVAL);
        }
        // Whatever comes of it, the target is not ours to unmap any more: it may be gone already.
        let to = target.start;
        std::mem::forget(target);
        let flags = MRemapFlags::MREMAP_MAYMOVE | MRemapFlags::MREMAP_FIXED;
        let (from, len) = (self.start.cast(), self.len);
        // SAFETY: By the type invariant both ranges are ours; `&mut self` and the target given away show that
        // no reference to a byte of either exists.
        unsafe { mman::mremap(from, len, len, flags, Some(to.cast())) }?;
        // INVARIANT: The kernel has moved the range there.
        self.start = to;
        Ok(())
    }

    /// `madvise(2)` of the whole range.
    ///
    /// # Errors
    ///
    /// What the call says.
    pub fn advise(&mut self, advice: MmapAdvise) -> Result<(), Errno> {
        // SAFETY: As in `protect`; what pages are dropped, nobody counts on.
        unsafe { mman::madvise(self.start.cast(), self.len, advice) }
    }

    /// `msync(2)` of the whole range.
    ///
    /// # Errors
    ///
    /// What the call says.
    pub fn sync(&self, flags: MsFlags) -> Result<(), Errno> {
        // SAFETY: Nothing that the type promises depends on `MS_INVALIDATE` or the other flags.
        unsafe { mman::msync(self.start.cast(), self.len, flags) }
    }

    /// Splits the range in two; what is left in `self` ends at `at`, which is rounded up to pages.
    ///
    /// # Errors
    ///
    /// If `at` lies outside, or memmap2 owns the mapping (see [`Mapping::shared`]).
    pub fn split_off(&mut self, at: usize) -> Result<Self> {
        let at = at.next_multiple_of(PAGE_SIZE);
        let (outside, start) = (self.memmap2.is_some(), self.at(at, 0)?);
        let rest = match NonNull::new(start) {
            Some(start) if !outside => Self {
                start,
                len: self.len - at,
                memmap2: None,
            },
            _ => return Err(Error::call("split_off()", "memmap2's")(Errno::ENOTSUP)),
        };
        // INVARIANT: Each page belongs to one of the two from now on.
        self.len = at;
        Ok(rest)
    }

    /// `mseal(2)` of the whole range, which can then be neither unmapped nor replaced until the process
    /// ends.
    ///
    /// # Errors
    ///
    /// What the call says.
    pub fn seal(&self) -> Result<(), Errno> {
        let (start, len) = (self.addr(), self.len);
        // SAFETY: Sealing takes rights away from later calls; the bytes stay as they are.
        Errno::result(unsafe { libc::syscall(libc::SYS_mseal, start, len, 0) }).map(drop)
    }
}

/// Calls about a part of the mapping, with an address and a length that need not fit.
impl Mapping {
    /// `munmap(2)` of `len` bytes from `offset` on, exactly as given. What that leaves mapped stays so until
    /// the process ends, and nothing but a probe can reach it.
    ///
    /// # Errors
    ///
    /// What the call says; without a call `ERANGE`, if a page of them lies outside, or `ENOTSUP`, as
    /// [`Mapping::resize`].
    pub fn unmap_part(self, offset: usize, len: usize) -> Result<(), Errno> {
        let part = self.part(offset, len)?;
        if self.memmap2.is_some() {
            return Err(Errno::ENOTSUP);
        }
        std::mem::forget(self);
        // SAFETY: All pages that the bytes touch were ours, and `self` is gone. The rest is never used.
        Errno::result(unsafe { libc::munmap(part.as_ptr(), len) }).map(drop)
    }

    /// `mprotect(2)` of `len` bytes from `offset` on, exactly as given.
    ///
    /// # Errors
    ///
    /// What the call says; `ERANGE`, without a call, if a page of them lies outside.
    pub fn protect_part(
        &mut self,
        offset: usize,
        len: usize,
        prot: ProtFlags,
    ) -> Result<(), Errno> {
        let part = self.part(offset, len)?;
        // SAFETY: As in `protect`; all pages that the bytes touch are ours.
        Errno::result(unsafe { libc::mprotect(part.as_ptr(), len, prot.bits()) }).map(drop)
    }

    /// `madvise(2)` of `len` bytes from `offset` on, with any number for advice.
    ///
    /// # Errors
    ///
    /// What the call says; `ERANGE`, without a call, if a page of them lies outside.
    pub fn advise_part(&mut self, offset: usize, len: usize, advice: i32) -> Result<(), Errno> {
        let part = self.part(offset, len)?;
        // SAFETY: As in `advise`; all pages that the bytes touch are ours.
        Errno::result(unsafe { libc::madvise(part.as_ptr(), len, advice) }).map(drop)
    }

    /// The address at `offset`, if the pages that `len` bytes there touch are inside.
    fn part(&self, offset: usize, len: usize) -> Result<NonNull<c_void>, Errno> {
        let nr_bytes = len
            .checked_next_multiple_of(PAGE_SIZE)
            .ok_or(Errno::ERANGE)?;
        let first = offset - offset % PAGE_SIZE;
        let inside = self.check(first, nr_bytes).is_ok() && self.check(offset, len).is_ok();
        let part = self.at(offset, 0).map_err(|_| Errno::ERANGE)?;
        let part = NonNull::new(part.cast()).filter(|_| inside);
        part.ok_or(Errno::ERANGE)
    }
}

/// Copies between the mapping and a file that the kernel makes, faulting on its behalf where it must.
impl Mapping {
    /// `write(2)` of bytes of the mapping.
    ///
    /// # Errors
    ///
    /// What the call says, or `ERANGE` if the bytes lie outside.
    pub fn write_to(&self, fd: BorrowedFd<'_>, offset: usize, len: usize) -> Result<usize, Errno> {
        let from = self.at(offset, len).map_err(|_| Errno::ERANGE)?;
        // SAFETY: The kernel reads `len` bytes inside the mapping, or answers EFAULT.
        let written = unsafe { libc::write(fd.as_raw_fd(), from.cast(), len) };
        Errno::result(written).map(isize::unsigned_abs)
    }

    /// `read(2)` into bytes of the mapping.
    ///
    /// # Errors
    ///
    /// What the call says, or `ERANGE` if the bytes lie outside.
    pub fn read_from(&self, fd: BorrowedFd<'_>, offset: usize, len: usize) -> Result<usize, Errno> {
        let to = self.at(offset, len).map_err(|_| Errno::ERANGE)?;
        // SAFETY: The kernel writes `len` bytes inside the mapping, or answers EFAULT. References into
        // the mapping are to atomics only, see `store`.
        let read = unsafe { libc::read(fd.as_raw_fd(), to.cast(), len) };
        Errno::result(read).map(isize::unsigned_abs)
    }
}

/// What `mmap(2)` takes for no descriptor.
fn number(fd: Option<BorrowedFd<'_>>) -> RawFd {
    fd.map_or(-1, |fd| fd.as_raw_fd())
}

/// What `mmap(2)` returns, as a number, and what `errno` is then, 0 if it was not set. A mapping that the
/// call makes is unmapped again.
#[must_use]
pub fn mmap_returns(call: MapCall, fd: RawFd) -> (usize, i32) {
    let MapCall {
        len,
        prot,
        flags,
        offset,
    } = call;
    let flags = flags & !(libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE);
    Errno::clear();
    // SAFETY: Without a fixed address the kernel takes a free range, or refuses.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, prot.bits(), flags, fd, offset) };
    let errno = Errno::last_raw();
    if start != libc::MAP_FAILED {
        // SAFETY: The call has just made the range, and nobody has been told of it.
        unsafe { libc::munmap(start, len) };
    }
    (start.expose_provenance(), errno)
}

/// `mlock(2)` of any range, exactly as given.
///
/// # Errors
///
/// What the call says.
pub fn lock(addr: usize, len: usize) -> Result<(), Errno> {
    let addr = ptr::with_exposed_provenance::<c_void>(addr);
    // SAFETY: Locking changes where bytes are, not what they are, whoever's they be.
    Errno::result(unsafe { libc::mlock(addr, len) }).map(drop)
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.memmap2.is_none() {
            // SAFETY: By the type invariant the range is ours. A failure would leave it mapped until
            // the process ends, which harms nothing.
            let _ = unsafe { mman::munmap(self.start.cast(), self.len) };
        }
    }
}

/// Runs `body` in a forked child, which ends with the status it returns, or 101 if it panics. A lock that
/// another thread holds is never released there: `body` must not wait for one.
///
/// # Errors
///
/// What `fork(2)` says.
pub fn fork(body: impl FnOnce() -> i32) -> Result<Pid, Errno> {
    // SAFETY: The child has this thread alone. What the others were changing stays half changed there,
    // but it is theirs alone or behind locks that stay held, so `body` cannot reach it. That includes
    // glibc, except what fork(3) makes usable again: it takes the locks of malloc and stdio before the
    // call and resets them in the child (posix/fork.c), so `body` may allocate.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let status = catch_unwind(AssertUnwindSafe(body)).unwrap_or(101);
            // SAFETY: `_exit` has no precondition. It runs no destructor of what the caller still owns,
            // and no handler of `exit`, which would flush the parent's buffers again.
            unsafe { libc::_exit(status) }
        }
    }
}

/// A descriptor that becomes readable when the process ends, see `pidfd_open(2)`.
///
/// # Errors
///
/// What the call says.
pub fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: The call takes two integers and touches no memory of ours.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: The kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets this process, and what it forks, no longer make memory that is both writable and executable, or
/// executable later; `PR_SET_MDWE(2const)`. It cannot be undone.
///
/// # Errors
///
/// What `prctl(2)` says.
pub fn deny_write_execute() -> Result<(), Errno> {
    let (gain, zero) = (u64::from(libc::PR_MDWE_REFUSE_EXEC_GAIN), 0_u64);
    // SAFETY: The call takes integers, and takes rights away from later calls.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_MDWE, gain, zero, zero, zero) }).map(drop)
}

/// `swapon(2)`: lets the kernel move pages to this file or block device.
///
/// # Errors
///
/// What the call says.
pub fn swap_on(path: &CStr) -> Result<(), Errno> {
    // SAFETY: The path ends with a 0. What the file held, whoever may call this may overwrite.
    Errno::result(unsafe { libc::swapon(path.as_ptr(), 0) }).map(drop)
}

/// `swapoff(2)`: has the kernel take back what it moved there.
///
/// # Errors
///
/// What the call says.
pub fn swap_off(path: &CStr) -> Result<(), Errno> {
    // SAFETY: The path ends with a 0.
    Errno::result(unsafe { libc::swapoff(path.as_ptr()) }).map(drop)
}

/// Has the C library call `handler` when the process ends by `exit(3)`, see `atexit(3)`.
///
/// # Errors
///
/// `ENOMEM`, if it cannot keep one more.
pub fn at_exit(handler: extern "C" fn()) -> Result<(), Errno> {
    // SAFETY: A safe function may be called at any time, and the program's code is never unloaded.
    match unsafe { libc::atexit(handler) } {
        0 => Ok(()),
        _ => Err(Errno::ENOMEM),
    }
}

/// How many of the file's pages are in the page cache, see `cachestat(2)`.
///
/// # Errors
///
/// What the call says.
pub fn cached_pages(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    // Neither the number nor the structures are in the libc crate; include/uapi/linux/mman.h, 7.3.
    const SYS_CACHESTAT: libc::c_long = 451;
    // From the begin of the file to its end.
    let range = [0_u64; 2];
    let mut cached = [0_u64; 5];
    let (fd, range, cached_at) = (file.as_raw_fd(), range.as_ptr(), cached.as_mut_ptr());
    // SAFETY: The call reads a range of two numbers and fills in five, as many as there are.
    Errno::result(unsafe { libc::syscall(SYS_CACHESTAT, fd, range, cached_at, 0) })?;
    let [nr_cached, ..] = cached;
    Ok(nr_cached)
}

/// The descriptor that reports go to, owned by the handlers that [`Sacrifice::fork`] installs; -1 elsewhere.
static REPORT_TO: AtomicI32 = AtomicI32::new(-1);

/// A report: signal, `si_code`, `si_addr`, in native byte order; without a signal 0, 0, the value.
pub const REPORT_LEN: usize = 4 + 4 + 8;

/// The status with which a process ends after it reported a fault.
pub const FAULTED: i32 = 3;

/// The right to touch one address, whatever is there, as the last thing that a process does.
///
/// # Invariants
///
/// Exists only in a child made by [`Sacrifice::fork`], with the handlers in place.
#[derive(Debug)]
pub struct Sacrifice(());

impl Sacrifice {
    /// Forks a child that touches and says on `report_to` how that ended; `body` decides what to touch.
    ///
    /// # Errors
    ///
    /// What `fork(2)` says. A child that cannot install its handlers ends with 1.
    pub fn fork(report_to: OwnedFd, body: impl FnOnce(Self) -> i32) -> Result<Pid, Errno> {
        fork(move || match install_handlers(report_to) {
            // INVARIANT: Only the child runs this.
            Ok(()) => body(Self(())),
            Err(_) => 1,
        })
    }

    /// Reads a byte from any address.
    pub fn load(self, addr: usize) -> ! {
        let value: u8;
        // SAFETY: An instruction, unlike a Rust pointer, may try any address, 0 too: it reads what is
        // there, or it faults and the handler ends the process (type invariant).
        unsafe { asm!("mov {}, [{}]", out(reg_byte) value, in(reg) addr, options(readonly)) };
        report(0, 0, value.into(), 0)
    }

    /// Writes a byte to any address.
    pub fn store(self, addr: usize, value: u8) -> ! {
        // SAFETY: As in `load`. What it changes is this process's copy, of which nothing is used again
        // but the report's descriptor, or a shared mapping, whose bytes may change at any time.
        unsafe { asm!("mov [{}], {}", in(reg) addr, in(reg_byte) value) };
        report(0, 0, value.into(), 0)
    }

    /// Reads a byte from any address and goes on, if nothing is wrong with that.
    #[must_use]
    pub fn peek(&self, addr: usize) -> u8 {
        let value: u8;
        // SAFETY: As in `load`; reading changes no memory that the program knows of.
        unsafe { asm!("mov {}, [{}]", out(reg_byte) value, in(reg) addr, options(readonly)) };
        value
    }

    /// `munmap(2)` of any range; the value reported is the errno, or 0.
    pub fn unmap(self, addr: usize, len: usize) -> ! {
        // SAFETY: As in `store`: whatever that takes away, this process uses nothing again but the report,
        // and if it took that away, it ends by a signal.
        let done = unsafe { libc::munmap(ptr::with_exposed_provenance_mut(addr), len) };
        report(0, 0, errno_of(done), 0)
    }

    /// `mprotect(2)` of any range; the value reported is the errno, or 0.
    pub fn protect(self, addr: usize, len: usize, prot: ProtFlags) -> ! {
        let addr = ptr::with_exposed_provenance_mut(addr);
        // SAFETY: As in `unmap`.
        let done = unsafe { libc::mprotect(addr, len, prot.bits()) };
        report(0, 0, errno_of(done), 0)
    }

    /// Jumps to any address as to a C function without arguments.
    pub fn call(self, addr: usize) -> ! {
        let value: u32;
        // SAFETY: As in `load` and `store`, for all that the code there does. The stack is aligned for a
        // call, and what a C function may overwrite is declared.
        unsafe { asm!("call {}", in(reg) addr, lateout("eax") value, clobber_abi("C")) };
        report(0, 0, value.into(), 0)
    }
}

/// What a call that returned `done` has failed with; 0 if it succeeded.
fn errno_of(done: i32) -> u64 {
    Errno::result(done).map_or_else(|errno| u64::from((errno as i32).unsigned_abs()), |_| 0)
}

fn install_handlers(report_to: OwnedFd) -> Result<(), Errno> {
    // Never closed again, so that the handlers cannot write to what another file got as its number.
    REPORT_TO.store(report_to.into_raw_fd(), Ordering::Relaxed);
    let handler = SigHandler::SigAction(report_fault);
    let action = SigAction::new(handler, SaFlags::SA_SIGINFO, SigSet::empty());
    for signal in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL] {
        // SAFETY: `report_fault` makes only calls that signal-safety(7) allows.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

extern "C" fn report_fault(signo: i32, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: The kernel passes a valid `siginfo_t` to a handler installed with SA_SIGINFO.
    let info = unsafe { &*info };
    // SAFETY: For these signals the union holds `si_addr` (sigaction(2)).
    let addr = unsafe { info.si_addr() }.addr() as u64;
    // Returning would repeat the faulting access for ever.
    report(signo, info.si_code, addr, FAULTED)
}

/// Writes the report and ends the process.
fn report(signo: i32, code: i32, value: u64, status: i32) -> ! {
    let mut report = [0; REPORT_LEN];
    report[..4].copy_from_slice(&signo.to_ne_bytes());
    report[4..8].copy_from_slice(&code.to_ne_bytes());
    report[8..].copy_from_slice(&value.to_ne_bytes());
    let fd = REPORT_TO.load(Ordering::Relaxed);
    // SAFETY: `report` lives on this stack and has the length given. A short write shows at the reader.
    unsafe { libc::write(fd, report.as_ptr().cast(), REPORT_LEN) };
    // SAFETY: `_exit` has no precondition.
    unsafe { libc::_exit(status) }
}

/// The ioctls of the driver: one call for each structure, so that number and structure agree.
pub mod ioctl {
    use std::os::fd::{AsRawFd, BorrowedFd};

    use nix::errno::Errno;

    use super::Mapping;
    use crate::uapi::{self, Checksum, Fill, Increment, Info, PageInfo};

    /// A structure that the driver reads, or fills in, or both.
    ///
    /// # Safety
    ///
    /// `REQUEST` must be the number of an ioctl of the driver that takes this structure, and any bytes must
    /// be a valid value of it.
    unsafe trait Argument {
        /// The number of the ioctl.
        const REQUEST: u32;
    }

    // SAFETY: By `uapi`, and its fields are integers.
    unsafe impl Argument for Info {
        const REQUEST: u32 = uapi::INFO;
    }

    // SAFETY: By `uapi`, and its fields are integers.
    unsafe impl Argument for PageInfo {
        const REQUEST: u32 = uapi::PAGE_INFO;
    }

    // SAFETY: By `uapi`, and its fields are integers.
    unsafe impl Argument for Fill {
        const REQUEST: u32 = uapi::FILL;
    }

    // SAFETY: By `uapi`, and its field is an integer.
    unsafe impl Argument for Increment {
        const REQUEST: u32 = uapi::INCREMENT;
    }

    // SAFETY: By `uapi`, and its fields are integers.
    unsafe impl Argument for Checksum {
        const REQUEST: u32 = uapi::CHECKSUM;
    }

    /// Makes the call; other drivers do not know these numbers, and say so.
    fn call<T: Argument>(fd: BorrowedFd<'_>, mut argument: T) -> Result<T, Errno> {
        // SAFETY: The trait promises that the driver accesses a `T`, which `argument` is.
        let done = unsafe { libc::ioctl(fd.as_raw_fd(), T::REQUEST.into(), &raw mut argument) };
        Errno::result(done).map(|_| argument)
    }

    /// What anybody may know of the node behind `fd`.
    ///
    /// # Errors
    ///
    /// What `ioctl(2)` says.
    pub fn info(fd: BorrowedFd<'_>) -> Result<Info, Errno> {
        call(fd, Info::default())
    }

    /// What the kernel knows of the page at `pgoff` of the buffer.
    ///
    /// # Errors
    ///
    /// What `ioctl(2)` says.
    pub fn page_info(fd: BorrowedFd<'_>, pgoff: u64) -> Result<PageInfo, Errno> {
        let asked = PageInfo {
            pgoff,
            ..PageInfo::default()
        };
        call(fd, asked)
    }

    /// Has the kernel set bytes of the buffer.
    ///
    /// # Errors
    ///
    /// What `ioctl(2)` says.
    pub fn fill(fd: BorrowedFd<'_>, fill: Fill) -> Result<(), Errno> {
        call(fd, fill).map(drop)
    }

    /// Has the kernel increment the 64-bit number at `offset`.
    ///
    /// # Errors
    ///
    /// What `ioctl(2)` says.
    pub fn increment(fd: BorrowedFd<'_>, offset: u64) -> Result<(), Errno> {
        call(fd, Increment { offset }).map(drop)
    }

    /// Has the kernel read bytes of the buffer.
    ///
    /// # Errors
    ///
    /// What `ioctl(2)` says.
    pub fn checksum(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<u64, Errno> {
        let sum = 0;
        call(fd, Checksum { offset, len, sum }).map(|checksum| checksum.sum)
    }

    /// Sets the buffer and the counts of the node to 0.
    ///
    /// # Errors
    ///
    /// What `ioctl(2)` says.
    pub fn reset(fd: BorrowedFd<'_>) -> Result<(), Errno> {
        // SAFETY: The command takes no argument.
        let done = unsafe { libc::ioctl(fd.as_raw_fd(), uapi::RESET.into()) };
        Errno::result(done).map(drop)
    }

    /// What `_IOC_SIZE()` and `_IOC_TYPE()` take out of a number.
    pub(super) fn parts(request: u32) -> (usize, u32) {
        ((request >> 16 & 0x3fff) as usize, request >> 8 & 0xff)
    }

    impl Mapping {
        /// `ioctl(2)` with the address of bytes of the mapping, which need not be accessible, as argument.
        ///
        /// # Errors
        ///
        /// What the call says; `ERANGE`, without a call, if the structure whose length is a part of the
        /// number lies outside, or if the number is not one that this driver might have.
        pub fn ioctl(&self, fd: BorrowedFd<'_>, request: u32, offset: usize) -> Result<(), Errno> {
            let (len, of) = parts(request);
            if of != parts(uapi::INFO).1 {
                return Err(Errno::ERANGE);
            }
            let argument = self.at(offset, len).map_err(|_| Errno::ERANGE)?;
            // SAFETY: By the number, the driver accesses `len` bytes, all inside the mapping, to which no
            // reference exists, or answers EFAULT.
            let done = unsafe { libc::ioctl(fd.as_raw_fd(), request.into(), argument) };
            Errno::result(done).map(drop)
        }
    }
}

/// System calls with an argument in memory that may be anybody's.
pub mod argument {
    use std::os::fd::{AsRawFd, BorrowedFd};

    use nix::errno::Errno;

    use super::{KERNEL_HALF, Mapping};
    use crate::uapi;

    /// Where a call is told that its argument is.
    #[derive(Clone, Copy, Debug)]
    pub enum Place<'a> {
        /// At this offset of a mapping, accessible or not.
        In(&'a Mapping, usize),
        /// At this address, in the kernel's half of all addresses even if the number is not.
        Kernel(usize),
    }

    impl Place<'_> {
        /// The address of `len` bytes there; `ERANGE` if they do not lie in the mapping.
        fn of(self, len: usize) -> Result<*mut libc::c_void, Errno> {
            match self {
                Self::In(mapping, offset) => {
                    let at = mapping.at(offset, len).map_err(|_| Errno::ERANGE)?;
                    Ok(at.cast())
                }
                Self::Kernel(addr) => Ok(std::ptr::with_exposed_provenance_mut(addr | KERNEL_HALF)),
            }
        }
    }

    /// `pread(2)`.
    ///
    /// # Errors
    ///
    /// What the call says; `ERANGE`, without a call, if the bytes do not lie in the mapping.
    pub fn read(fd: BorrowedFd<'_>, to: Place<'_>, len: usize, at: i64) -> Result<usize, Errno> {
        let to = to.of(len)?;
        // SAFETY: `of` gave `len` bytes of a mapping, to which there are references to atomics only, or an
        // address that no process can have and the kernel refuses (`access_ok()`).
        let read = unsafe { libc::pread(fd.as_raw_fd(), to, len, at) };
        Errno::result(read).map(isize::unsigned_abs)
    }

    /// `pwrite(2)`.
    ///
    /// # Errors
    ///
    /// As [`read`].
    pub fn write(fd: BorrowedFd<'_>, from: Place<'_>, len: usize, at: i64) -> Result<usize, Errno> {
        let from = from.of(len)?;
        // SAFETY: As in `read`.
        let written = unsafe { libc::pwrite(fd.as_raw_fd(), from, len, at) };
        Errno::result(written).map(isize::unsigned_abs)
    }

    /// `ioctl(2)` with any number that this driver might have.
    ///
    /// # Errors
    ///
    /// As [`read`]; `ERANGE` also of a number that is another driver's.
    pub fn ioctl(fd: BorrowedFd<'_>, request: u32, argument: Place<'_>) -> Result<(), Errno> {
        let (len, of) = super::ioctl::parts(request);
        if of != super::ioctl::parts(uapi::INFO).1 {
            return Err(Errno::ERANGE);
        }
        let argument = argument.of(len)?;
        // SAFETY: As in `read`: by the number, the driver accesses `len` bytes.
        let done = unsafe { libc::ioctl(fd.as_raw_fd(), request.into(), argument) };
        Errno::result(done).map(drop)
    }
}

/// Touches that go on after a fault, for processes that make too many of them to fork for each.
pub mod touch {
    use std::arch::asm;
    use std::ffi::c_void;
    use std::marker::PhantomData;
    use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

    use nix::errno::Errno;
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

    use super::Mapping;
    use crate::error::Result;

    /// Where the handler is to go on: behind the instruction that may fault; 0 while none is under way.
    static LANDING: AtomicUsize = AtomicUsize::new(0);
    /// The signal that the last touch was answered by; 0 if none.
    static CAUGHT: AtomicI32 = AtomicI32::new(0);
    static TAKEN: AtomicBool = AtomicBool::new(false);

    /// The right to touch what may fault.
    ///
    /// # Invariants
    ///
    /// The handlers are in place, and no other thread of the process has this right.
    #[derive(Debug)]
    pub struct Toucher(PhantomData<*const ()>);

    impl Toucher {
        /// Has SIGSEGV and SIGBUS handled in this process and those that it forks.
        ///
        /// # Errors
        ///
        /// What `sigaction(2)` says; `EBUSY` if the process has this right already.
        pub fn install() -> std::result::Result<Self, Errno> {
            if TAKEN.swap(true, Ordering::Relaxed) {
                return Err(Errno::EBUSY);
            }
            let handler = SigHandler::SigAction(go_on);
            let action = SigAction::new(handler, SaFlags::SA_SIGINFO, SigSet::empty());
            for signal in [Signal::SIGSEGV, Signal::SIGBUS] {
                // SAFETY: `go_on` makes only calls that signal-safety(7) allows.
                unsafe { sigaction(signal, &action) }?;
            }
            // INVARIANT: Just installed, for the first time; the type is neither `Send` nor `Sync`.
            Ok(Self(PhantomData))
        }

        /// Reads a byte, or says which signal came instead.
        ///
        /// # Errors
        ///
        /// If the offset lies outside.
        pub fn load(
            &self,
            from: &Mapping,
            offset: usize,
        ) -> Result<std::result::Result<u8, Signal>> {
            let at = from.at(offset, 1)?;
            let mut value = 0_u8;
            // SAFETY: `at` is inside a mapping. If the load faults, the handler, which is in place (type
            // invariant), goes on at the label, with all registers as they were before the load.
            unsafe {
                asm!(
                    "lea {there}, [rip + 2f]",
                    "mov qword ptr [{landing}], {there}",
                    "mov {value}, byte ptr [{at}]",
                    "2:",
                    "mov qword ptr [{landing}], 0",
                    there = out(reg) _,
                    landing = in(reg) LANDING.as_ptr(),
                    at = in(reg) at,
                    value = inout(reg_byte) value,
                    options(nostack),
                );
            }
            Ok(caught().map_or(Ok(value), Err))
        }

        /// Writes a byte, or says which signal came instead.
        ///
        /// # Errors
        ///
        /// If the offset lies outside.
        pub fn store(
            &self,
            to: &Mapping,
            offset: usize,
            value: u8,
        ) -> Result<std::result::Result<(), Signal>> {
            let at = to.at(offset, 1)?;
            // SAFETY: As in `load`, and as in `Mapping::store` for the references that may exist.
            unsafe {
                asm!(
                    "lea {there}, [rip + 2f]",
                    "mov qword ptr [{landing}], {there}",
                    "mov byte ptr [{at}], {value}",
                    "2:",
                    "mov qword ptr [{landing}], 0",
                    there = out(reg) _,
                    landing = in(reg) LANDING.as_ptr(),
                    at = in(reg) at,
                    value = in(reg_byte) value,
                    options(nostack),
                );
            }
            Ok(caught().map_or(Ok(()), Err))
        }
    }

    fn caught() -> Option<Signal> {
        Signal::try_from(CAUGHT.swap(0, Ordering::Relaxed)).ok()
    }

    extern "C" fn go_on(signo: i32, _info: *mut libc::siginfo_t, context: *mut c_void) {
        let landing = LANDING.swap(0, Ordering::Relaxed);
        let Ok(landing) = i64::try_from(landing) else {
            return;
        };
        if landing == 0 {
            // Nobody's touch: let it come again, and end the process.
            // SAFETY: The default action runs no code of ours.
            unsafe { libc::signal(signo, libc::SIG_DFL) };
            return;
        }
        CAUGHT.store(signo, Ordering::Relaxed);
        // SAFETY: The kernel passes a valid `ucontext_t` to a handler installed with SA_SIGINFO, and nobody
        // else has it.
        let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
        context.uc_mcontext.gregs[libc::REG_RIP as usize] = landing;
    }

    #[cfg(test)]
    mod tests {
        use nix::sys::mman::ProtFlags;

        use super::*;
        use crate::map_call::MapCall;
        use crate::process::{End, Process};
        use crate::turn::TURN;

        #[test]
        fn a_touch_that_faults_names_its_signal_and_goes_on() {
            // Handlers are for the whole process, and tests are threads of one.
            let body = || {
                let toucher = Toucher::install().unwrap();
                assert_eq!(Toucher::install().unwrap_err(), Errno::EBUSY);
                let call = MapCall {
                    len: 2 * super::super::PAGE_SIZE,
                    prot: ProtFlags::PROT_READ,
                    flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    offset: 0,
                };
                let mut mapping = Mapping::new(call, None).unwrap();
                for _ in 0..3 {
                    assert_eq!(toucher.load(&mapping, 0).unwrap(), Ok(0));
                    assert_eq!(toucher.store(&mapping, 0, 1).unwrap(), Err(Signal::SIGSEGV));
                }
                mapping
                    .protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
                    .unwrap();
                assert_eq!(toucher.store(&mapping, 4097, 7).unwrap(), Ok(()));
                assert_eq!(toucher.load(&mapping, 4097).unwrap(), Ok(7));
                assert!(toucher.load(&mapping, mapping.len()).is_err());
                0
            };
            let child = Process::fork("a child that touches", body).unwrap();
            assert_eq!(child.wait(TURN).unwrap(), End::Exited(0));
        }

        #[test]
        fn a_fault_of_anything_else_still_ends_the_process() {
            let body = || {
                let _toucher = Toucher::install().unwrap();
                let call = MapCall {
                    len: super::super::PAGE_SIZE,
                    prot: ProtFlags::PROT_NONE,
                    flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    offset: 0,
                };
                let mapping = Mapping::new(call, None).unwrap();
                i32::from(mapping.load(0).unwrap())
            };
            let child = Process::fork("a child that faults", body).unwrap();
            assert_eq!(child.wait(TURN).unwrap(), End::Killed(Signal::SIGSEGV));
        }
    }
}

/// The kernel's own test of taking pages (`mm/gup_test.h`), where it was built with that (`CONFIG_GUP_TEST`).
pub mod gup_test {
    use std::os::fd::{AsRawFd, BorrowedFd};

    use nix::errno::Errno;

    use super::{Mapping, PAGE_SIZE};

    /// Where it is asked.
    pub const PATH: &str = "/sys/kernel/debug/gup_test";

    /// The pages are to be written to (`FOLL_WRITE` in `include/linux/mm_types.h`).
    const FOLL_WRITE: u32 = 1;

    /// A function of `mm/gup.c`, as the number of its ioctl.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Way {
        /// `get_user_pages_fast()`: without a lock, from the page tables alone if that will do.
        GetFast = 1,
        /// `pin_user_pages_fast()`.
        PinFast = 2,
        /// `pin_user_pages()` with `FOLL_LONGTERM`: for as long as user space likes.
        PinLongterm = 3,
        /// `get_user_pages()`.
        Get = 4,
        /// `pin_user_pages()`: as for a transfer by a device.
        Pin = 5,
    }

    impl Way {
        /// All there are.
        pub const ALL: [Self; 5] = [
            Self::GetFast,
            Self::PinFast,
            Self::PinLongterm,
            Self::Get,
            Self::Pin,
        ];
    }

    /// `struct gup_test`.
    #[repr(C)]
    #[derive(Default)]
    struct GupTest {
        times: [u64; 2],
        addr: u64,
        size: u64,
        nr_pages_per_call: u32,
        gup_flags: u32,
        test_flags: u32,
        which_pages: [u32; 8],
    }

    /// Has the kernel take the pages of `memory` one by one, until it does not get one, find that they are marked as
    /// taken, and give them back; returns how many it got. `kernel` is open at [`PATH`].
    ///
    /// # Errors
    ///
    /// What `ioctl(2)` says: of pages that are not to be had, nothing.
    pub fn take(kernel: BorrowedFd<'_>, memory: &Mapping, way: Way) -> Result<usize, Errno> {
        let mut test = GupTest {
            addr: memory.addr() as u64,
            size: memory.len() as u64,
            nr_pages_per_call: 1,
            gup_flags: FOLL_WRITE,
            ..GupTest::default()
        };
        let request = nix::request_code_readwrite!(b'g', way as u8, size_of::<GupTest>());
        // SAFETY: The kernel reads and fills in a `struct gup_test`, which `test` is. It touches the pages as a load or
        // a store would, changes no byte of them, and has none of them left when the call returns.
        let done = unsafe { libc::ioctl(kernel.as_raw_fd(), request, &raw mut test) };
        Errno::result(done)?;
        usize::try_from(test.size)
            .map(|len| len / PAGE_SIZE)
            .map_err(|_| Errno::EOVERFLOW)
    }
}

/// Memory that the kernel keeps for us, whatever becomes of its mapping: the registered buffers of
/// `io_uring(7)`.
pub mod pinned {
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
    use std::ptr;
    use std::sync::atomic::Ordering;

    use nix::errno::Errno;
    use nix::sys::mman::ProtFlags;

    use super::Mapping;
    use crate::map_call::MapCall;

    // Of `include/uapi/linux/io_uring.h`, which the libc crate does not translate.
    const SETUP_NO_SQARRAY: u32 = 1 << 16;
    const ENTER_GETEVENTS: u32 = 1;
    const REGISTER_BUFFERS: u32 = 0;
    const UNREGISTER_BUFFERS: u32 = 1;
    const OP_READ_FIXED: u64 = 4;
    const OP_WRITE_FIXED: u64 = 5;
    const OFF_RING: i64 = 0;
    const OFF_ENTRIES: i64 = 0x1000_0000;
    const ENTRY_LEN: usize = 64;
    const COMPLETION_LEN: usize = 16;

    /// `struct io_uring_params`.
    #[repr(C)]
    #[derive(Default)]
    struct Params {
        sq_entries: u32,
        cq_entries: u32,
        flags: u32,
        others: [u32; 4],
        reserved: [u32; 3],
        submissions: Offsets,
        completions: Offsets,
    }

    /// `struct io_sqring_offsets` and `struct io_cqring_offsets`: where in the ring's mapping is what.
    #[repr(C)]
    #[derive(Default)]
    struct Offsets {
        head: u32,
        tail: u32,
        mask: u32,
        entries: u32,
        flags_or_overflow: u32,
        /// Of the completion queue, its entries.
        dropped_or_entries: u32,
        others: [u32; 2],
        user_addr: u64,
    }

    /// The pages that a range of memory had when it was pinned, and a ring to make use of them.
    #[derive(Debug)]
    pub struct Pinned {
        ring: OwnedFd,
        queues: Mapping,
        entry: Mapping,
        submitted: usize,
        completed: usize,
        completions: usize,
        mask: u32,
        /// Where the range was; from now on only a name for it.
        addr: usize,
    }

    impl Pinned {
        /// Pins all pages of `memory` (`IORING_REGISTER_BUFFERS`), for writing, so that what is mapped
        /// privately is copied first.
        ///
        /// # Errors
        ///
        /// What `io_uring_setup(2)`, `mmap(2)` and `io_uring_register(2)` say; `EFAULT` of memory that has
        /// no pages.
        pub fn new(memory: &Mapping) -> Result<Self, Errno> {
            let mut params = Params {
                flags: SETUP_NO_SQARRAY,
                ..Params::default()
            };
            // SAFETY: The kernel reads and fills in a `struct io_uring_params`, which `params` is.
            let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut params) };
            let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
            // SAFETY: The kernel has just opened it for us.
            let ring = unsafe { OwnedFd::from_raw_fd(fd) };

            let map = |len, offset| {
                let call = MapCall {
                    len,
                    prot: ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                    flags: libc::MAP_SHARED,
                    offset,
                };
                Mapping::new(call, Some(ring.as_fd()))
            };
            let completions = params.completions.dropped_or_entries as usize;
            let len = completions + params.cq_entries as usize * COMPLETION_LEN;
            let pinned = Self {
                queues: map(len, OFF_RING)?,
                entry: map(ENTRY_LEN, OFF_ENTRIES)?,
                submitted: params.submissions.tail as usize,
                completed: params.completions.head as usize,
                completions,
                mask: params.cq_entries - 1,
                addr: memory.addr(),
                ring,
            };
            let range = libc::iovec {
                iov_base: ptr::with_exposed_provenance_mut(memory.addr()),
                iov_len: memory.len(),
            };
            pinned.register(REGISTER_BUFFERS, &raw const range, 1)?;
            Ok(pinned)
        }

        /// Gives the pages back, and tells whether the kernel had them.
        ///
        /// # Errors
        ///
        /// What `io_uring_register(2)` says.
        pub fn release(self) -> Result<(), Errno> {
            self.register(UNREGISTER_BUFFERS, ptr::null(), 0)
        }

        /// Writes `len` of the pinned bytes, from `offset` on, to `to`, and waits until that is done.
        ///
        /// # Errors
        ///
        /// What `io_uring_enter(2)` and `write(2)` say.
        pub fn write_to(
            &self,
            to: BorrowedFd<'_>,
            offset: usize,
            len: u32,
        ) -> Result<usize, Errno> {
            self.call(OP_WRITE_FIXED, to, offset, len)
        }

        /// Replaces `len` of the pinned bytes, from `offset` on, by what is read from `from`, and waits until
        /// that is done.
        ///
        /// # Errors
        ///
        /// What `io_uring_enter(2)` and `read(2)` say.
        pub fn read_from(
            &self,
            from: BorrowedFd<'_>,
            offset: usize,
            len: u32,
        ) -> Result<usize, Errno> {
            self.call(OP_READ_FIXED, from, offset, len)
        }

        fn register(&self, what: u32, ranges: *const libc::iovec, count: u32) -> Result<(), Errno> {
            let ring = self.ring.as_raw_fd();
            // SAFETY: The kernel reads `count` ranges. To pin their pages changes no byte of them, and what
            // is done with the pages is up to `call`.
            let done =
                unsafe { libc::syscall(libc::SYS_io_uring_register, ring, what, ranges, count) };
            Errno::result(done).map(drop)
        }

        /// Hands in the one entry that there is, and waits for its completion.
        fn call(
            &self,
            operation: u64,
            fd: BorrowedFd<'_>,
            offset: usize,
            len: u32,
        ) -> Result<usize, Errno> {
            let fd = u64::try_from(fd.as_raw_fd()).map_err(|_| Errno::EBADF)?;
            let addr = self.addr.checked_add(offset).ok_or(Errno::EFAULT)?;
            // `struct io_uring_sqe`; the rest, the number of the buffer among it, is 0. An offset of 0
            // in the file: pipes have none.
            let fields = [operation | fd << 32, 0, addr as u64, len.into(), 0, 0, 0, 0];
            for (index, field) in fields.into_iter().enumerate() {
                let at = self.entry.long(index * 8).map_err(|_| Errno::ERANGE)?;
                at.store(field, Ordering::Relaxed);
            }
            let word = |offset| self.queues.word(offset).map_err(|_| Errno::ERANGE);
            word(self.submitted)?.fetch_add(1, Ordering::Release);

            let ring = self.ring.as_raw_fd();
            // SAFETY: The kernel takes the entry above. It accesses pages that were pinned, and refuses
            // what is outside; they are, or were, those of a `Mapping`, to whose bytes there is no
            // reference but to atomics, and no other use of those pages takes bytes for constant.
            let entered = unsafe {
                libc::syscall(libc::SYS_io_uring_enter, ring, 1, 1, ENTER_GETEVENTS, 0, 0)
            };
            Errno::result(entered)?;
            let head = word(self.completed)?;
            let index = head.load(Ordering::Acquire) & self.mask;
            let at = self.completions + index as usize * COMPLETION_LEN;
            // Behind the eight bytes that name the entry.
            let result = word(at + 8)?.load(Ordering::Acquire).to_ne_bytes();
            let result = i32::from_ne_bytes(result);
            head.fetch_add(1, Ordering::Release);
            usize::try_from(result).map_err(|_| Errno::from_raw(result.wrapping_neg()))
        }
    }
}

/// `msync(2)` of any range, with any flags.
///
/// # Errors
///
/// What the call says.
pub fn msync(addr: usize, len: usize, flags: i32) -> Result<(), Errno> {
    let addr = ptr::with_exposed_provenance_mut(addr);
    // SAFETY: The call changes no byte of memory, whatever is at the address.
    Errno::result(unsafe { libc::msync(addr, len, flags) }).map(drop)
}

/// `FUTEX_WAIT(2const)` for at most a millisecond: whether the kernel lets a process wait on this word.
///
/// # Errors
///
/// What the call says: `EAGAIN` if the word has another value, `ETIMEDOUT` if nobody woke the caller.
pub fn futex_wait(word: &AtomicU32, value: u32, private: bool) -> Result<(), Errno> {
    let private = if private { libc::FUTEX_PRIVATE_FLAG } else { 0 };
    let timeout = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    let (word, operation) = (word.as_ptr(), libc::FUTEX_WAIT | private);
    // SAFETY: The kernel only reads the word, which the reference keeps mapped, and the time.
    let woken =
        unsafe { libc::syscall(libc::SYS_futex, word, operation, value, &raw const timeout) };
    Errno::result(woken).map(drop)
}

/// The C library's locks, in memory that several processes may have mapped.
pub mod lock {
    use std::ffi::CStr;
    use std::mem::MaybeUninit;
    use std::ptr::NonNull;
    use std::sync::atomic::Ordering;

    use nix::errno::Errno;

    use super::Mapping;

    /// The begin of a page, which a lock takes; `ERANGE` if it cannot be there.
    fn place<T>(page: &Mapping) -> Result<NonNull<T>, Errno> {
        let at = page.aligned::<T>(0).map_err(|_| Errno::ERANGE)?;
        NonNull::new(at).ok_or(Errno::ERANGE)
    }

    fn checked(errno: i32) -> Result<(), Errno> {
        if errno == 0 {
            Ok(())
        } else {
            Err(Errno::from_raw(errno))
        }
    }

    /// A mutex, see `pthread_mutex_lock(3)`.
    ///
    /// # Invariants
    ///
    /// The mapping begins with a mutex that was made by `pthread_mutex_init`. It is lent to nobody.
    #[derive(Debug)]
    pub struct Mutex(Mapping);

    impl Mutex {
        /// Makes a mutex at the begin of the mapping: for threads of one process, or, `shared`, of all.
        ///
        /// # Errors
        ///
        /// What the C library says.
        pub fn new(page: Mapping, shared: bool) -> Result<Self, Errno> {
            let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
            let attributes = attributes.as_mut_ptr();
            // SAFETY: There is room for what the call makes.
            checked(unsafe { libc::pthread_mutexattr_init(attributes) })?;
            let scope = if shared {
                libc::PTHREAD_PROCESS_SHARED
            } else {
                libc::PTHREAD_PROCESS_PRIVATE
            };
            // SAFETY: The attributes have been made.
            checked(unsafe { libc::pthread_mutexattr_setpshared(attributes, scope) })?;
            let mutex = place(&page)?.as_ptr();
            // SAFETY: `place` gave room inside the mapping, which this function owns. Where it cannot be
            // written the kernel raises a signal, as for any store.
            checked(unsafe { libc::pthread_mutex_init(mutex, attributes) })?;
            // INVARIANT: The call above made it.
            Ok(Self(page))
        }

        /// Waits until it is free and takes it.
        ///
        /// # Errors
        ///
        /// What the C library says.
        pub fn lock(&self) -> Result<Locked<'_>, Errno> {
            let mutex = place(&self.0)?.as_ptr();
            // SAFETY: A mutex is there (type invariant); its kind checks nothing, so any thread may call.
            checked(unsafe { libc::pthread_mutex_lock(mutex) })?;
            // INVARIANT: This thread has taken it.
            Ok(Locked(self))
        }

        /// Whether its word in memory says that nobody has it.
        #[must_use]
        pub fn is_free(&self) -> bool {
            let word = self.0.word(0);
            word.is_ok_and(|word| word.load(Ordering::Acquire) == 0)
        }
    }

    /// A mutex taken, given back when dropped.
    ///
    /// # Invariants
    ///
    /// The thread that has this has taken the mutex.
    #[derive(Debug)]
    pub struct Locked<'a>(&'a Mutex);

    impl Drop for Locked<'_> {
        fn drop(&mut self) {
            if let Ok(mutex) = place(&self.0.0) {
                // SAFETY: By the invariants a mutex is there and this thread has taken it.
                unsafe { libc::pthread_mutex_unlock(mutex.as_ptr()) };
            }
        }
    }

    /// A semaphore, see `sem_overview(7)`.
    ///
    /// # Invariants
    ///
    /// `at` is a semaphore that `sem_init` has made in `page`, or that `sem_open` has returned.
    #[derive(Debug)]
    pub struct Semaphore {
        at: NonNull<libc::sem_t>,
        page: Option<Mapping>,
    }

    impl Semaphore {
        /// Makes one without a name at the begin of the mapping, for all processes.
        ///
        /// # Errors
        ///
        /// What the C library says.
        pub fn within(page: Mapping, value: u32) -> Result<Self, Errno> {
            let at = place(&page)?;
            // SAFETY: As for `pthread_mutex_init` above.
            Errno::result(unsafe { libc::sem_init(at.as_ptr(), 1, value) })?;
            // INVARIANT: The call above made it; the page stays where it is.
            let page = Some(page);
            Ok(Self { at, page })
        }

        /// Makes one with a new name.
        ///
        /// # Errors
        ///
        /// What the C library says.
        pub fn create(name: &CStr, value: u32) -> Result<Self, Errno> {
            let (flags, mode): (_, libc::mode_t) = (libc::O_CREAT | libc::O_EXCL, 0o600);
            // SAFETY: The name ends with a 0; with O_CREAT a mode and a value follow.
            Self::named(unsafe { libc::sem_open(name.as_ptr(), flags, mode, value) })
        }

        /// Opens the one that has this name.
        ///
        /// # Errors
        ///
        /// What the C library says.
        pub fn open(name: &CStr) -> Result<Self, Errno> {
            // SAFETY: The name ends with a 0; without O_CREAT nothing follows.
            Self::named(unsafe { libc::sem_open(name.as_ptr(), 0) })
        }

        fn named(opened: *mut libc::sem_t) -> Result<Self, Errno> {
            if opened == libc::SEM_FAILED {
                return Err(Errno::last());
            }
            // INVARIANT: `sem_open` has returned it.
            let at = NonNull::new(opened).ok_or(Errno::EINVAL)?;
            Ok(Self { at, page: None })
        }

        /// Takes the name away; who has it open keeps it.
        ///
        /// # Errors
        ///
        /// What the C library says.
        pub fn unlink(name: &CStr) -> Result<(), Errno> {
            // SAFETY: The name ends with a 0.
            Errno::result(unsafe { libc::sem_unlink(name.as_ptr()) }).map(drop)
        }

        /// Waits until it is more than 0 and takes 1 away.
        ///
        /// # Errors
        ///
        /// What the C library says.
        pub fn wait(&self) -> Result<(), Errno> {
            // SAFETY: A semaphore is there (type invariant).
            Errno::result(unsafe { libc::sem_wait(self.at.as_ptr()) }).map(drop)
        }

        /// Adds 1.
        ///
        /// # Errors
        ///
        /// What the C library says.
        pub fn post(&self) -> Result<(), Errno> {
            // SAFETY: As in `wait`.
            Errno::result(unsafe { libc::sem_post(self.at.as_ptr()) }).map(drop)
        }
    }

    impl Drop for Semaphore {
        fn drop(&mut self) {
            if self.page.is_none() {
                // SAFETY: `sem_open` has returned it (type invariant), and nobody uses it any more.
                unsafe { libc::sem_close(self.at.as_ptr()) };
            }
        }
    }
}

/// System V's shared memory, see `shmget(2)`.
pub mod sysv {
    use std::mem::MaybeUninit;

    use nix::errno::Errno;

    /// A segment of shared memory, removed when dropped.
    #[derive(Debug)]
    pub struct Segment(i32);

    impl Segment {
        /// Makes one without a key.
        ///
        /// # Errors
        ///
        /// What `shmget(2)` says.
        pub fn new(len: usize) -> Result<Self, Errno> {
            // SAFETY: The call takes integers.
            let id = unsafe { libc::shmget(libc::IPC_PRIVATE, len, libc::IPC_CREAT | 0o600) };
            Errno::result(id).map(Self)
        }

        /// Its identifier.
        #[must_use]
        pub fn id(&self) -> i32 {
            self.0
        }
    }

    impl Drop for Segment {
        fn drop(&mut self) {
            // SAFETY: With IPC_RMID the buffer is not used.
            unsafe { libc::shmctl(self.0, libc::IPC_RMID, std::ptr::null_mut()) };
        }
    }

    /// `shmctl(2)` with `IPC_STAT`: the length of the segment with this identifier.
    ///
    /// # Errors
    ///
    /// What the call says.
    pub fn stat(id: i32) -> Result<usize, Errno> {
        let mut segment = MaybeUninit::<libc::shmid_ds>::uninit();
        // SAFETY: There is room for what the call fills in.
        Errno::result(unsafe { libc::shmctl(id, libc::IPC_STAT, segment.as_mut_ptr()) })?;
        // SAFETY: It succeeded, so all is filled in.
        Ok(unsafe { segment.assume_init() }.shm_segsz)
    }
}

/// Calls to file systems.
pub mod filesystem {
    use std::os::fd::{AsRawFd, BorrowedFd};

    use nix::errno::Errno;

    /// The head of `struct fiemap`, `include/uapi/linux/fiemap.h`; extents follow only if they are asked for.
    #[repr(C)]
    #[derive(Default)]
    struct Fiemap {
        start: u64,
        length: u64,
        flags: u32,
        mapped_extents: u32,
        extent_count: u32,
        reserved: u32,
    }

    nix::ioctl_readwrite!(
        /// `FS_IOC_FIEMAP`, `Documentation/filesystems/fiemap.rst`.
        fs_ioc_fiemap, b'f', 11, Fiemap
    );
    nix::ioctl_read!(
        /// `EXT4_IOC_SHUTDOWN`, `include/uapi/linux/ext4.h`.
        fs_ioc_shutdown, b'X', 125, u32
    );

    /// How many pieces of the disk the file's content lies in, or will lie in.
    ///
    /// # Errors
    ///
    /// What `ioctl(2)` says; `EOPNOTSUPP` where there is no disk.
    pub fn nr_extents(file: BorrowedFd<'_>) -> Result<u32, Errno> {
        let mut map = Fiemap {
            length: u64::MAX,
            ..Fiemap::default()
        };
        // SAFETY: The kernel accesses a `struct fiemap` and, as none are asked for, no extents after it.
        unsafe { fs_ioc_fiemap(file.as_raw_fd(), &raw mut map) }?;
        Ok(map.mapped_extents)
    }

    /// Has the file system fail from now on as if its disk were gone, see `Documentation/filesystems/ext4/`.
    ///
    /// # Errors
    ///
    /// What `ioctl(2)` says.
    pub fn shut_down(root: BorrowedFd<'_>) -> Result<(), Errno> {
        /// Nothing more is written, not even what the journal has, `include/uapi/linux/ext4.h`.
        const NOLOGFLUSH: u32 = 2;
        let mut how = NOLOGFLUSH;
        // SAFETY: The kernel reads 4 bytes, whatever the number says of the direction.
        unsafe { fs_ioc_shutdown(root.as_raw_fd(), &raw mut how) }.map(drop)
    }
}
