//! Kcore: the kernel's own memory as `/proc/kcore` shows it to root, see `proc_kcore(5)` and `elf(5)`.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};

const KCORE: &str = "/proc/kcore";
/// Enough for the headers of the segments of a small machine.
const HEADERS: usize = 64 * 1024;
const PT_LOAD: u64 = 1;

/// A range of the kernel's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    /// Where it is in the file.
    offset: u64,
    /// The kernel's address of it.
    addr: u64,
    /// The physical address of it; all ones if it is not contiguous memory.
    physical: u64,
    len: u64,
}

/// The kernel's own address of a physical one, in the direct map.
///
/// # Errors
///
/// If `/proc/kcore` cannot be read or does not show that memory.
pub fn address_of(physical: u64) -> Result<u64> {
    let (segment, inside) = find(physical)?;
    Ok(segment.addr + inside)
}

/// Bytes of physical memory, read at the kernel's own address.
///
/// # Errors
///
/// As [`address_of`].
pub fn read(physical: u64, len: usize) -> Result<Vec<u8>> {
    let (segment, inside) = find(physical)?;
    fetch(segment.offset + inside, len)
}

/// Bytes at one of the kernel's own addresses.
///
/// # Errors
///
/// If `/proc/kcore` cannot be read or does not show that address.
pub fn read_at(addr: u64, len: usize) -> Result<Vec<u8>> {
    let (segment, inside) = around(addr, |segment| segment.addr)
        .and_then(|found| found.ok_or_else(|| unknown("address", addr)))?;
    fetch(segment.offset + inside, len)
}

/// The 64-bit word at a physical address.
///
/// # Errors
///
/// As [`read`].
pub fn word(physical: u64) -> Result<u64> {
    Ok(number(&read(physical, size_of::<u64>())?))
}

/// The 64-bit word at one of the kernel's own addresses.
///
/// # Errors
///
/// As [`read_at`].
pub fn word_at(addr: u64) -> Result<u64> {
    Ok(number(&read_at(addr, size_of::<u64>())?))
}

fn number(bytes: &[u8]) -> u64 {
    let digits = bytes.iter().rev();
    digits.fold(0, |high, byte| high << 8 | u64::from(*byte))
}

fn fetch(offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let file = File::open(KCORE).map_err(Error::file("open", KCORE))?;
    let read = file.read_exact_at(&mut bytes, offset);
    read.map_err(Error::file("read", KCORE))?;
    Ok(bytes)
}

fn find(physical: u64) -> Result<(Segment, u64)> {
    around(physical, |segment| segment.physical)?
        .ok_or_else(|| unknown("physical address", physical))
}

/// The segment that `number` lies in, counted from what `start` says of it, and how far inside.
fn around(number: u64, start: impl Fn(&Segment) -> u64) -> Result<Option<(Segment, u64)>> {
    let file = File::open(KCORE).map_err(Error::file("open", KCORE))?;
    let mut headers = vec![0; HEADERS];
    let len = file.read_at(&mut headers, 0);
    headers.truncate(len.map_err(Error::file("read", KCORE))?);
    let segments = parse(&headers).unwrap_or_default();
    Ok(segments.into_iter().find_map(|segment| {
        let inside = number.checked_sub(start(&segment))?;
        (inside < segment.len).then_some((segment, inside))
    }))
}

fn unknown(what: &str, number: u64) -> Error {
    Error::Garbled {
        what: KCORE.to_owned(),
        detail: format!("no segment has the {what} {number:#x}"),
    }
}

/// The segments of a 64-bit ELF file.
fn parse(bytes: &[u8]) -> Option<Vec<Segment>> {
    let number = |at: usize, len: usize| bytes.get(at..at + len).map(number);
    let position = |at, len| usize::try_from(number(at, len)?).ok();
    let (table, entry, nr_entries) = (position(0x20, 8)?, position(0x36, 2)?, position(0x38, 2)?);
    let mut segments = Vec::new();
    for nr in 0..nr_entries {
        let at = table + nr * entry;
        if number(at, 4)? == PT_LOAD {
            segments.push(Segment {
                offset: number(at + 8, 8)?,
                addr: number(at + 16, 8)?,
                physical: number(at + 24, 8)?,
                len: number(at + 32, 8)?,
            });
        }
    }
    bytes.starts_with(b"\x7fELF").then_some(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with a note and with one segment.
    fn made_up() -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..4].copy_from_slice(b"\x7fELF");
        bytes[0x20] = 64;
        bytes[0x36] = 56;
        bytes[0x38] = 2;
        for words in [
            [4, 0, 0, 0, 9, 9, 0],
            [1, 0x3000, 0xffff_8880_0000_1000, 0x1000, 0x2000, 0x2000, 0],
        ] {
            bytes.extend(words.into_iter().flat_map(u64::to_le_bytes));
        }
        bytes
    }

    #[test]
    fn segments_are_found_among_notes() {
        let segment = Segment {
            offset: 0x3000,
            addr: 0xffff_8880_0000_1000,
            physical: 0x1000,
            len: 0x2000,
        };
        assert_eq!(parse(&made_up()), Some(vec![segment]));
    }

    #[test]
    fn headers_that_are_cut_off_have_no_segments() {
        let mut bytes = made_up();
        bytes.truncate(100);
        assert_eq!(parse(&bytes), None);
        assert_eq!(parse(b"\x7fELF"), None);
    }
}
