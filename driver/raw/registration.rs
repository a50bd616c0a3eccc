// SPDX-License-Identifier: GPL-2.0

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
        atomic_store,
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
/// `llseek`, `fsync` or `poll`. Linux 7.2 also leaves `owner` unset there: nothing then keeps the
/// module loaded while a file is open, and closing the file jumps into freed memory.
///
/// # Two steps
///
/// Where several devices are registered, a later one can fail when somebody has an earlier one open
/// already. The kernel then frees the module nevertheless, since it waits for users of a module only
/// where they could prevent something (`do_init_module()` in `kernel/module/main.c`). So a device
/// without file operations is registered first: it has a node, and `misc_open()` answers `ENODEV`
/// without a reference to the module, or a call into it. [`Registration::publish`], which cannot
/// fail, lets userspace in.
///
/// # Invariants
///
/// - `node.misc` is registered from the end of `register` until `drop`. Its `fops` is null or
///   `node.fops`, and does not become null again. Apart from that, neither structure is written to
///   in between, except by the misc core.
/// - `node.fops` is the table that the `kernel` crate builds for `T`, with `owner` set to the module
///   that contains `T`.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: FixedLen> {
    data: T::Ptr,
    // Pinned: the misc core keeps a pointer to it, and open files one to its `fops`.
    #[pin]
    node: Opaque<Node>,
}

// SAFETY: `misc_deregister()` may be called by another thread than `misc_register()` was, and `data`
// is `Send` as `MiscDevice` demands.
unsafe impl<T: FixedLen> Send for Registration<T> {}

// SAFETY: Shared access reaches `data`, which is `Sync` as `MiscDevice` demands, and the field `fops`
// of `node.misc`, which is written to in one step, by an atomic access.
unsafe impl<T: FixedLen> Sync for Registration<T> {}

impl<T: FixedLen> Registration<T> {
    /// Makes the device appear; it cannot be opened yet. Each open file of it will find `data` by
    /// [`Registration::of`].
    ///
    /// `module` stays loaded while a file of the device is open, and a mapping keeps its file open:
    /// `misc_open()` takes the reference for which `owner` is there (`drivers/char/misc.c`).
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

                // INVARIANT: On success the device is registered, without file operations. Those
                // beside it were made from the table of the `kernel` crate just above. Their `owner`
                // is the module that contains `T`: safe code can name no other `ThisModule`.
                //
                // SAFETY: `misc` is filled in, and is the start of `node`, which is pinned and so
                // stays where it is until `drop`, which deregisters it. On failure the misc core
                // keeps no pointer to it. It does not look at `fops`, and opening a device that has
                // none fails (`fops_get()` in `include/linux/fs.h`).
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
        // SAFETY: `published` is the address of that field. `misc_open()` reads it without an atomic
        // access, under a mutex that is private to `drivers/char/misc.c`, in C: it sees null or the
        // whole pointer, however often it looks, since the field changes once. The table behind the
        // pointer was complete when the device was registered, under the same mutex.
        unsafe { atomic_store::<*const bindings::file_operations, _>(published, fops, Release) };
    }

    /// The registration behind `misc`; `None` if `misc` was registered by other means.
    pub(crate) fn of(misc: &MiscDeviceRegistration<T>) -> Option<&Self> {
        let node = misc.as_raw().cast::<Node>();
        let own_fops = node.wrapping_byte_add(offset_of!(Node, fops)).cast();

        // SAFETY: `misc` is a registered misc device, and one that is being opened: nobody writes to
        // its `fops` any more.
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
impl<T: FixedLen> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // No file is open: each holds a reference to the module, which is being unloaded, or none
        // could be opened, since the module has failed to load.
        //
        // SAFETY: `node` starts with a registered device by the type invariants.
        unsafe { bindings::misc_deregister(self.node.get().cast()) };
    }
}

/// `lseek(2)`.
///
/// `SEEK_END` counts from the length of the file (the inode of a device says 0), all of the file is
/// data, and to go past its end is `EINVAL`, as for a block device.
///
/// # Safety
///
/// `file` must be an open file of a `Registration<T>`.
unsafe extern "C" fn llseek<T: FixedLen>(
    file: *mut bindings::file,
    offset: bindings::loff_t,
    whence: c_int,
) -> bindings::loff_t {
    // SAFETY: The caller passes an open file. Its private data is not written to before release.
    let private = unsafe { (*file).private_data };
    // SAFETY: The `kernel` crate has put it there in open by `into_foreign`, and takes it back in
    // release, which is not called while a system call uses the file.
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
