//! Frame: a page of physical memory, and what the kernel knows of it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use crate::btf::Types;
use crate::error::{Error, Result};
use crate::kcore;
use crate::kernel_symbols;
use crate::sys::PAGE_SIZE;

/// Whose a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The driver's buffer.
    Driver,
    /// A process's own memory, that of no file.
    Anonymous,
    /// The page cache of a file, be it on a disk or in memory only.
    File,
    /// The one page of zeros that all share.
    Zero,
    /// Something else of the kernel's.
    Kernel,
}

/// A frame at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Its number.
    pub pfn: u64,
    /// Whose it is.
    pub owner: Owner,
    /// References that keep it from being freed; `None` if it could not be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refcount: Option<i64>,
    /// Page table entries that map it and are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapcount: Option<i64>,
    /// The first bytes of it, as they are in physical memory: no process was asked.
    #[serde(with = "const_hex::serde::no_prefix")]
    pub bytes: Vec<u8>,
}

/// So many bytes of a frame are looked at.
pub const SHOWN: usize = 16;

// `Documentation/admin-guide/mm/pagemap.rst`.
const KPAGEFLAGS: &str = "/proc/kpageflags";
const KPAGECOUNT: &str = "/proc/kpagecount";
const LRU: u64 = 1 << 5;
const MAPPED: u64 = 1 << 11;
const ANONYMOUS: u64 = 1 << 12;
const SWAP_BACKED: u64 = 1 << 14;
const ZERO: u64 = 1 << 24;

impl Frame {
    /// Looks at a frame; `drivers` is the one that the driver names as its own, with the counts that it gives.
    ///
    /// # Errors
    ///
    /// If the kernel does not let this process look at it.
    pub fn look(pfn: u64, drivers: bool) -> Result<Self> {
        let flags = word_of(KPAGEFLAGS, pfn)?;
        let owner = match flags {
            _ if drivers => Owner::Driver,
            flags if flags & ZERO != 0 => Owner::Zero,
            flags if flags & ANONYMOUS != 0 => Owner::Anonymous,
            flags if flags & (LRU | SWAP_BACKED | MAPPED) != 0 => Owner::File,
            _ => Owner::Kernel,
        };
        let mapcount = word_of(KPAGECOUNT, pfn)?;
        Ok(Self {
            pfn,
            owner,
            refcount: refcount(pfn)?,
            mapcount: i64::try_from(mapcount).ok(),
            bytes: kcore::read(pfn * PAGE_SIZE as u64, SHOWN)?,
        })
    }
}

fn word_of(path: &'static str, pfn: u64) -> Result<u64> {
    let mut bytes = [0; size_of::<u64>()];
    let file = File::open(path).map_err(Error::file("open", path))?;
    let read = file.read_exact_at(&mut bytes, pfn * size_of::<u64>() as u64);
    read.map_err(Error::file("read", path))?;
    Ok(u64::from_ne_bytes(bytes))
}

/// `_refcount` of the frame's `struct page`; `None` if this kernel has no such thing, or of a page inside a larger
/// folio, whose first page has the count.
fn refcount(pfn: u64) -> Result<Option<i64>> {
    let types = Types::of_the_kernel()?;
    let counted = types.len("page").zip(types.offset("page", "_refcount"));
    let Some((len, offset)) = counted else {
        return Ok(None);
    };
    let base = kcore::word_at(kernel_symbols::address("vmemmap_base")?)?;
    let page = base + pfn * len;
    // Kernels differ in the name of the word that leads from a page of a folio to its first.
    let mut heads = ["compound_info", "compound_head"]
        .iter()
        .filter_map(|member| types.offset("page", member));
    if let Some(head) = heads.next() {
        if kcore::word_at(page + head)? & 1 != 0 {
            return Ok(None);
        }
    }
    let bytes = kcore::read_at(page + offset, size_of::<i32>())?;
    let count = bytes.try_into().map(i32::from_ne_bytes);
    Ok(count.ok().map(i64::from))
}
