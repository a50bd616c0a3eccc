// SPDX-License-Identifier: GPL-2.0

//! `/dev/mmapdemo`: 4096 bytes of kernel memory that any process may read, write and map.
//!
//! From what userspace sees to what the kernel offers:
//!
//! - `device`: the file operations and the errno that each of them answers with;
//! - `strategy`: the way a page of the buffer reaches a mapping;
//! - `buffer`: the shared bytes, who owns them and for how long;
//! - `raw`: the only file with `unsafe`: C interfaces that the `kernel` crate does not wrap.
//!
//! # Locks
//!
//! - The core holds `misc_mtx` when it calls open, and `mmap_lock` when it calls mmap. The driver
//!   takes no lock in either.
//! - `Buffer::order` is held by read and write, for a copy from kernel memory to kernel memory.
//!   Nothing is locked under it and nothing can fault, so it has no place in anybody's order.

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
