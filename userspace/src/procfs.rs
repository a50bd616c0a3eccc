//! Page tables and VMAs as `/proc/self` shows them, see `proc_pid_pagemap(5)`, `proc_pid_smaps(5)`.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;

use procfs_core::process::{MemoryMap, MemoryMaps, PageInfo};
use procfs_core::{FromBufRead, process::MemoryPageFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sys::PAGE_SIZE;

/// The page table's entry for one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Page frame number; `None` if no page is there.
    pub pfn: Option<u64>,
    /// Whether the page belongs to a file or to shared memory, and not to this process alone.
    pub file: bool,
}

/// The VMA around an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// Where in the object it starts, in bytes; of a private mapping made by `remap_pfn_range()`, the physical
    /// address instead (mm/memory.c `get_remap_pgoff()`, 7.3).
    pub offset: u64,
    /// `VmFlags`, in the kernel's two-letter words.
    pub flags: Vec<String>,
    /// Resident memory, in KiB.
    pub rss_kib: u64,
    /// Resident memory that belongs to no file, in KiB.
    pub anonymous_kib: u64,
}

const PAGEMAP: &str = "/proc/self/pagemap";
const SMAPS: &str = "/proc/self/smaps";

/// The entry of this process's page table for `addr`.
///
/// # Errors
///
/// If `/proc/self/pagemap` cannot be read.
pub fn page(addr: usize) -> Result<Page> {
    let entries = pages(addr, 1)?;
    entries.first().copied().ok_or_else(|| Error::Garbled {
        what: PAGEMAP.to_owned(),
        detail: format!("no entry for {addr:#x}"),
    })
}

/// The entries of this process's page table for `nr_pages` pages from `addr` on.
///
/// # Errors
///
/// If `/proc/self/pagemap` cannot be read.
pub fn pages(addr: usize, nr_pages: usize) -> Result<Vec<Page>> {
    let mut bytes = vec![0; nr_pages * size_of::<u64>()];
    let offset = (addr / PAGE_SIZE * size_of::<u64>()) as u64;
    let pagemap = File::open(PAGEMAP).map_err(Error::file("open", PAGEMAP))?;
    pagemap
        .read_exact_at(&mut bytes, offset)
        .map_err(Error::file("read", PAGEMAP))?;
    Ok(bytes
        .chunks_exact(size_of::<u64>())
        .map(parse_page)
        .collect())
}

fn parse_page(entry: &[u8]) -> Page {
    let entry = entry
        .iter()
        .rev()
        .fold(0, |high, byte| high << 8 | u64::from(*byte));
    match PageInfo::parse_info(entry) {
        PageInfo::MemoryPage(flags) if flags.contains(MemoryPageFlags::PRESENT) => Page {
            pfn: Some(flags.get_page_frame_number().0),
            file: flags.contains(MemoryPageFlags::FILE),
        },
        _ => Page {
            pfn: None,
            file: false,
        },
    }
}

/// The VMA of this process around `addr`; `None` if nothing is mapped there.
///
/// # Errors
///
/// If `/proc/self/smaps` cannot be read.
pub fn vma(addr: usize) -> Result<Option<Vma>> {
    let smaps = File::open(SMAPS).map_err(Error::file("open", SMAPS))?;
    let maps =
        MemoryMaps::from_buf_read(BufReader::new(smaps)).map_err(|error| Error::Garbled {
            what: SMAPS.to_owned(),
            detail: error.to_string(),
        })?;
    Ok(vma_around(&maps, addr as u64))
}

fn vma_around(maps: &MemoryMaps, addr: u64) -> Option<Vma> {
    let around = |map: &&MemoryMap| map.address.0 <= addr && addr < map.address.1;
    let map = maps.into_iter().find(around)?;
    let kib = |key: &str| map.extension.map.get(key).copied().unwrap_or(0) / 1024;
    let flags = map.extension.vm_flags.iter_names();
    Some(Vma {
        start: map.address.0,
        end: map.address.1,
        offset: map.offset,
        flags: flags.map(|(name, _)| name.to_lowercase()).collect(),
        rss_kib: kib("Rss"),
        anonymous_kib: kib("Anonymous"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taken from a guest: a private mapping of the device after the first store, and its neighbours.
    const SAVED: &str = include_str!("../tests/data/smaps-private-device");

    #[test]
    fn the_vma_around_an_address_is_found_with_its_flags() {
        let maps = MemoryMaps::from_buf_read(SAVED.as_bytes()).unwrap();
        let vma = vma_around(&maps, 0x7f2a_1c00_07b0).unwrap();
        assert_eq!((vma.start, vma.end), (0x7f2a_1c00_0000, 0x7f2a_1c00_1000));
        assert_eq!(vma.flags, ["rd", "wr", "mr", "mw", "me", "de", "ac", "mm"]);
        assert_eq!((vma.rss_kib, vma.anonymous_kib), (4, 4));
        assert_eq!(vma_around(&maps, 0x1000), None);
    }

    #[test]
    fn a_pagemap_entry_is_a_frame_or_nothing() {
        let entry = |bits: u64| parse_page(&bits.to_le_bytes());
        let present = 1 << 63;
        assert_eq!(
            entry(0),
            Page {
                pfn: None,
                file: false
            }
        );
        assert_eq!(
            entry(present | 0x650),
            Page {
                pfn: Some(0x650),
                file: false
            }
        );
        assert_eq!(
            entry(present | 1 << 61 | 7),
            Page {
                pfn: Some(7),
                file: true
            }
        );
        let swapped = 1 << 62 | 0x650;
        assert_eq!(
            entry(swapped),
            Page {
                pfn: None,
                file: false
            }
        );
    }
}
