// SPDX-License-Identifier: GPL-2.0

//! What stands behind a device node: the buffer, and one way to map it.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

use crate::{
    buffer::Buffer,
    raw::{
        Mapped,
        Pages,
        SharedPage, //
    },
    strategy::Strategy,
    uapi, //
};

/// What stands behind a device node, and what has been seen of its mappings.
pub(crate) struct Node {
    strategy: Strategy,
    buffer: Arc<Buffer>,
    faults: Atomic<u64>,
    mappings: Atomic<u64>,
}

impl Node {
    /// A node over `buffer`, which it shares with others.
    pub(crate) fn new(strategy: Strategy, buffer: Arc<Buffer>) -> Result<Arc<Self>> {
        let node = Self {
            strategy,
            buffer,
            faults: Atomic::new(0),
            mappings: Atomic::new(0),
        };
        Ok(Arc::new(node, GFP_KERNEL)?)
    }

    /// How it is mapped.
    pub(crate) fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// The buffer.
    pub(crate) fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// What anybody may know of it.
    pub(crate) fn info(&self) -> Result<uapi::Info> {
        Ok(uapi::Info {
            strategy: self.strategy.number(),
            nr_pages: self.buffer.pages().nr().try_into()?,
            len: self.buffer.len().try_into()?,
            faults: self.faults.load(Relaxed),
            mappings: self.mappings.load(Relaxed),
        })
    }

    /// Makes it as it was when the module was loaded, except for the mappings that there are.
    pub(crate) fn reset(&self) -> Result {
        self.buffer.fill(0, self.buffer.len(), 0)?;
        self.faults.store(0, Relaxed);
        Ok(())
    }
}

impl Mapped for Node {
    fn pages(&self) -> &Pages {
        self.buffer.pages()
    }

    fn opened(&self) {
        self.mappings.add(1u64, Relaxed);
    }

    fn closed(&self) {
        self.mappings.fetch_sub(1u64, Relaxed);
    }

    fn fault(&self, pgoff: usize) -> Option<SharedPage<'_>> {
        let page = self.buffer.pages().get(pgoff)?;
        self.faults.add(1u64, Relaxed);
        Some(page)
    }
}
