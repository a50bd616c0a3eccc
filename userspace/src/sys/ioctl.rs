//! The ioctls of the driver: one call for each structure, so that number and structure agree.

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
fn parts(request: u32) -> (usize, u32) {
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
