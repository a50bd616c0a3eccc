// SPDX-License-Identifier: GPL-2.0

//! The bytes that every open file and every mapping of the device share.

use kernel::{
    new_mutex,
    page::Page,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

use crate::raw::SharedPage;

/// One page of kernel memory, all zeros at first.
///
/// # Who keeps it
///
/// The device registration holds one [`Arc`], so the contents survive the last close; each open file
/// holds another. A mapping keeps its file open, and on top of that its page table entry holds a
/// reference to the page itself (`insert_page()` in `mm/memory.c`), as does whoever has pinned the
/// page, for example `vmsplice(2)`, even after munmap.
///
/// Dropping the last [`Arc`] drops the allocator's own reference to the page. Whoever drops the last
/// reference to the page frees it, so it is freed once, and never while somebody can reach it.
#[pin_data]
pub(crate) struct Buffer {
    page: SharedPage,
    /// Puts read and write in an order, so that each of them sees all of a write or none of it.
    /// Nothing can order the stores that a process makes through a mapping.
    #[pin]
    order: Mutex<()>,
}

impl Buffer {
    /// Number of bytes in the buffer.
    pub(crate) const LEN: usize = SharedPage::LEN;

    /// Allocates a buffer of zeros.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let page = SharedPage::new()?;
        Arc::pin_init(
            pin_init!(Self {
                page,
                order <- new_mutex!((), "Buffer::order"),
            }),
            GFP_KERNEL,
        )
    }

    /// Copies the bytes from `offset` on to `to`, as many as it holds.
    ///
    /// Returns `EINVAL` if that would pass the end of the buffer.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        let _order = self.order.lock();
        self.page.read(offset, to)
    }

    /// Replaces the bytes from `offset` on by `from`.
    ///
    /// Returns `EINVAL` if that would pass the end of the buffer.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) -> Result {
        let _order = self.order.lock();
        self.page.write(offset, from)
    }

    /// The page, to be mapped.
    pub(crate) fn page(&self) -> &Page {
        self.page.as_page()
    }
}
