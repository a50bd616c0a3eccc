// SPDX-License-Identifier: GPL-2.0

//! What the `kernel` crate of Linux 7.2 and 7.3 does not wrap, as types that are safe to use.
//!
//! One file, so that all that has to be believed is in one place; four modules, so that the fields
//! on which an argument rests can be reached by its own module only:
//!
//! - `pages`: memory that userspace may write to at any moment;
//! - `vma`: mappings of such memory, and what the kernel tells their owner;
//! - `registration`: a misc device whose files have a length;
//! - `user`: who asks, and in which shape.
//!
//! Two things no type here can see to, and the driver's module struct does: registrations are its
//! fields, so that they are dropped when no file is open, and it publishes them last. The docs of
//! `Registration` say why.

#![expect(unsafe_code, reason = "wraps C interfaces")]

pub(crate) use self::{
    pages::{
        Pages,
        SharedPage, //
    },
    registration::{
        FixedLen,
        Options,
        Registration, //
    },
    user::{
        appends,
        is_admin, //
    },
    vma::{
        Mapped,
        Window, //
    }, //
};

mod pages {
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
    /// There is no way to get a reference to their bytes: they would change under it. They are
    /// copied by C code, to which bytes that change meanwhile are nothing special, or read one by
    /// one by volatile reads: each byte copied or read is one that was there.
    ///
    /// Each page has a count of references of its own. Dropping this type drops one reference to
    /// each: whoever holds the last one, for example a pipe to which `vmsplice(2)` has lent the
    /// page, frees it.
    ///
    /// # Invariants
    ///
    /// - `first` is the first of `nr` pages of order 0, which are neighbours both in physical
    ///   memory, from the frame `pfn` on, and in the array of `struct page`; `nr` is not 0.
    /// - This type owns one reference to each of them.
    /// - All bytes of them are initialised.
    pub(crate) struct Pages {
        first: *mut bindings::page,
        nr: usize,
        pfn: usize,
    }

    // SAFETY: Neither a page nor a reference to it belongs to a thread.
    unsafe impl Send for Pages {}

    // SAFETY: Shared access copies bytes, which may change at any moment anyway, and reads and
    // changes counters by atomic accesses.
    unsafe impl Sync for Pages {}

    impl Pages {
        /// Allocates `nr` pages of zeros.
        ///
        /// Zeros have to be asked for: userspace would otherwise see what the pages held before,
        /// unless the kernel was booted with `init_on_alloc=1`. That there are no neighbours to be
        /// had is no reason for a warning in the kernel log: the caller gets to know it.
        ///
        /// Returns `EINVAL` if `nr` is 0, and `ENOMEM` if it is more than there are.
        pub(crate) fn new(nr: usize) -> Result<Self> {
            if nr == 0 {
                return Err(EINVAL);
            }
            let block = nr.checked_next_power_of_two().ok_or(ENOMEM)?;
            let order = block.trailing_zeros();
            let flags = bindings::GFP_KERNEL | bindings::__GFP_ZERO | bindings::__GFP_NOWARN;

            // SAFETY: There is nothing that this function cannot be called with; it may sleep, as
            // this function may. An order that is too high makes it fail.
            let first = unsafe { bindings::alloc_pages(flags, order) };
            if first.is_null() {
                return Err(ENOMEM);
            }

            // SAFETY: The block was just allocated with this order, it is not compound (that would
            // need `__GFP_COMP`), and nobody else has seen it.
            unsafe { bindings::split_page(first, order) };
            for index in nr..block {
                // SAFETY: The block has had `block` pages, of which each is one of its own since
                // the split, with one reference, which is not used again.
                unsafe { bindings::__free_pages(first.wrapping_add(index), 0) };
            }

            // SAFETY: `first` is a valid page.
            let addr = unsafe { bindings::kmap_local_page(first) };
            // SAFETY: `addr` is in the kernel's own page tables, which is all that this function
            // asks for. It stands in for `page_to_pfn()`, a macro.
            let phys = unsafe { bindings::slow_virt_to_phys(addr) };
            // SAFETY: `addr` is what this thread mapped last.
            unsafe { bindings::kunmap_local(addr) };

            // INVARIANT: A block of the page allocator consists of neighbours. All pages of it from
            // `nr` on were freed, the reference to each of the others is now owned by the new
            // object, and `__GFP_ZERO` has initialised them.
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
            // INVARIANT: The index is in bounds, and `self`, to which the page belongs, is
            // borrowed.
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
                // least `len` bytes longer than `done`, does as an exclusive reference not overlap
                // them.
                unsafe { bindings::memcpy(start.wrapping_add(done).cast(), from.cast(), len) };
            })
        }

        /// Replaces the bytes from `offset` on by `from`; `EINVAL` if they would not all be in the
        /// pages.
        pub(crate) fn write(&self, offset: usize, from: &[u8]) -> Result {
            let (start, len) = (from.as_ptr(), from.len());
            self.with_bytes(offset, len, |done, to, len| {
                // SAFETY: `to` is good for `len` bytes; `from` is a slice that is at least `len`
                // bytes longer than `done` and does not overlap the pages, to whose bytes nobody
                // has a reference.
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

        /// Applies `step` to `start` and the first of `len` bytes from `offset` on, to the result
        /// and the next byte, and so on; `EINVAL` if the bytes are not all in the pages.
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
                    // SAFETY: `from` is good for `len` bytes, all initialised. The byte may change
                    // at any moment, hence a volatile read.
                    let byte = unsafe { from.wrapping_add(index).read_volatile() };
                    sum = step(sum, byte);
                }
            })?;
            Ok(sum)
        }

        /// Adds 1 to the 64-bit number at `offset`, which wraps around, in one step that no other
        /// atomic access, be it by userspace, can interrupt.
        ///
        /// Returns `EINVAL` if the number is not aligned or not in the pages.
        pub(crate) fn increment(&self, offset: usize) -> Result {
            if offset % align_of::<Atomic<u64>>() != 0 {
                return Err(EINVAL);
            }
            self.with_bytes(offset, size_of::<u64>(), |_, number, _| {
                // SAFETY: `number` is good for 8 bytes, since an aligned number does not cross the
                // end of a page, and is aligned, since a page is. The reference is gone before the
                // page is unmapped. What userspace does meanwhile is no access by the kernel, which
                // could race.
                let number = unsafe { Atomic::<u64>::from_ptr(number.cast()) };
                number.add(1u64, Relaxed);
            })
        }

        /// Calls `f` for each page that has some of the `len` bytes from `offset` on: with the
        /// number of bytes before them, with their address, and with how many there are.
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
            // Nothing below can wrap around: `done` is at most `len`, and `offset` plus `len` was
            // counted.
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
                // SAFETY: By the type invariants there is such a page, and a reference to it to
                // give up.
                unsafe { bindings::__free_pages(self.first.wrapping_add(index), 0) };
            }
        }
    }

    /// One of [`Pages`].
    ///
    /// # Invariants
    ///
    /// `page` is a page of order 0 whose frame has the number `pfn`, and there is a reference to it
    /// that is not dropped before `'a` is over.
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
            // SAFETY: By the type invariants the page is valid. It is mapped or may be, so that the
            // union has the count; the kernel changes it by atomic accesses only.
            let mapcount = unsafe {
                Atomic::from_ptr(&raw mut (*self.page).__bindgen_anon_2._mapcount.counter)
            };
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
            // SAFETY: By the type invariants the page is valid while `self` is. The kernel reads
            // and changes the count by atomic accesses only.
            unsafe { Atomic::from_ptr(&raw mut (*self.page)._refcount.counter) }
        }

        /// Calls `f` with the address of the page's first byte, good for [`PAGE_SIZE`] bytes until
        /// `f` returns.
        fn with_address(self, f: impl FnOnce(*mut u8)) {
            // SAFETY: By the type invariants the page is valid.
            let addr = unsafe { bindings::kmap_local_page(self.page) };
            f(addr.cast());
            // SAFETY: `addr` is what this thread mapped last: what `f` maps, it unmaps, for that is
            // only done by this function.
            unsafe { bindings::kunmap_local(addr) };
        }
    }
}

mod vma {
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

        /// Called for each VMA that begins to show the pages: because of mmap, or because fork,
        /// mremap or a change to a part of it has made a second VMA out of one.
        fn opened(&self);

        /// Called for each VMA that has ceased to show the pages.
        fn closed(&self);

        /// Called when a page is touched that is to be mapped only then; for `None` the thread that
        /// did it gets a SIGBUS.
        ///
        /// `pgoff` is the index of the page, which need not exist.
        fn fault(&self, pgoff: usize) -> Option<SharedPage<'_>>;
    }

    /// A VMA under setup that is to show a part of what `owner` owns.
    ///
    /// # Invariants
    ///
    /// The file offset and the length of the VMA lie within the pages of `owner`, which are
    /// `nr_pages` from `first` on.
    pub(crate) struct Window<'a, T: Mapped> {
        vma: &'a VmaNew,
        owner: Arc<T>,
        first: usize,
        nr_pages: usize,
    }

    impl<'a, T: Mapped> Window<'a, T> {
        /// Returns `EINVAL`, as in `mmap(2)`, if userspace asked for more than there is.
        ///
        /// The core has rounded the length up to whole pages and refused 0, but it does not know
        /// how long a character device is: any offset arrives here (`file_mmap_size_max()` in
        /// `mm/mmap.c`).
        pub(crate) fn new(vma: &'a VmaNew, owner: Arc<T>) -> Result<Self> {
            let nr_pages = vma.end().checked_sub(vma.start()).ok_or(EINVAL)? >> PAGE_SHIFT;
            // SAFETY: By the type invariants of `VmaNew` the VMA is still being set up, so nobody
            // writes to `vm_pgoff` while it is read here.
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
                // Neither can wrap around: the VMA has `nr_pages`, and its owner has the last of
                // them.
                let pgoff = self.first.wrapping_add(index);
                let addr = self.vma.start().wrapping_add(index << PAGE_SHIFT);
                let page = self.owner.pages().get(pgoff).ok_or(EINVAL)?;
                // SAFETY: The VMA is under setup, so that the caller holds its lock, and has
                // `VM_MIXEDMAP`; `addr` is in it. The page is of order 0 by its type invariants.
                // The page table gets a reference of its own.
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
        /// All frames at once, as a private mapping demands (`get_remap_pgoff()` in `mm/memory.c`):
        /// the kernel then overwrites `vm_pgoff` by the number of the first frame, by which it
        /// tells frames from copies made of them. Sets `VM_PFNMAP`, `VM_IO`, `VM_DONTEXPAND` and
        /// `VM_DONTDUMP`.
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
            // - The VMA is under setup, so that the caller holds its lock, and the range is all of
            //   it, which is not empty.
            // - The frames are those of `nr_pages` pages of the owner, by the type invariants of
            //   `Self` and of `Pages`.
            // - They are not freed while they are mapped, although no reference to a page says so:
            //   the VMA gets the reference to the owner, below. On failure no frame stays mapped
            //   (`remap_pfn_range_notrack()` in `mm/memory.c`).
            // - The VMA has neither `VM_MIXEDMAP`, as was checked, nor can it get a page by that
            //   later: no address in it is left free.
            to_result(unsafe { bindings::remap_pfn_range(vma, self.vma.start(), pfn, len, prot) })?;
            self.tell_owner(&Operations::<T>::OPEN_CLOSE);
            Ok(())
        }

        /// Leaves the page table as it is: the owner is asked for a page when one is touched.
        pub(crate) fn insert_on_fault(self) -> Result {
            self.tell_owner(&Operations::<T>::OPEN_CLOSE_FAULT);
            Ok(())
        }

        /// Hands the reference to the owner to the VMA, and has the owner told of what becomes of
        /// it.
        ///
        /// Called last: for a VMA whose mmap has failed the kernel calls no operation
        /// (`mmap_file()` in `mm/internal.h`), not even the one that would give the reference back.
        fn tell_owner(self, operations: &'static bindings::vm_operations_struct) {
            self.owner.opened();
            // `VM_DONTEXPAND` keeps mremap(2) from growing the window past what was checked. It
            // also keeps the kernel from merging the VMA with a neighbour.
            self.vma.set_dontexpand();
            let vma = self.vma.as_ptr();
            // SAFETY: Nobody reads or writes these fields while the VMA is under setup. The
            // operations are those for an `Arc<T>` in `vm_private_data`.
            unsafe {
                (*vma).vm_private_data = self.owner.into_foreign();
                (*vma).vm_ops = operations;
            }
        }
    }

    /// The operations of a VMA that shows pages of a `T`.
    ///
    /// The kernel calls them with the VMA, whose file is open: so the module, which the file keeps,
    /// is there. Each caller of `close` drops the file only then (`remove_vma()` in `mm/vma.c`).
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
            // SAFETY: This is an `Arc<T>` by the type invariants, of the VMA that was copied, whose
            // lock the caller holds: it is not dropped meanwhile.
            let owner = unsafe { <Arc<T> as ForeignOwnable>::borrow(private) };
            owner.opened();
            // INVARIANT: The copy owns a reference of its own: the same pointer, counted once more.
            let _ = Arc::from(owner).into_foreign();
        }

        /// # Safety
        ///
        /// `vma` must be a VMA with this operation, which is called once, after nothing is left in
        /// its page table.
        unsafe extern "C" fn close(vma: *mut bindings::vm_area_struct) {
            // SAFETY: The caller passes a valid VMA.
            let private = unsafe { (*vma).vm_private_data };
            // SAFETY: This is an `Arc<T>` by the type invariants, and as the last operation this
            // one may take it from the VMA.
            let owner = unsafe { <Arc<T> as ForeignOwnable>::from_foreign(private) };
            owner.closed();
        }

        /// # Safety
        ///
        /// `vmf` must describe a fault in a VMA with this operation.
        unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
            // SAFETY: The caller passes a valid description of a fault; these fields are constant.
            let (vma, pgoff) =
                unsafe { ((*vmf).__bindgen_anon_1.vma, (*vmf).__bindgen_anon_1.pgoff) };
            // SAFETY: The VMA is valid, since the caller holds its lock or that of its address
            // space, and so nobody writes to the field.
            let private = unsafe { (*vma).vm_private_data };
            // SAFETY: This is an `Arc<T>` by the type invariants, and the lock keeps the VMA, and
            // with it the reference, until this function has returned.
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
}

mod registration {
    //! A misc device whose files have a length.
    //!
    //! C headers: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h),
    //! [`include/linux/fs.h`](srctree/include/linux/fs.h),
    //! [`include/linux/poll.h`](srctree/include/linux/poll.h).

    use core::{
        mem::offset_of,
        ptr, //
    };
    use kernel::{
        bindings,
        container_of,
        error::to_result,
        miscdevice::{
            MiscDevice,
            MiscDeviceOptions,
            MiscDeviceRegistration, //
        },
        prelude::*,
        sync::atomic::{
            atomic_load,
            atomic_store,
            Relaxed,
            Release, //
        },
        types::{
            ForeignOwnable,
            Opaque, //
        }, //
    };

    /// How a device node appears below `/dev`.
    pub(crate) struct Options {
        /// File name of the node.
        pub(crate) name: &'static CStr,
        /// Permission bits that devtmpfs gives the node, whatever the umask.
        pub(crate) mode: bindings::umode_t,
    }

    /// A misc device whose files have a length that does not change.
    pub(crate) trait FixedLen: MiscDevice {
        /// Number of bytes in the file.
        fn len(device: <Self::Ptr as ForeignOwnable>::Borrowed<'_>) -> usize;
    }

    /// The two C structures of a misc device, the second one pointed to by the first.
    ///
    /// `misc` comes first, so that a pointer to it is a pointer to the whole.
    #[repr(C)]
    struct Node {
        misc: bindings::miscdevice,
        fops: bindings::file_operations,
    }

    /// A registered misc device that owns its file operations, and data for its open files.
    ///
    /// It stands in for [`MiscDeviceRegistration`], which offers neither data nor a choice of mode,
    /// `llseek`, `fsync` or `poll`. Linux 7.2 also leaves `owner` unset there: nothing then keeps
    /// the module loaded while a file is open, and closing the file jumps into freed memory.
    ///
    /// # Two steps
    ///
    /// Where several devices are registered, a later one can fail when somebody has an earlier one
    /// open already. The kernel then frees the module nevertheless, since it waits for users of a
    /// module only where they could prevent something (`do_init_module()` in
    /// `kernel/module/main.c`). So a device without file operations is registered first: it has a
    /// node, and `misc_open()` answers `ENODEV` without a reference to the module, or a call into
    /// it. [`Registration::publish`], which cannot fail, lets userspace in.
    ///
    /// # When it may be dropped
    ///
    /// Open files point to its file operations, so it must not be dropped while there are any: as a
    /// field of the struct that `module!` declares it is dropped when the module is unloaded, which
    /// each open file prevents, or when the module fails to load before anything was published.
    /// The types cannot tell.
    ///
    /// # Invariants
    ///
    /// - `node.misc` is registered from the end of `register` until `drop`. Its `fops` is null or
    ///   `node.fops`, and does not become null again. Apart from that, neither structure is written
    ///   to in between, except by the misc core.
    /// - `node.fops` is the table that the `kernel` crate builds for `T`, with `owner` set to the
    ///   module that contains `T`.
    #[pin_data(PinnedDrop)]
    pub(crate) struct Registration<T: FixedLen> {
        data: T::Ptr,
        // Pinned: the misc core keeps a pointer to it, and open files one to its `fops`.
        #[pin]
        node: Opaque<Node>,
    }

    // SAFETY: `misc_deregister()` may be called by another thread than `misc_register()` was, and
    // `data` is `Send` as `MiscDevice` demands.
    unsafe impl<T: FixedLen> Send for Registration<T> {}

    // SAFETY: Shared access reaches `data`, which is `Sync` as `MiscDevice` demands, and the field
    // `fops` of `node.misc`, which is written to in one step, by an atomic access.
    unsafe impl<T: FixedLen> Sync for Registration<T> {}

    impl<T: FixedLen> Registration<T> {
        /// Makes the device appear; it cannot be opened yet. Each open file of it will find `data`
        /// by
        /// [`Registration::of`].
        ///
        /// `module` stays loaded while a file of the device is open, and a mapping keeps its file
        /// open: `misc_open()` takes the reference for which `owner` is there
        /// (`drivers/char/misc.c`).
        pub(crate) fn register(
            options: Options,
            module: &'static ThisModule,
            data: T::Ptr,
        ) -> impl PinInit<Self, Error> {
            // Initialised in this order: once `node` is registered and published, `data` is used.
            try_pin_init!(Self {
                data,
                node <- Opaque::try_ffi_init(move |node: *mut Node| {
                    let mut misc = MiscDeviceOptions { name: options.name }.into_raw::<T>();
                    // SAFETY: `into_raw` points `fops` to a constant.
                    let template = unsafe { *misc.fops };
                    let fops = bindings::file_operations {
                        owner: module.as_ptr(),
                        llseek: Some(llseek::<T>),
                        poll: Some(poll),
                        // There is nothing to write back, but without the method fsync(2) and
                        // msync(2) with MS_SYNC say EINVAL (`vfs_fsync_range()` in `fs/sync.c`).
                        fsync: Some(bindings::noop_fsync),
                        ..template
                    };
                    misc.fops = ptr::null();
                    misc.mode = options.mode;

                    // SAFETY: `node` points to memory that this closure is to initialise.
                    unsafe { node.write(Node { misc, fops }) };

                    // INVARIANT: On success the device is registered, without file operations.
                    // Those beside it were made from the table of the `kernel` crate just above.
                    // Their `owner` is the module that contains `T`: safe code can name no other
                    // `ThisModule`.
                    //
                    // SAFETY: `misc` is filled in, and is the start of `node`, which is pinned and
                    // so stays where it is until `drop`, which deregisters it. On failure the misc
                    // core keeps no pointer to it. It does not look at `fops`, and opening a device
                    // that has none fails (`fops_get()` in `include/linux/fs.h`).
                    to_result(unsafe { bindings::misc_register(node.cast()) })
                }),
            })
        }

        /// Lets userspace open the device.
        ///
        /// The module must not fail to load any more: see above.
        pub(crate) fn publish(&self) {
            let node = self.node.get();
            // Computes addresses, which needs no valid contents.
            let fops = node.wrapping_byte_add(offset_of!(Node, fops)).cast();
            let published = node.wrapping_byte_add(offset_of!(Node, misc.fops)).cast();

            // INVARIANT: From null, or from the same value, `fops` becomes `node.fops`.
            //
            // SAFETY: `published` is the address of that field. `misc_open()` reads it without an
            // atomic access, under a mutex that is private to `drivers/char/misc.c`, in C: it sees
            // null or the whole pointer, however often it looks, since the field changes once. The
            // table behind the pointer was complete when the device was registered, under the same
            // mutex.
            unsafe {
                atomic_store::<*const bindings::file_operations, _>(published, fops, Release)
            };
        }

        /// The registration behind `misc`; `None` if `misc` was registered by other means.
        pub(crate) fn of(misc: &MiscDeviceRegistration<T>) -> Option<&Self> {
            let node = misc.as_raw().cast::<Node>();
            let own_fops = node.wrapping_byte_add(offset_of!(Node, fops)).cast();

            // Computes an address, which needs no valid contents.
            let published = node.wrapping_byte_add(offset_of!(Node, misc.fops)).cast();
            // SAFETY: `published` is the address of the field `fops` of `misc`, which is a
            // registered misc device by the type invariants of `MiscDeviceRegistration`. Once a
            // device is registered, only `publish` writes to the field, by an atomic access.
            let fops: *const bindings::file_operations = unsafe { atomic_load(published, Relaxed) };
            if !ptr::eq(fops, own_fops) {
                return None;
            }

            let node = Opaque::cast_from(node);
            // SAFETY: A table right behind the device is that of a `Registration<T>`, for two
            // makers of a `MiscDeviceRegistration<T>` exist: this type, whose vtable gets a pointer
            // to `misc` at the start of `node`; and the `kernel` crate, whose table is a constant,
            // so in read-only memory, which does not adjoin a structure that the misc core writes
            // to.
            let registration = unsafe { container_of!(node.cast_mut(), Self, node) };

            // SAFETY: The registration outlives `misc`, which is a part of it. Its `data` was
            // initialised before the device was registered.
            Some(unsafe { &*registration })
        }

        /// What was given to [`Registration::register`].
        pub(crate) fn data(&self) -> &T::Ptr {
            &self.data
        }
    }

    #[pinned_drop]
    impl<T: FixedLen> PinnedDrop for Registration<T> {
        fn drop(self: Pin<&mut Self>) {
            // No file is open: each holds a reference to the module, which is being unloaded, or
            // none could be opened, since the module has failed to load.
            //
            // SAFETY: `node` starts with a registered device by the type invariants.
            unsafe { bindings::misc_deregister(self.node.get().cast()) };
        }
    }

    /// `lseek(2)`.
    ///
    /// `SEEK_END` counts from the length of the file (the inode of a device says 0), all of the
    /// file is data, and to go past its end is `EINVAL`, as for a block device.
    ///
    /// # Safety
    ///
    /// `file` must be an open file of a `Registration<T>`.
    unsafe extern "C" fn llseek<T: FixedLen>(
        file: *mut bindings::file,
        offset: bindings::loff_t,
        whence: c_int,
    ) -> bindings::loff_t {
        // SAFETY: The caller passes an open file. Its private data is not written to before
        // release.
        let private = unsafe { (*file).private_data };
        // SAFETY: The `kernel` crate has put it there in open by `into_foreign`, and takes it back
        // in release, which is not called while a system call uses the file.
        let device = unsafe { <T::Ptr as ForeignOwnable>::borrow(private) };
        let Ok(len) = bindings::loff_t::try_from(T::len(device)) else {
            return EOVERFLOW.to_errno().into();
        };
        // SAFETY: The caller passes an open file.
        unsafe { bindings::generic_file_llseek_size(file, offset, whence, len, len) }
    }

    /// `poll(2)`, `select(2)`, `epoll(7)`: neither read nor write ever waits.
    ///
    /// Without this method poll would say the same, and epoll_ctl(2) would refuse the file.
    ///
    /// # Safety
    ///
    /// None: both arguments are ignored.
    unsafe extern "C" fn poll(
        _file: *mut bindings::file,
        _table: *mut bindings::poll_table_struct,
    ) -> bindings::__poll_t {
        bindings::POLLIN | bindings::POLLRDNORM | bindings::POLLOUT | bindings::POLLWRNORM
    }
}

mod user {
    //! Who asks for something, and in which shape.
    //!
    //! C headers: [`include/linux/capability.h`](srctree/include/linux/capability.h),
    //! [`include/linux/fs.h`](srctree/include/linux/fs.h).

    use kernel::{
        bindings,
        fs::Kiocb,
        prelude::*,
        transmute::{
            AsBytes,
            FromBytes, //
        },
        types::ForeignOwnable, //
    };

    use crate::uapi;

    /// Set in `ki_flags` of a write that must go to the end of the file.
    ///
    /// bindgen skips the constant because of a cast in it. Its value cannot change: it is that of
    /// `RWF_APPEND` in `include/uapi/linux/fs.h`.
    const IOCB_APPEND: c_int = 0x10;

    /// Whether a write must go to the end of the file: `O_APPEND`, or `RWF_APPEND` for this call
    /// alone.
    pub(crate) fn appends<T: ForeignOwnable>(kiocb: &Kiocb<'_, T>) -> bool {
        // SAFETY: By the type invariants of `Kiocb` the pointer is valid, and the flags are set
        // before the driver is called.
        let flags = unsafe { (*kiocb.as_raw()).ki_flags };
        flags & IOCB_APPEND != 0
    }

    /// Whether the calling thread has `CAP_SYS_ADMIN` in the initial user namespace: in a
    /// container, root has no business with physical memory.
    pub(crate) fn is_admin() -> bool {
        const CAP_SYS_ADMIN: c_int = bindings::CAP_SYS_ADMIN as c_int;
        // SAFETY: Reads the credentials of the calling thread, of which there is one: the driver is
        // called from system calls.
        unsafe { bindings::capable(CAP_SYS_ADMIN) }
    }

    // SAFETY: Integers without padding between or behind them: 2 of 4 bytes, then 3 of 8.
    unsafe impl AsBytes for uapi::Info {}

    // SAFETY: Integers without padding between or behind them: 2 of 8 bytes, then 2 of 4.
    unsafe impl AsBytes for uapi::PageInfo {}
    // SAFETY: All fields are integers, which any bytes are.
    unsafe impl FromBytes for uapi::PageInfo {}

    // SAFETY: All fields are integers or arrays of them, which any bytes are.
    unsafe impl FromBytes for uapi::Fill {}

    // SAFETY: The field is an integer, which any bytes are.
    unsafe impl FromBytes for uapi::Increment {}

    // SAFETY: Integers of 8 bytes each, without padding.
    unsafe impl AsBytes for uapi::Checksum {}
    // SAFETY: All fields are integers, which any bytes are.
    unsafe impl FromBytes for uapi::Checksum {}
}
