// SPDX-License-Identifier: GPL-2.0

//! The bytes that every open file and every mapping of all nodes share.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

use crate::{
    raw::Pages,
    uapi, //
};

/// A whole number of pages of kernel memory, all zeros at first.
///
/// # Who keeps it
///
/// Each node holds one [`Arc`] of the buffer, and a node is held by its registration, so that the
/// contents survive the last close, by each open file, and by each VMA.
///
/// Where a page table entry or something else, for example `vmsplice(2)`, holds a reference to a page
/// itself, that page outlives even the buffer: dropping the last [`Arc`] drops the buffer's own
/// reference to each page, and whoever drops the last reference to a page frees it. The entries that
/// `remap_pfn_range()` makes hold no such reference; for those the VMA's [`Arc`] does.
///
/// So each page is freed once, and never while somebody can reach it.
#[pin_data]
pub(crate) struct Buffer {
    pages: Pages,
    /// Puts what the kernel does to the bytes in an order, so that each call sees all of another or
    /// nothing of it. Nothing can order the stores that a process makes through a mapping.
    #[pin]
    order: Mutex<()>,
}

impl Buffer {
    /// Most pages that a buffer can have: 1 MiB, for which there are still neighbours to be had in
    /// memory that has been in use for a while, and which is read in one go.
    pub(crate) const MAX_PAGES: usize = 256;

    /// Allocates a buffer of zeros; `EINVAL` if it would have no page or more than
    /// [`Buffer::MAX_PAGES`].
    pub(crate) fn new(nr_pages: usize) -> Result<Arc<Self>> {
        if nr_pages > Self::MAX_PAGES {
            return Err(EINVAL);
        }
        let pages = Pages::new(nr_pages)?;
        Arc::pin_init(
            pin_init!(Self {
                pages,
                order <- new_mutex!((), "Buffer::order"),
            }),
            GFP_KERNEL,
        )
    }

    /// Number of bytes in the buffer.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// The pages, to be mapped.
    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Copies the bytes from `offset` on to `to`, as many as it holds.
    ///
    /// Returns `EINVAL` if that would pass the end of the buffer; so do the functions below.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        let _order = self.order.lock();
        self.pages.read(offset, to)
    }

    /// Replaces the bytes from `offset` on by `from`.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) -> Result {
        let _order = self.order.lock();
        self.pages.write(offset, from)
    }

    /// Sets `len` bytes from `offset` on to `value`.
    pub(crate) fn fill(&self, offset: usize, len: usize, value: u8) -> Result {
        let _order = self.order.lock();
        self.pages.fill(offset, len, value)
    }

    /// Adds 1 to the 64-bit number at `offset`, a multiple of 8; nobody's atomic access is lost.
    pub(crate) fn increment(&self, offset: usize) -> Result {
        let _order = self.order.lock();
        self.pages.increment(offset)
    }

    /// The checksum of `len` bytes from `offset` on, without a copy of them.
    pub(crate) fn checksum(&self, offset: usize, len: usize) -> Result<u64> {
        let _order = self.order.lock();
        self.pages
            .fold(offset, len, uapi::CHECKSUM_START, uapi::checksum_step)
    }
}
