// SPDX-License-Identifier: GPL-2.0

//! Mappings of [`Pages`], and what the kernel tells their owner.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h).

use core::marker::PhantomData;
use kernel::{
    bindings,
    error::to_result,
    mm::virt::{
        flags,
        VmaNew, //
    },
    page::PAGE_SHIFT,
    prelude::*,
    sync::Arc,
    types::ForeignOwnable, //
};

use super::pages::{
    Pages,
    SharedPage, //
};

/// What can be mapped: the owner of [`Pages`].
///
/// Each VMA that shows them owns an [`Arc`] of it, from mmap until the VMA has gone.
pub(crate) trait Mapped: Send + Sync + Sized + 'static {
    /// The pages that a mapping shows.
    fn pages(&self) -> &Pages;

    /// Called for each VMA that begins to show the pages: because of mmap, or because fork, mremap
    /// or a change to a part of it has made a second VMA out of one.
    fn opened(&self);

    /// Called for each VMA that has ceased to show the pages.
    fn closed(&self);

    /// Called when a page is touched that is to be mapped only then; for `None` the thread that did
    /// it gets a SIGBUS.
    ///
    /// `pgoff` is the index of the page, which need not exist.
    fn fault(&self, pgoff: usize) -> Option<SharedPage<'_>>;
}

/// A VMA under setup that is to show a part of what `owner` owns.
///
/// # Invariants
///
/// The file offset and the length of the VMA lie within the pages of `owner`, which are `nr_pages`
/// from `first` on.
pub(crate) struct Window<'a, T: Mapped> {
    vma: &'a VmaNew,
    owner: Arc<T>,
    first: usize,
    nr_pages: usize,
}

impl<'a, T: Mapped> Window<'a, T> {
    /// Returns `EINVAL`, as in `mmap(2)`, if userspace asked for more than there is.
    ///
    /// The core has rounded the length up to whole pages and refused 0, but it does not know how
    /// long a character device is: any offset arrives here (`file_mmap_size_max()` in `mm/mmap.c`).
    pub(crate) fn new(vma: &'a VmaNew, owner: Arc<T>) -> Result<Self> {
        let nr_pages = vma.end().checked_sub(vma.start()).ok_or(EINVAL)? >> PAGE_SHIFT;
        // SAFETY: By the type invariants of `VmaNew` the VMA is still being set up, so nobody writes
        // to `vm_pgoff` while it is read here.
        let first = unsafe { (*vma.as_ptr()).vm_pgoff };
        let end = first.checked_add(nr_pages).ok_or(EINVAL)?;
        if nr_pages == 0 || end > owner.pages().nr() {
            return Err(EINVAL);
        }
        // INVARIANT: Offset plus length was found to be at most the number of pages.
        Ok(Self {
            vma,
            owner,
            first,
            nr_pages,
        })
    }

    /// Enters the pages into the page table now, with a reference to each.
    ///
    /// Sets `VM_MIXEDMAP`, without which `vm_insert_page()` is not to be called.
    pub(crate) fn insert_pages(self) -> Result {
        self.vma.set_mixedmap();
        for index in 0..self.nr_pages {
            // Neither can wrap around: the VMA has `nr_pages`, and its owner has the last of them.
            let pgoff = self.first.wrapping_add(index);
            let addr = self.vma.start().wrapping_add(index << PAGE_SHIFT);
            let page = self.owner.pages().get(pgoff).ok_or(EINVAL)?;
            // SAFETY: The VMA is under setup, so that the caller holds its lock, and has
            // `VM_MIXEDMAP`; `addr` is in it. The page is of order 0 by its type invariants. The
            // page table gets a reference of its own.
            let inserted =
                unsafe { bindings::vm_insert_page(self.vma.as_ptr(), addr, page.as_ptr()) };
            // What was entered before is taken out by the core (`__mmap_new_file_vma()`).
            to_result(inserted)?;
        }
        self.tell_owner(&Operations::<T>::OPEN_CLOSE);
        Ok(())
    }

    /// Enters the frames into the page table now, without a reference to a page.
    ///
    /// All frames at once, as a private mapping demands (`get_remap_pgoff()` in `mm/memory.c`): the
    /// kernel then overwrites `vm_pgoff` by the number of the first frame, by which it tells frames
    /// from copies made of them. Sets `VM_PFNMAP`, `VM_IO`, `VM_DONTEXPAND` and `VM_DONTDUMP`.
    ///
    /// Returns `EINVAL` if the VMA has pages already.
    pub(crate) fn remap_pfn_range(self) -> Result {
        let vma = self.vma.as_ptr();
        if self.vma.flags() & (flags::MIXEDMAP | flags::PFNMAP) != 0 {
            return Err(EINVAL);
        }
        let pfn = self.owner.pages().get(self.first).ok_or(EINVAL)?.pfn();
        // SAFETY: Nobody writes to the VMA while it is under setup, except through `self.vma`.
        let prot = unsafe { (*vma).vm_page_prot };
        let len = self.nr_pages << PAGE_SHIFT;

        // SAFETY:
        // - The VMA is under setup, so that the caller holds its lock, and the range is all of it,
        //   which is not empty.
        // - The frames are those of `nr_pages` pages of the owner, by the type invariants of `Self`
        //   and of `Pages`.
        // - They are not freed while they are mapped, although no reference to a page says so: the
        //   VMA gets the reference to the owner, below. On failure no frame stays mapped
        //   (`remap_pfn_range_notrack()` in `mm/memory.c`).
        // - The VMA has neither `VM_MIXEDMAP`, as was checked, nor can it get a page by that later:
        //   no address in it is left free.
        to_result(unsafe { bindings::remap_pfn_range(vma, self.vma.start(), pfn, len, prot) })?;
        self.tell_owner(&Operations::<T>::OPEN_CLOSE);
        Ok(())
    }

    /// Leaves the page table as it is: the owner is asked for a page when one is touched.
    pub(crate) fn insert_on_fault(self) -> Result {
        self.tell_owner(&Operations::<T>::OPEN_CLOSE_FAULT);
        Ok(())
    }

    /// Hands the reference to the owner to the VMA, and has the owner told of what becomes of it.
    ///
    /// Called last: for a VMA whose mmap has failed the kernel calls no operation (`mmap_file()` in
    /// `mm/internal.h`), not even the one that would give the reference back.
    fn tell_owner(self, operations: &'static bindings::vm_operations_struct) {
        self.owner.opened();
        // `VM_DONTEXPAND` keeps mremap(2) from growing the window past what was checked. It also
        // keeps the kernel from merging the VMA with a neighbour.
        self.vma.set_dontexpand();
        let vma = self.vma.as_ptr();
        // SAFETY: Nobody reads or writes these fields while the VMA is under setup. The operations
        // are those for an `Arc<T>` in `vm_private_data`.
        unsafe {
            (*vma).vm_private_data = self.owner.into_foreign();
            (*vma).vm_ops = operations;
        }
    }
}

/// The operations of a VMA that shows pages of a `T`.
///
/// The kernel calls them with the VMA, whose file is open: so the module, which the file keeps, is
/// there. Each caller of `close` drops the file only then (`remove_vma()` in `mm/vma.c`).
///
/// # Invariants
///
/// Of a VMA with one of these tables, `vm_private_data` is an `Arc<T>` that the VMA owns.
struct Operations<T>(PhantomData<T>);

impl<T: Mapped> Operations<T> {
    /// For a VMA whose page table entries are made by mmap.
    const OPEN_CLOSE: bindings::vm_operations_struct = bindings::vm_operations_struct {
        open: Some(Self::open),
        close: Some(Self::close),
        ..pin_init::zeroed()
    };

    /// For a VMA whose page table entries are made when they are needed.
    const OPEN_CLOSE_FAULT: bindings::vm_operations_struct = bindings::vm_operations_struct {
        fault: Some(Self::fault),
        ..Self::OPEN_CLOSE
    };

    /// # Safety
    ///
    /// `vma` must be a VMA with this operation, a copy of another, and not shared yet.
    unsafe extern "C" fn open(vma: *mut bindings::vm_area_struct) {
        // SAFETY: The caller passes a valid VMA.
        let private = unsafe { (*vma).vm_private_data };
        // SAFETY: This is an `Arc<T>` by the type invariants, of the VMA that was copied, whose lock
        // the caller holds: it is not dropped meanwhile.
        let owner = unsafe { <Arc<T> as ForeignOwnable>::borrow(private) };
        owner.opened();
        // INVARIANT: The copy owns a reference of its own: the same pointer, counted once more.
        let _ = Arc::from(owner).into_foreign();
    }

    /// # Safety
    ///
    /// `vma` must be a VMA with this operation, which is called once, after nothing is left in its
    /// page table.
    unsafe extern "C" fn close(vma: *mut bindings::vm_area_struct) {
        // SAFETY: The caller passes a valid VMA.
        let private = unsafe { (*vma).vm_private_data };
        // SAFETY: This is an `Arc<T>` by the type invariants, and as the last operation this one may
        // take it from the VMA.
        let owner = unsafe { <Arc<T> as ForeignOwnable>::from_foreign(private) };
        owner.closed();
    }

    /// # Safety
    ///
    /// `vmf` must describe a fault in a VMA with this operation.
    unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The caller passes a valid description of a fault; these fields are constant.
        let (vma, pgoff) = unsafe { ((*vmf).__bindgen_anon_1.vma, (*vmf).__bindgen_anon_1.pgoff) };
        // SAFETY: The VMA is valid, since the caller holds its lock or that of its address space, and
        // so nobody writes to the field.
        let private = unsafe { (*vma).vm_private_data };
        // SAFETY: This is an `Arc<T>` by the type invariants, and the lock keeps the VMA, and with it
        // the reference, until this function has returned.
        let owner = unsafe { <Arc<T> as ForeignOwnable>::borrow(private) };
        let Some(page) = owner.fault(pgoff) else {
            return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
        };
        // SAFETY: The field is for this function to set: to a page with a reference that is the
        // caller's (`__do_fault()` in `mm/memory.c`).
        unsafe { (*vmf).page = page.into_referenced() };
        0
    }
}
