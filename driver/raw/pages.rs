// SPDX-License-Identifier: GPL-2.0

//! Pages that userspace may write to at any moment.
//!
//! C headers: [`include/linux/gfp.h`](srctree/include/linux/gfp.h),
//! [`include/linux/highmem.h`](srctree/include/linux/highmem.h),
//! [`include/linux/mm_types.h`](srctree/include/linux/mm_types.h).

use core::{
    marker::PhantomData,
    mem::align_of, //
};
use kernel::{
    bindings,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// Pages that are neighbours in physical memory.
///
/// There is no way to get a reference to their bytes: they would change under it. They are copied by
/// C code, to which bytes that change meanwhile are nothing special, or read one by one by volatile
/// reads: each byte copied or read is one that was there.
///
/// Each page has a count of references of its own. Dropping this type drops one reference to each:
/// whoever holds the last one, for example a pipe to which `vmsplice(2)` has lent the page, frees it.
///
/// # Invariants
///
/// - `first` is the first of `nr` pages of order 0, which are neighbours both in physical memory,
///   from the frame `pfn` on, and in the array of `struct page`; `nr` is not 0.
/// - This type owns one reference to each of them.
/// - All bytes of them are initialised.
pub(crate) struct Pages {
    first: *mut bindings::page,
    nr: usize,
    pfn: usize,
}

// SAFETY: Neither a page nor a reference to it belongs to a thread.
unsafe impl Send for Pages {}

// SAFETY: Shared access copies bytes, which may change at any moment anyway, and reads and changes
// counters by atomic accesses.
unsafe impl Sync for Pages {}

impl Pages {
    /// Allocates `nr` pages of zeros.
    ///
    /// Zeros have to be asked for: userspace would otherwise see what the pages held before, unless
    /// the kernel was booted with `init_on_alloc=1`. That there are no neighbours to be had is no
    /// reason for a warning in the kernel log: the caller gets to know it.
    ///
    /// Returns `EINVAL` if `nr` is 0, and `ENOMEM` if it is more than there are.
    pub(crate) fn new(nr: usize) -> Result<Self> {
        if nr == 0 {
            return Err(EINVAL);
        }
        let block = nr.checked_next_power_of_two().ok_or(ENOMEM)?;
        let order = block.trailing_zeros();
        let flags = bindings::GFP_KERNEL | bindings::__GFP_ZERO | bindings::__GFP_NOWARN;

        // SAFETY: There is nothing that this function cannot be called with; it may sleep, as this
        // function may. An order that is too high makes it fail.
        let first = unsafe { bindings::alloc_pages(flags, order) };
        if first.is_null() {
            return Err(ENOMEM);
        }

        // SAFETY: The block was just allocated with this order, it is not compound (that would need
        // `__GFP_COMP`), and nobody else has seen it.
        unsafe { bindings::split_page(first, order) };
        for index in nr..block {
            // SAFETY: The block has had `block` pages, of which each is one of its own since the
            // split, with one reference, which is not used again.
            unsafe { bindings::__free_pages(first.wrapping_add(index), 0) };
        }

        // SAFETY: `first` is a valid page.
        let addr = unsafe { bindings::kmap_local_page(first) };
        // SAFETY: `addr` is in the kernel's own page tables, which is all that this function asks
        // for. It stands in for `page_to_pfn()`, a macro.
        let phys = unsafe { bindings::slow_virt_to_phys(addr) };
        // SAFETY: `addr` is what this thread mapped last.
        unsafe { bindings::kunmap_local(addr) };

        // INVARIANT: A block of the page allocator consists of neighbours. All pages of it from `nr`
        // on were freed, the reference to each of the others is now owned by the new object, and
        // `__GFP_ZERO` has initialised them.
        Ok(Self {
            first,
            nr,
            pfn: usize::try_from(phys)? >> PAGE_SHIFT,
        })
    }

    /// How many pages there are.
    pub(crate) fn nr(&self) -> usize {
        self.nr
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        // As many bytes were allocated, so no bit is lost.
        self.nr << PAGE_SHIFT
    }

    /// The page with the given index; `None` if there are not so many.
    pub(crate) fn get(&self, index: usize) -> Option<SharedPage<'_>> {
        if index >= self.nr {
            return None;
        }
        // INVARIANT: The index is in bounds, and `self`, to which the page belongs, is borrowed.
        Some(SharedPage {
            page: self.first.wrapping_add(index),
            pfn: self.pfn.wrapping_add(index),
            _pages: PhantomData,
        })
    }

    /// Whether `len` bytes from `offset` on, or none at all, are in the pages.
    fn contain(&self, offset: usize, len: usize) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len())
    }

    /// Copies the bytes from `offset` on to `to`; `EINVAL` if they are not all in the pages.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        let (start, len) = (to.as_mut_ptr(), to.len());
        self.with_bytes(offset, len, |done, from, len| {
            // SAFETY: `from` is good for `len` bytes, all initialised; `to`, a slice that is at
            // least `len` bytes longer than `done`, does as an exclusive reference not overlap them.
            unsafe { bindings::memcpy(start.wrapping_add(done).cast(), from.cast(), len) };
        })
    }

    /// Replaces the bytes from `offset` on by `from`; `EINVAL` if they would not all be in the pages.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) -> Result {
        let (start, len) = (from.as_ptr(), from.len());
        self.with_bytes(offset, len, |done, to, len| {
            // SAFETY: `to` is good for `len` bytes; `from` is a slice that is at least `len` bytes
            // longer than `done` and does not overlap the pages, to whose bytes nobody has a
            // reference.
            unsafe { bindings::memcpy(to.cast(), start.wrapping_add(done).cast(), len) };
        })
    }

    /// Sets `len` bytes from `offset` on to `value`; `EINVAL` if they are not all in the pages.
    pub(crate) fn fill(&self, offset: usize, len: usize, value: u8) -> Result {
        self.with_bytes(offset, len, |_, to, len| {
            // SAFETY: `to` is good for `len` bytes.
            unsafe { bindings::memset(to.cast(), value.into(), len) };
        })
    }

    /// Applies `step` to `start` and the first of `len` bytes from `offset` on, to the result and the
    /// next byte, and so on; `EINVAL` if the bytes are not all in the pages.
    pub(crate) fn fold<A: Copy>(
        &self,
        offset: usize,
        len: usize,
        start: A,
        step: impl Fn(A, u8) -> A,
    ) -> Result<A> {
        let mut sum = start;
        self.with_bytes(offset, len, |_, from, len| {
            for index in 0..len {
                // SAFETY: `from` is good for `len` bytes, all initialised. The byte may change at
                // any moment, hence a volatile read.
                let byte = unsafe { from.wrapping_add(index).read_volatile() };
                sum = step(sum, byte);
            }
        })?;
        Ok(sum)
    }

    /// Adds 1 to the 64-bit number at `offset`, which wraps around, in one step that no other atomic
    /// access, be it by userspace, can interrupt.
    ///
    /// Returns `EINVAL` if the number is not aligned or not in the pages.
    pub(crate) fn increment(&self, offset: usize) -> Result {
        if offset % align_of::<Atomic<u64>>() != 0 {
            return Err(EINVAL);
        }
        self.with_bytes(offset, size_of::<u64>(), |_, number, _| {
            // SAFETY: `number` is good for 8 bytes, since an aligned number does not cross the end
            // of a page, and is aligned, since a page is. The reference is gone before the page is
            // unmapped. What userspace does meanwhile is no access by the kernel, which could race.
            let number = unsafe { Atomic::<u64>::from_ptr(number.cast()) };
            number.add(1u64, Relaxed);
        })
    }

    /// Calls `f` for each page that has some of the `len` bytes from `offset` on: with the number of
    /// bytes before them, with their address, and with how many there are.
    ///
    /// Returns `EINVAL`, without a call, if the bytes are not all in the pages.
    fn with_bytes(
        &self,
        offset: usize,
        len: usize,
        mut f: impl FnMut(usize, *mut u8, usize),
    ) -> Result {
        if !self.contain(offset, len) {
            return Err(EINVAL);
        }
        // Nothing below can wrap around: `done` is at most `len`, and `offset` plus `len` was counted.
        let mut done = 0_usize;
        while done < len {
            let at = offset.wrapping_add(done);
            let page = self.get(at / PAGE_SIZE).ok_or(EINVAL)?;
            let in_page = at % PAGE_SIZE;
            let part = (len - done).min(PAGE_SIZE - in_page);
            page.with_address(|addr| f(done, addr.wrapping_add(in_page), part));
            done = done.wrapping_add(part);
        }
        Ok(())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        for index in 0..self.nr {
            // SAFETY: By the type invariants there is such a page, and a reference to it to give up.
            unsafe { bindings::__free_pages(self.first.wrapping_add(index), 0) };
        }
    }
}

/// One of [`Pages`].
///
/// # Invariants
///
/// `page` is a page of order 0 whose frame has the number `pfn`, and there is a reference to it that
/// is not dropped before `'a` is over.
#[derive(Clone, Copy)]
pub(crate) struct SharedPage<'a> {
    page: *mut bindings::page,
    pfn: usize,
    _pages: PhantomData<&'a Pages>,
}

impl SharedPage<'_> {
    /// The page itself, for calls into C.
    pub(super) fn as_ptr(self) -> *mut bindings::page {
        self.page
    }

    /// The number of its frame in physical memory.
    pub(crate) fn pfn(self) -> usize {
        self.pfn
    }

    /// How many references keep the page from being freed (`page_ref_count()`).
    pub(crate) fn refcount(self) -> i32 {
        self.references().load(Relaxed)
    }

    /// How many page table entries map the page, as far as the kernel counts them
    /// (`folio_mapcount()`).
    pub(crate) fn mapcount(self) -> i32 {
        // SAFETY: By the type invariants the page is valid. It is mapped or may be, so that the union
        // has the count; the kernel changes it by atomic accesses only.
        let mapcount =
            unsafe { Atomic::from_ptr(&raw mut (*self.page).__bindgen_anon_2._mapcount.counter) };
        // -1 stands for a page that nobody has mapped (`include/linux/mm_types.h`).
        mapcount.load(Relaxed).wrapping_add(1)
    }

    /// Adds a reference (`get_page()`) and passes it on to who gets the pointer.
    pub(super) fn into_referenced(self) -> *mut bindings::page {
        self.references().add(1, Relaxed);
        self.page
    }

    /// The count of references.
    fn references(&self) -> &Atomic<i32> {
        // SAFETY: By the type invariants the page is valid while `self` is. The kernel reads and
        // changes the count by atomic accesses only.
        unsafe { Atomic::from_ptr(&raw mut (*self.page)._refcount.counter) }
    }

    /// Calls `f` with the address of the page's first byte, good for [`PAGE_SIZE`] bytes until `f`
    /// returns.
    fn with_address(self, f: impl FnOnce(*mut u8)) {
        // SAFETY: By the type invariants the page is valid.
        let addr = unsafe { bindings::kmap_local_page(self.page) };
        f(addr.cast());
        // SAFETY: `addr` is what this thread mapped last: what `f` maps, it unmaps, for that is only
        // done by this function.
        unsafe { bindings::kunmap_local(addr) };
    }
}
