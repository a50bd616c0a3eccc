// SPDX-License-Identifier: GPL-2.0

//! Kernel memory that any process may read, write and map, in three ways.
//!
//! `/dev/mmapdemo`, `/dev/mmapdemo-pfn` and `/dev/mmapdemo-fault` are nodes over one buffer, and
//! differ in how a page of it gets into the page table of a process that maps it.
//!
//! From what userspace sees to what the kernel offers:
//!
//! - `device`: the file operations and the errno that each of them answers with;
//! - `ioctl`: the commands of `uapi`, which is shared with userspace;
//! - `node`: what stands behind a node, and what was counted of its mappings;
//! - `strategy`: the ways in which a page reaches a mapping;
//! - `buffer`: the shared bytes, who owns them and for how long;
//! - `raw`: the only module with `unsafe`: C interfaces that the `kernel` crate does not wrap.
//!
//! # Locks
//!
//! - The core holds `misc_mtx` when it calls open; `mmap_lock` when it calls mmap and the operations
//!   of a VMA; that or the lock of the VMA when it calls fault. The driver takes no lock in any.
//! - `Buffer::order` is held while the kernel reads or changes bytes of the buffer. Nothing is locked
//!   under it and nothing can fault, so it has no place in anybody's order.

#![deny(unsafe_code)]

use core::borrow::Borrow;
use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    buffer::Buffer,
    device::MmapDemo,
    node::Node,
    raw::Registration,
    strategy::Strategy, //
};

mod buffer;
mod device;
mod ioctl;
mod node;
mod raw;
mod strategy;
#[expect(unreachable_pub, reason = "userspace compiles this file, too")]
mod uapi;

module! {
    type: Module,
    name: "mmapdemo",
    authors: ["The mmapdemo authors"],
    description: "Kernel memory to read, write and mmap in three ways",
    license: "GPL",
    params: {
        pages: usize {
            default: 1,
            description: "Number of pages in the buffer, 1 to 256",
        },
    },
}

/// What lives from `insmod` to `rmmod`.
#[pin_data]
struct Module {
    #[pin]
    insert_page: Registration<MmapDemo>,
    #[pin]
    remap_pfn: Registration<MmapDemo>,
    #[pin]
    fault: Registration<MmapDemo>,
}

impl kernel::InPlaceModule for Module {
    /// No node can be opened before all of them are registered. Nothing fails after that.
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let buffer = Buffer::new(nr_pages());
        pin_init::pin_init_scope(move || {
            let buffer = buffer?;
            let node = |strategy| Node::new(strategy, Arc::clone(&buffer));
            let (insert_page, remap_pfn, fault) = (
                node(Strategy::InsertPage)?,
                node(Strategy::RemapPfn)?,
                node(Strategy::Fault)?,
            );
            Ok(try_pin_init!(Self {
                insert_page <- register(c"mmapdemo", module, insert_page),
                remap_pfn <- register(c"mmapdemo-pfn", module, remap_pfn),
                fault <- register(c"mmapdemo-fault", module, fault),
                _: {
                    insert_page.publish();
                    remap_pfn.publish();
                    fault.publish();
                },
            }))
        })
    }
}

/// Makes a node appear that cannot be opened yet.
fn register(
    name: &'static CStr,
    module: &'static ThisModule,
    node: Arc<Node>,
) -> impl PinInit<Registration<MmapDemo>, Error> {
    Registration::register(device::options(name), module, node)
}

/// The parameter `pages`.
fn nr_pages() -> usize {
    // The value itself since Linux 7.3, a reference to it on 7.2.
    *Borrow::<usize>::borrow(&module_parameters::pages.value())
}
