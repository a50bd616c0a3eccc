//! Page tables and VMAs as `/proc/self` shows them, see `proc_pid_pagemap(5)`, `proc_pid_smaps(5)`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use procfs_core::process::{Io, MMapPath, MemoryMap, MemoryMaps, PageInfo, Stat, Status};
use procfs_core::{FromBufRead, FromRead, Meminfo, process::MemoryPageFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sys::{Mapping, PAGE_SIZE};

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
    /// What may be done, and whether it is shared: `rw-s`.
    pub mode: String,
    /// The device of the file behind it, major and minor number in hexadecimal: `00:01`.
    pub device: String,
    /// The inode of the file behind it; 0 if there is none.
    pub inode: u64,
    /// The file behind it, or the kernel's word for what it is; empty for plain anonymous memory.
    pub name: String,
    /// `VmFlags`, in the kernel's two-letter words.
    pub flags: Vec<String>,
    /// Resident memory, in KiB.
    pub rss_kib: u64,
    /// Resident memory that belongs to no file, in KiB.
    pub anonymous_kib: u64,
    /// What of that is in huge pages, in KiB.
    pub huge_kib: u64,
    /// What has been moved to swap, in KiB.
    pub swap_kib: u64,
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

/// What `/proc/PID/pagemap` says of one page of a process.
#[expect(clippy::struct_excessive_bools, reason = "bits of a word")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapEntry {
    /// The number of the frame, if it shows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pfn: Option<u64>,
    /// Whether the page belongs to a file or to shared memory.
    #[serde(default, skip_serializing_if = "is_false")]
    pub file: bool,
    /// Whether it was stored to since it was mapped, or since somebody asked to forget that.
    #[serde(default, skip_serializing_if = "is_false")]
    pub soft_dirty: bool,
    /// Whether no other page table has it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub exclusive: bool,
    /// Whether it has been moved to swap.
    #[serde(default, skip_serializing_if = "is_false")]
    pub swapped: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What is shown of the page at `addr` of any process.
///
/// # Errors
///
/// If its `/proc/PID/pagemap` cannot be read.
pub fn map_entry(pid: Pid, addr: u64) -> Result<MapEntry> {
    let path = format!("/proc/{pid}/pagemap");
    let mut bytes = [0; size_of::<u64>()];
    let offset = addr / PAGE_SIZE as u64 * size_of::<u64>() as u64;
    let pagemap = File::open(&path).map_err(Error::file("open", &path))?;
    pagemap
        .read_exact_at(&mut bytes, offset)
        .map_err(Error::file("read", &path))?;
    let word = u64::from_ne_bytes(bytes);
    // pagemap.rst; the crate's flags lack some of them.
    let is = |bit: u32| word >> bit & 1 != 0;
    Ok(MapEntry {
        pfn: parse_page(&bytes).pfn,
        file: is(61),
        soft_dirty: is(55),
        exclusive: is(56),
        swapped: is(62),
    })
}

/// All VMAs of a process, in the order of their addresses, with all that is known of them.
///
/// # Errors
///
/// If its `/proc/PID/smaps` cannot be read.
pub fn areas(pid: Pid) -> Result<Vec<Vma>> {
    let maps: MemoryMaps = read(&format!("/proc/{pid}/smaps"))?;
    Ok(maps.into_iter().map(|map| to_vma(&map)).collect())
}

/// How many pages of the mapping are in this process's page table.
///
/// # Errors
///
/// If `/proc/self/pagemap` cannot be read.
pub fn present(mapping: &Mapping) -> Result<u64> {
    let pages = pages(mapping.addr(), mapping.len() / PAGE_SIZE)?;
    Ok(pages.iter().filter(|page| page.pfn.is_some()).count() as u64)
}

/// The VMA of this process around `addr`; `None` if nothing is mapped there.
///
/// # Errors
///
/// If `/proc/self/smaps` cannot be read.
pub fn vma(addr: usize) -> Result<Option<Vma>> {
    let file = File::open(SMAPS).map_err(Error::file("open", SMAPS))?;
    let text = paragraph(BufReader::new(file), addr as u64).map_err(Error::file("read", SMAPS))?;
    let maps: MemoryMaps = parse(text.as_bytes(), SMAPS)?;
    Ok(maps.into_iter().next().map(|map| to_vma(&map)))
}

/// All VMAs of a process, in the order of their addresses, without their flags and sizes.
///
/// # Errors
///
/// If its `/proc/PID/maps` cannot be read.
pub fn vmas(pid: Pid) -> Result<Vec<Vma>> {
    let maps: MemoryMaps = read(&format!("/proc/{pid}/maps"))?;
    Ok(maps.into_iter().map(|map| to_vma(&map)).collect())
}

/// How many page faults of a process had to wait for a disk.
///
/// # Errors
///
/// If its `/proc/PID/stat` cannot be read.
pub fn major_faults(pid: Pid) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read(&path).map_err(Error::file("read", &path))?;
    let stat = Stat::from_read(text.as_slice()).map_err(|error| Error::Garbled {
        what: path,
        detail: error.to_string(),
    })?;
    Ok(stat.majflt)
}

/// The lines of smaps about the VMA around `addr`; none if nothing is mapped there.
///
/// The kernel counts pages for each VMA that is read, and to parse all of them takes a million instructions.
fn paragraph(mut smaps: impl BufRead, addr: u64) -> io::Result<String> {
    let (mut line, mut paragraph) = (String::new(), String::new());
    let mut is_wanted = None;
    while smaps.read_line(&mut line)? > 0 {
        if let Some(range) = range(&line) {
            if !paragraph.is_empty() {
                break;
            }
            is_wanted = Some(range.contains(&addr));
        }
        match is_wanted {
            Some(true) => paragraph.push_str(&line),
            Some(false) => {}
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, line)),
        }
        line.clear();
    }
    Ok(paragraph)
}

/// The addresses of a VMA, if this is the first of the lines about it.
fn range(line: &str) -> Option<Range<u64>> {
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    let addr = |digits| u64::from_str_radix(digits, 16).ok();
    Some(addr(start)?..addr(end)?)
}

fn to_vma(map: &MemoryMap) -> Vma {
    let kib = |key: &str| map.extension.map.get(key).copied().unwrap_or(0) / 1024;
    let flags = map.extension.vm_flags.iter_names();
    Vma {
        start: map.address.0,
        end: map.address.1,
        offset: map.offset,
        mode: map.perms.as_str(),
        device: format!("{:02x}:{:02x}", map.dev.0, map.dev.1),
        inode: map.inode,
        name: name(&map.pathname),
        flags: flags.map(|(name, _)| name.to_lowercase()).collect(),
        rss_kib: kib("Rss"),
        anonymous_kib: kib("Anonymous"),
        huge_kib: kib("AnonHugePages"),
        swap_kib: kib("Swap"),
    }
}

/// As `/proc/PID/maps` has it.
fn name(path: &MMapPath) -> String {
    match path {
        MMapPath::Anonymous => String::new(),
        MMapPath::Path(path) => path.display().to_string(),
        MMapPath::Vsys(key) => format!("/SYSV{key:08x} (deleted)"),
        MMapPath::Other(word) => format!("[{word}]"),
        word => format!("[{}]", format!("{word:?}").to_lowercase()),
    }
}

/// Memory that is promised, and how much may be; see `proc_meminfo(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the kernel has to give, in bytes.
    pub total: u64,
    /// Swap space, in bytes.
    pub swap: u64,
    /// `Committed_AS`: what has been promised, in bytes.
    pub committed: u64,
    /// `CommitLimit`: what may be promised in overcommit mode 2, in bytes.
    pub limit: u64,
}

/// What this process has read and written by system calls, see `proc_pid_io(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// Bytes that calls such as `read(2)` have brought.
    pub read: u64,
    /// Bytes that calls such as `write(2)` have taken.
    pub written: u64,
    /// Bytes that looking at these numbers brought; the next look counts them.
    look: u64,
}

impl Transferred {
    /// What has been added to `before`, without the look at the numbers.
    #[must_use]
    pub fn since(self, before: Self) -> (u64, u64) {
        let read = self.read.saturating_sub(before.read + before.look);
        (read, self.written.saturating_sub(before.written))
    }
}

const IO: &str = "/proc/self/io";

/// What this process has read and written by system calls so far.
///
/// # Errors
///
/// If `/proc/self/io` cannot be read.
pub fn transferred() -> Result<Transferred> {
    let text = std::fs::read_to_string(IO).map_err(Error::file("read", IO))?;
    let io = Io::from_read(text.as_bytes()).map_err(|error| Error::Garbled {
        what: IO.to_owned(),
        detail: error.to_string(),
    })?;
    Ok(Transferred {
        read: io.rchar,
        written: io.wchar,
        look: text.len() as u64,
    })
}

const MEMINFO: &str = "/proc/meminfo";
const STATUS: &str = "/proc/self/status";

/// The memory of this machine.
///
/// # Errors
///
/// If `/proc/meminfo` cannot be read.
pub fn memory() -> Result<Memory> {
    let memory: Meminfo = read(MEMINFO)?;
    Ok(Memory {
        total: memory.mem_total,
        swap: memory.swap_total,
        committed: memory.committed_as,
        limit: memory.commit_limit.unwrap_or(0),
    })
}

/// `VmLck`: what this process has locked into memory, in KiB.
///
/// # Errors
///
/// If `/proc/self/status` cannot be read.
pub fn locked_kib() -> Result<u64> {
    let status: Status = read(STATUS)?;
    Ok(status.vmlck.unwrap_or(0))
}

/// `VmPTE`: what the page tables of this process occupy, in KiB.
///
/// # Errors
///
/// If `/proc/self/status` cannot be read.
pub fn page_table_kib() -> Result<u64> {
    let status: Status = read(STATUS)?;
    Ok(status.vmpte.unwrap_or(0))
}

/// Watches another process until it sleeps in a system call, see `proc_pid_stat(5)`; `false` if it does not
/// in time.
///
/// # Errors
///
/// If it is gone.
pub fn falls_asleep(pid: Pid, timeout: Duration) -> Result<bool> {
    let path = format!("/proc/{pid}/stat");
    let deadline = Instant::now() + timeout;
    while Instant::now() < deadline {
        let stat = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        // The name, in parentheses, may hold anything.
        let state = stat.rsplit(')').next().map(str::trim_start);
        if state.is_some_and(|state| state.starts_with('S')) {
            return Ok(true);
        }
        std::thread::yield_now();
    }
    Ok(false)
}

/// Waits until a process sleeps in the call of this number, see `proc_pid_syscall(5)`; `false` if it ended instead.
///
/// # Errors
///
/// If neither happens in time.
pub fn sleeps_in_call(pid: Pid, number: libc::c_long, timeout: Duration) -> Result<bool> {
    let path = format!("/proc/{pid}/syscall");
    let number = number.to_string();
    let deadline = Instant::now() + timeout;
    while Instant::now() < deadline {
        // Of a process that has ended it cannot be read, or has -1.
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        match text.split_whitespace().next() {
            Some(call) if call == number => return Ok(true),
            None | Some("-1") => return Ok(false),
            Some(_) => std::thread::yield_now(),
        }
    }
    Err(Error::Deadline {
        what: format!("process {pid} to sleep or end"),
        timeout,
    })
}

fn read<T: FromBufRead>(path: &str) -> Result<T> {
    let file = File::open(path).map_err(Error::file("open", path))?;
    parse(BufReader::new(file), path)
}

fn parse<T: FromBufRead>(text: impl BufRead, path: &str) -> Result<T> {
    T::from_buf_read(text).map_err(|error| Error::Garbled {
        what: path.to_owned(),
        detail: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taken from a guest: a private mapping of the device after the first store, and its neighbours.
    const SAVED: &str = include_str!("../tests/data/smaps-private-device");

    #[test]
    fn the_vma_around_an_address_is_found_with_its_flags() {
        let vma_around = |addr| {
            let text = paragraph(SAVED.as_bytes(), addr).unwrap();
            let maps = MemoryMaps::from_buf_read(text.as_bytes()).unwrap();
            assert!(maps.len() <= 1, "{text}");
            maps.into_iter().next().map(|map| to_vma(&map))
        };
        let vma = vma_around(0x7f2a_1c00_07b0).unwrap();
        assert_eq!((vma.start, vma.end), (0x7f2a_1c00_0000, 0x7f2a_1c00_1000));
        assert_eq!(vma.flags, ["rd", "wr", "mr", "mw", "me", "de", "ac", "mm"]);
        assert_eq!((vma.rss_kib, vma.anonymous_kib), (4, 4));
        assert_eq!((vma.mode.as_str(), vma.device.as_str()), ("rw-p", "00:06"));
        assert_eq!(vma_around(0x1000), None);
        assert!(paragraph("Rss: 4 kB\n".as_bytes(), 0x1000).is_err());
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
