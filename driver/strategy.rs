// SPDX-License-Identifier: GPL-2.0

//! The ways in which a page of the buffer reaches a mapping.

use kernel::{
    mm::virt::VmaNew,
    page::PAGE_SIZE,
    prelude::*, //
};

use crate::{
    buffer::Buffer,
    raw, //
};

/// A VMA under setup that shows nothing but the buffer.
///
/// # Invariants
///
/// The VMA's offset and length lie within the buffer.
pub(crate) struct Window<'a>(&'a VmaNew);

impl<'a> Window<'a> {
    /// Number of pages in the buffer.
    const NR_PAGES: usize = Buffer::LEN / PAGE_SIZE;

    /// Returns `EINVAL`, as in `mmap(2)`, if userspace asked for more than the buffer.
    ///
    /// The core has rounded the length up to whole pages and refused 0, but it does not know how
    /// long a character device is: any offset arrives here (`file_mmap_size_max()` in `mm/mmap.c`).
    pub(crate) fn new(vma: &'a VmaNew) -> Result<Self> {
        let nr_pages = vma.end().checked_sub(vma.start()).ok_or(EINVAL)? / PAGE_SIZE;
        let end = raw::vm_pgoff(vma).checked_add(nr_pages).ok_or(EINVAL)?;
        if end > Self::NR_PAGES {
            return Err(EINVAL);
        }
        // INVARIANT: Offset plus length was found to be at most the length of the buffer.
        Ok(Self(vma))
    }

    /// Enters the page into the page table now, so that no access will ever fault.
    ///
    /// `VM_DONTEXPAND` keeps `mremap(2)` from growing the window past what was checked.
    pub(crate) fn insert_page(&self, buffer: &Buffer) -> Result {
        self.0.set_dontexpand();
        self.0
            .set_mixedmap()
            .vm_insert_page(self.0.start(), buffer.page())
    }
}
