// SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note

//! The ioctls of the three nodes: numbers and structures.
//!
//! The driver and userspace compile this one file, so that they cannot disagree. It imports nothing.
//! The driver (Kbuild sets `MODULE`) does without some of the usual traits: for each that it
//! implemented, the compiler would look at every C structure that does, too. To print or compare
//! one while you look for a mistake, have its line derive the trait in both worlds.
//! No structure has padding or a pointer: all bytes are defined, and 32-bit userspace sees the same
//! layout as 64-bit userspace.

/// Marks the ioctls of this driver.
///
/// Nobody else uses it (`Documentation/userspace-api/ioctl/ioctl-number.rst`, Linux 7.3).
const TYPE: u32 = 0xd6;

/// The direction of an ioctl that only does something.
const NONE: u32 = 0;
/// The direction of an ioctl whose structure the driver reads.
const WRITE: u32 = 1;
/// The direction of an ioctl whose structure the driver fills in.
const READ: u32 = 2;

/// What `_IOC()` makes in `include/uapi/asm-generic/ioctl.h`: a structure of another size makes
/// another number, and so a command that the driver does not know.
const fn number(direction: u32, nr: u32, len: usize) -> u32 {
    direction << 30 | (len as u32) << 16 | TYPE << 8 | nr
}

/// Fills in an [`Info`].
pub const INFO: u32 = number(READ, 0, size_of::<Info>());
/// Fills in a [`PageInfo`] about the page that it names; only for `CAP_SYS_ADMIN`.
pub const PAGE_INFO: u32 = number(READ | WRITE, 1, size_of::<PageInfo>());
/// Does what a [`Fill`] says; only for a file open for writing.
pub const FILL: u32 = number(WRITE, 2, size_of::<Fill>());
/// Does what an [`Increment`] says; only for a file open for writing.
pub const INCREMENT: u32 = number(WRITE, 3, size_of::<Increment>());
/// Fills in a [`Checksum`] of the bytes that it names; only for a file open for reading.
pub const CHECKSUM: u32 = number(READ | WRITE, 4, size_of::<Checksum>());
/// Sets all bytes of the buffer and the node's count of faults to 0; only for a file open for writing.
pub const RESET: u32 = number(NONE, 5, 0);

/// [`Info::strategy`] of `/dev/mmapdemo`: pages are mapped by `vm_insert_page()` when mmap is called.
pub const INSERT_PAGE: u32 = 0;
/// [`Info::strategy`] of `/dev/mmapdemo-pfn`: pages are mapped by `remap_pfn_range()` when mmap is
/// called.
pub const REMAP_PFN: u32 = 1;
/// [`Info::strategy`] of `/dev/mmapdemo-fault`: a page is mapped when it is touched.
pub const FAULT: u32 = 2;

/// What anybody may know of a node.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(not(MODULE), derive(Debug, Default, PartialEq, Eq))]
pub struct Info {
    /// How pages of the buffer get into a mapping: [`INSERT_PAGE`], [`REMAP_PFN`] or [`FAULT`].
    pub strategy: u32,
    /// Number of pages in the buffer.
    pub nr_pages: u32,
    /// Number of bytes in the buffer.
    pub len: u64,
    /// Number of page faults that the node has answered; 0 unless its strategy is [`FAULT`].
    pub faults: u64,
    /// Number of VMAs that show the buffer through this node, in all processes.
    pub mappings: u64,
}

/// What the kernel knows of one page of the buffer.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(not(MODULE), derive(Debug, Default, PartialEq, Eq))]
pub struct PageInfo {
    /// Which page, counted from 0; given by the caller.
    pub pgoff: u64,
    /// Number of its frame in physical memory.
    pub pfn: u64,
    /// Number of references that keep it from being freed; one of them is the driver's.
    pub refcount: i32,
    /// Number of page table entries that map it and are counted; those made by `remap_pfn_range()`
    /// are not.
    pub mapcount: i32,
}

/// Bytes that the kernel is to set to one value.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(not(MODULE), derive(Debug, Default, PartialEq, Eq))]
pub struct Fill {
    /// Where they start.
    pub offset: u64,
    /// How many there are.
    pub len: u64,
    /// The value.
    pub value: u8,
    /// Must be 0.
    pub reserved: [u8; 7],
}

/// A number that the kernel is to increment by one, atomically.
///
/// It wraps around. Nothing is returned, so that nothing can fail after the change.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(not(MODULE), derive(Debug, Default, PartialEq, Eq))]
pub struct Increment {
    /// Where its 8 bytes start: a multiple of 8.
    pub offset: u64,
}

/// Bytes that the kernel is to read.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(not(MODULE), derive(Debug, Default, PartialEq, Eq))]
pub struct Checksum {
    /// Where they start; given by the caller.
    pub offset: u64,
    /// How many there are; given by the caller.
    pub len: u64,
    /// Their checksum: [`checksum_step`] of each byte in turn, beginning with [`CHECKSUM_START`].
    pub sum: u64,
}

/// The checksum of no bytes.
pub const CHECKSUM_START: u64 = 0xcbf2_9ce4_8422_2325;

/// The checksum of some bytes, whose checksum is `sum`, with `byte` behind them (FNV-1a, 64 bits).
#[must_use]
pub fn checksum_step(sum: u64, byte: u8) -> u64 {
    (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}
