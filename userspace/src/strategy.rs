//! Strategy: how a node of the driver brings the pages of its buffer into a mapping.

use std::fmt;
use std::os::fd::AsFd;

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::sys::ioctl;
use crate::uapi;

/// How a node maps its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// By `vm_insert_page()` when mmap is called.
    Insert,
    /// By `remap_pfn_range()` when mmap is called.
    Pfn,
    /// By the `fault` handler when a page is touched.
    Fault,
}

impl Strategy {
    /// Asks the driver; `None` if there is no such device, or another driver's.
    #[must_use]
    pub fn of(device: &Device) -> Option<Self> {
        let node = device.open().ok()?;
        match ioctl::info(node.as_fd()).ok()?.strategy {
            uapi::INSERT_PAGE => Some(Self::Insert),
            uapi::REMAP_PFN => Some(Self::Pfn),
            uapi::FAULT => Some(Self::Fault),
            _ => None,
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Insert => "insert",
            Self::Pfn => "pfn",
            Self::Fault => "fault",
        })
    }
}
