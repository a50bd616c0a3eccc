// SPDX-License-Identifier: GPL-2.0

//! `/dev/mmapdemo`: 4096 bytes of kernel memory that any process may read, write and map.
//!
//! The map of the driver, from what userspace sees to what the kernel offers:
//!
//! - [`device`]: the file operations and the errno that each of them answers with;
//! - [`strategy`]: the way a page of the buffer reaches a mapping;
//! - [`buffer`]: the shared bytes, who owns them and for how long;
//! - [`raw`]: the only file with `unsafe`: C interfaces that the `kernel` crate does not wrap.
//!
//! # Lock order
//!
//! `misc_mtx` (held around open, `drivers/char/misc.c`) and `mmap_lock` (held around mmap) come
//! before nothing of ours: neither path takes a lock of the driver. `Buffer::order` is a leaf, taken
//! by read and write around a copy that stays inside the kernel and therefore cannot fault.

#![deny(unsafe_code)]

use kernel::prelude::*;

use crate::{
    buffer::Buffer,
    device::MmapDemo,
    raw::Registration, //
};

mod buffer;
mod device;
mod raw;
mod strategy;

module! {
    type: Module,
    name: "mmapdemo",
    authors: ["The mmapdemo authors"],
    description: "A page of kernel memory to read, write and mmap",
    license: "GPL",
}

/// What lives from `insmod` to `rmmod`.
#[pin_data]
struct Module {
    #[pin]
    _node: Registration<MmapDemo>,
}

impl kernel::InPlaceModule for Module {
    /// Registering is the last thing that can fail: once it has succeeded, userspace can open the
    /// device, and nothing takes that back.
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _node <- Registration::register(device::OPTIONS, module, Buffer::new()?),
        })
    }
}
