// SPDX-License-Identifier: GPL-2.0

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

/// Whether a write must go to the end of the file: `O_APPEND`, or `RWF_APPEND` for this call alone.
pub(crate) fn appends<T: ForeignOwnable>(kiocb: &Kiocb<'_, T>) -> bool {
    // SAFETY: By the type invariants of `Kiocb` the pointer is valid, and the flags are set before
    // the driver is called.
    let flags = unsafe { (*kiocb.as_raw()).ki_flags };
    flags & IOCB_APPEND != 0
}

/// Whether the calling thread has `CAP_SYS_ADMIN` in the initial user namespace: in a container, root
/// has no business with physical memory.
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
