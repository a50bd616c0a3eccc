// SPDX-License-Identifier: GPL-2.0

//! What the `kernel` crate of Linux 7.2 and 7.3 does not wrap, as types that are safe to use.
//!
//! C headers: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h),
//! [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/mm_types.h`](srctree/include/linux/mm_types.h),
//! [`include/linux/highmem.h`](srctree/include/linux/highmem.h).

#![expect(unsafe_code, reason = "wraps C interfaces")]

use core::{
    mem::offset_of,
    ptr, //
};
use kernel::{
    bindings,
    container_of,
    error::to_result,
    fs::Kiocb,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    mm::virt::VmaNew,
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
    types::{
        ForeignOwnable,
        Opaque, //
    }, //
};

/// Set in `ki_flags` of a write that must go to the end of the file.
///
/// bindgen skips the constant because of a cast in it. Its value cannot change: it is that of
/// `RWF_APPEND` in `include/uapi/linux/fs.h`.
const IOCB_APPEND: c_int = 0x10;

/// How a device node appears below `/dev`.
pub(crate) struct Options {
    /// File name of the node.
    pub(crate) name: &'static CStr,
    /// Permission bits that devtmpfs gives the node, whatever the umask.
    pub(crate) mode: bindings::umode_t,
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
/// `llseek` or `fsync`. Linux 7.2 also leaves `owner` unset there: nothing then keeps the module
/// loaded while a file is open, and closing the file jumps into freed memory.
///
/// # Invariants
///
/// - `node.misc` is registered from the end of `register` until `drop`, and its `fops` is
///   `node.fops`; neither structure is written to in between, except by the misc core.
/// - `node.fops` is the table that the `kernel` crate builds for `T`, with `owner` set to the module
///   that contains `T`.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: MiscDevice> {
    data: T::Ptr,
    // Pinned: the misc core keeps a pointer to it, and open files one to its `fops`.
    #[pin]
    node: Opaque<Node>,
}

// SAFETY: `misc_deregister()` may be called by another thread than `misc_register()` was, and `data`
// is `Send` as `MiscDevice` demands.
unsafe impl<T: MiscDevice> Send for Registration<T> {}

// SAFETY: Shared access reaches `data`, which is `Sync` as `MiscDevice` demands, and the field `fops`
// of `node.misc`, to which nobody writes by the type invariants.
unsafe impl<T: MiscDevice> Sync for Registration<T> {}

impl<T: MiscDevice> Registration<T> {
    /// Makes the device appear; each open file of it can find `data` by [`Registration::of`].
    ///
    /// `module` stays loaded while a file of the device is open, and a mapping keeps its file open:
    /// `misc_open()` takes the reference for which `owner` is there (`drivers/char/misc.c`).
    pub(crate) fn register(
        options: Options,
        module: &'static ThisModule,
        data: T::Ptr,
    ) -> impl PinInit<Self, Error> {
        // Initialised in this order: once `node` is registered, `data` is used.
        try_pin_init!(Self {
            data,
            node <- Opaque::try_ffi_init(move |node: *mut Node| {
                let mut misc = MiscDeviceOptions { name: options.name }.into_raw::<T>();
                // SAFETY: `into_raw` points `fops` to a constant.
                let template = unsafe { *misc.fops };
                let fops = bindings::file_operations {
                    owner: module.as_ptr(),
                    llseek: Some(llseek),
                    // There is nothing to write back, but without the method fsync(2) and
                    // msync(2) with MS_SYNC say EINVAL (`vfs_fsync_range()` in `fs/sync.c`).
                    fsync: Some(bindings::noop_fsync),
                    ..template
                };
                // Computes an address, which needs no valid contents.
                misc.fops = node.wrapping_byte_add(offset_of!(Node, fops)).cast();
                misc.mode = options.mode;

                // SAFETY: `node` points to memory that this closure is to initialise.
                unsafe { node.write(Node { misc, fops }) };

                // INVARIANT: On success the device is registered, with its own `fops`, which were
                // made from the table of the `kernel` crate just above. Their `owner` is the module
                // that contains `T`: safe code can name no other `ThisModule`.
                //
                // SAFETY: `misc` is filled in, and is the start of `node`, which is pinned and so
                // stays where it is until `drop`, which deregisters it. On failure the misc core
                // keeps no pointer to it.
                to_result(unsafe { bindings::misc_register(node.cast()) })
            }),
        })
    }

    /// The registration behind `misc`; `None` if `misc` was registered by other means.
    pub(crate) fn of(misc: &MiscDeviceRegistration<T>) -> Option<&Self> {
        let node = misc.as_raw().cast::<Node>();
        let own_fops = node.wrapping_byte_add(offset_of!(Node, fops)).cast();

        // SAFETY: `misc` is a registered misc device, whose `fops` nobody writes to.
        let fops = unsafe { (*misc.as_raw()).fops };
        if !ptr::eq(fops, own_fops) {
            return None;
        }

        let node = Opaque::cast_from(node);
        // SAFETY: A table right behind the device is that of a `Registration<T>`, for two makers of
        // a `MiscDeviceRegistration<T>` exist: this type, whose vtable gets a pointer to `misc` at
        // the start of `node`; and the `kernel` crate, whose table is a constant, so in read-only
        // memory, which does not adjoin a structure that the misc core writes to.
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
impl<T: MiscDevice> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // No file is open: each holds a reference to the module, which is being unloaded.
        //
        // SAFETY: `node` starts with a registered device by the type invariants.
        unsafe { bindings::misc_deregister(self.node.get().cast()) };
    }
}

/// `lseek(2)` in a file of [`SharedPage::LEN`] bytes.
///
/// `SEEK_END` counts from there (the inode of a device says 0), all of the file is data, and to go
/// past its end is `EINVAL`, as for a block device.
///
/// # Safety
///
/// `file` must be an open file.
unsafe extern "C" fn llseek(
    file: *mut bindings::file,
    offset: bindings::loff_t,
    whence: c_int,
) -> bindings::loff_t {
    const LEN: bindings::loff_t = SharedPage::LEN as bindings::loff_t;
    // SAFETY: The caller passes an open file.
    unsafe { bindings::generic_file_llseek_size(file, offset, whence, LEN, LEN) }
}

/// Whether a write must go to the end of the file: `O_APPEND`, or `RWF_APPEND` for this call alone.
pub(crate) fn appends<T: ForeignOwnable>(kiocb: &Kiocb<'_, T>) -> bool {
    // SAFETY: By the type invariants of `Kiocb` the pointer is valid, and the flags are set before
    // the driver is called.
    let flags = unsafe { (*kiocb.as_raw()).ki_flags };
    flags & IOCB_APPEND != 0
}

/// The offset into the file, in pages, at which the mapping starts.
pub(crate) fn vm_pgoff(vma: &VmaNew) -> usize {
    // SAFETY: By the type invariants of `VmaNew` the VMA is still being set up, so nobody writes to
    // `vm_pgoff` while it is read here.
    unsafe { (*vma.as_ptr()).vm_pgoff }
}

/// A page that userspace may write to at any moment.
///
/// There is no way to get a reference to its bytes: they would change under it. They are copied by
/// C code, to which bytes that change meanwhile are nothing special: each byte copied is one that
/// was there.
///
/// # Invariants
///
/// All bytes of the page are initialised.
pub(crate) struct SharedPage(Page);

impl SharedPage {
    /// Number of bytes in the page.
    pub(crate) const LEN: usize = PAGE_SIZE;

    /// Allocates a page of zeros.
    ///
    /// It has to be asked for: userspace would otherwise see what the page held before, unless the
    /// kernel was booted with `init_on_alloc=1`.
    pub(crate) fn new() -> Result<Self> {
        // INVARIANT: `__GFP_ZERO` initialises all bytes.
        Ok(Self(Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?))
    }

    /// The page itself, to be mapped.
    pub(crate) fn as_page(&self) -> &Page {
        &self.0
    }

    /// Copies the bytes from `offset` on to `to`; `EINVAL` if they are not all in the page.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        let (to, len) = (to.as_mut_ptr().cast(), to.len());
        self.with_bytes(offset, len, |from| {
            // SAFETY: `from` is good for `len` bytes, all initialised; `to` is a slice of that
            // length, which as an exclusive reference does not overlap the page.
            unsafe { bindings::memcpy(to, from, len) };
        })
    }

    /// Replaces the bytes from `offset` on by `from`; `EINVAL` if they would not all be in the page.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) -> Result {
        let (from, len) = (from.as_ptr().cast(), from.len());
        self.with_bytes(offset, len, |to| {
            // SAFETY: `to` is good for `len` bytes; `from` is a slice of that length, which does
            // not overlap the page, since nobody has a reference to bytes of that.
            unsafe { bindings::memcpy(to, from, len) };
        })
    }

    /// Calls `f` with the address of `offset`, at which `len` bytes belong to the page.
    fn with_bytes(&self, offset: usize, len: usize, f: impl FnOnce(*mut c_void)) -> Result {
        if offset.checked_add(len).ok_or(EINVAL)? > Self::LEN {
            return Err(EINVAL);
        }
        // SAFETY: `Page` owns a valid page.
        let page = unsafe { bindings::kmap_local_page(self.0.as_ptr()) };
        f(page.wrapping_byte_add(offset));
        // SAFETY: `page` is what this thread mapped last: `f` only copies.
        unsafe { bindings::kunmap_local(page) };
        Ok(())
    }
}
