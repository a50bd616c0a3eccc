// SPDX-License-Identifier: GPL-2.0

//! The ways in which pages of the buffer reach a mapping.

use kernel::prelude::*;

use crate::{
    node::Node,
    raw::Window,
    uapi, //
};

/// A way in which pages of the buffer reach a mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// `vm_insert_page()` in mmap: no access ever faults, and the kernel knows the pages, so that it
    /// can find, count and pin them.
    InsertPage,
    /// `remap_pfn_range()` in mmap: no access ever faults, and to the kernel these are frames without
    /// pages, as device memory would be.
    RemapPfn,
    /// `vm_operations_struct.fault`: a page is mapped when it is touched first, and again whenever
    /// it has been taken away.
    Fault,
}

impl Strategy {
    /// The C function that makes the page table entries.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::InsertPage => "vm_insert_page",
            Self::RemapPfn => "remap_pfn_range",
            Self::Fault => "fault",
        }
    }

    /// The number that userspace knows it by.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::InsertPage => uapi::INSERT_PAGE,
            Self::RemapPfn => uapi::REMAP_PFN,
            Self::Fault => uapi::FAULT,
        }
    }

    /// Lets `window` show the buffer.
    pub(crate) fn show(self, window: Window<'_, Node>) -> Result {
        match self {
            Self::InsertPage => window.insert_pages(),
            Self::RemapPfn => window.remap_pfn_range(),
            Self::Fault => window.insert_on_fault(),
        }
    }
}
