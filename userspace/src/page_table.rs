//! Page table: a process's entries as the processor reads them, taken from the kernel's memory.
//!
//! `/proc/PID/pagemap` says which frame an address leads to, and nothing of a page that the kernel does not count, as
//! `remap_pfn_range()` maps them; whether it may be written to it says of none. The table itself says it all.

use std::fs;
use std::sync::OnceLock;

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::btf::Types;
use crate::error::{Error, Result};
use crate::kcore;
use crate::kernel_symbols;
use crate::sys::PAGE_SIZE;

/// An entry of the lowest level, or of a higher one that maps a huge page; Intel SDM vol. 3, "4-Level Paging".
#[expect(clippy::struct_excessive_bools, reason = "bits of a machine word")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The word itself.
    #[serde(with = "hexadecimal")]
    pub raw: u64,
    /// Whether the processor uses it; an access faults otherwise.
    pub present: bool,
    /// Whether a store needs no fault.
    pub writable: bool,
    /// Whether there was a store through it since it was last cleaned.
    pub dirty: bool,
    /// Whether it was used since it was last made old.
    pub accessed: bool,
    /// Whether instructions may be fetched through it.
    pub executable: bool,
    /// Whether the kernel keeps no account of the page behind it (`pte_special()`).
    pub special: bool,
    /// Whether it maps a huge page.
    pub huge: bool,
    /// The number of the frame, if it is present.
    pub pfn: u64,
}

/// A word in JSON: text, as many programs that read JSON have numbers of 53 bits only.
mod hexadecimal {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    pub(super) fn serialize<S: Serializer>(word: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{word:#018x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        u64::from_str_radix(text.trim_start_matches("0x"), 16).map_err(D::Error::custom)
    }
}

/// The page table of one process.
#[derive(Clone, Copy, Debug)]
pub struct PageTable {
    /// The kernel's address of its highest level.
    root: u64,
    levels: u32,
}

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const HUGE: u64 = 1 << 7;
/// A bit that the processor leaves to the kernel, `_PAGE_BIT_SPECIAL` of `arch/x86/include/asm/pgtable_types.h`, 7.3.
const SPECIAL: u64 = 1 << 9;
const NOT_EXECUTABLE: u64 = 1 << 63;
/// Where the frame's address is in an entry.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Each level resolves so many bits of an address.
const BITS: u32 = 9;
const PAGE_BITS: u32 = PAGE_SIZE.trailing_zeros();

impl PageTable {
    /// The table of this process.
    ///
    /// # Errors
    ///
    /// If there is no such process, or the kernel's memory cannot be read.
    pub fn of(pid: Pid) -> Result<Self> {
        let types = Types::of_the_kernel()?;
        let mm = kcore::word_at(task(pid)? + types.place("task_struct", "mm")?)?;
        Ok(Self {
            root: kcore::word_at(mm + types.place("mm_struct", "pgd")?)?,
            levels: levels()?,
        })
    }

    /// The entry for `addr`; all zero where the table has none.
    ///
    /// # Errors
    ///
    /// If the kernel's memory cannot be read.
    pub fn entry(&self, addr: u64) -> Result<Entry> {
        let mut table = None;
        for level in (0..self.levels).rev() {
            let index = addr >> (PAGE_BITS + BITS * level) & ((1 << BITS) - 1);
            let at = index * size_of::<u64>() as u64;
            let raw = match table {
                None => kcore::word_at(self.root + at)?,
                Some(physical) => kcore::word(physical + at)?,
            };
            let is_last = level == 0 || (raw & HUGE != 0 && level <= 2);
            if is_last || raw & PRESENT == 0 {
                return Ok(Entry::of(raw, level, addr));
            }
            table = Some(raw & FRAME);
        }
        Ok(Entry::default())
    }
}

impl Entry {
    fn of(raw: u64, level: u32, addr: u64) -> Self {
        let is = |bit| raw & bit != 0;
        if !is(PRESENT) {
            // What else is in it is the kernel's: where in swap the page is, for example.
            return Self {
                raw,
                ..Self::default()
            };
        }
        // Inside a huge page, whose own address has low bits of other meanings.
        let inside = (addr >> PAGE_BITS) & ((1 << (BITS * level)) - 1);
        let first = ((raw & FRAME) >> PAGE_BITS) & !((1 << (BITS * level)) - 1);
        Self {
            raw,
            present: true,
            writable: is(WRITABLE),
            dirty: is(DIRTY),
            accessed: is(ACCESSED),
            executable: !is(NOT_EXECUTABLE),
            special: level == 0 && is(SPECIAL),
            huge: level > 0,
            pfn: first + inside,
        }
    }
}

/// The kernel's address of a process's `struct task_struct`.
fn task(pid: Pid) -> Result<u64> {
    /// More than a guest of ours has; a list that was changed meanwhile may be a circle without a begin.
    const MOST: usize = 10_000;
    let types = Types::of_the_kernel()?;
    let list = types.place("task_struct", "tasks")?;
    let id = types.place("task_struct", "pid")?;
    let first = kernel_symbols::address("init_task")?;
    let mut task = first;
    for _ in 0..MOST {
        let bytes = kcore::read_at(task + id, size_of::<i32>())?;
        if bytes == pid.as_raw().to_ne_bytes() {
            return Ok(task);
        }
        task = kcore::word_at(task + list)?.wrapping_sub(list);
        if task == first {
            break;
        }
    }
    Err(Error::Gone {
        who: format!("process {pid}"),
        what: "its page table was looked for".to_owned(),
    })
}

/// 4, or 5 where addresses have 57 bits; `Documentation/arch/x86/x86_64/5level-paging.rst`.
fn levels() -> Result<u32> {
    const CPUINFO: &str = "/proc/cpuinfo";
    static LEVELS: OnceLock<u32> = OnceLock::new();
    if let Some(levels) = LEVELS.get() {
        return Ok(*levels);
    }
    let text = fs::read_to_string(CPUINFO).map_err(Error::file("read", CPUINFO))?;
    let five = text.split_whitespace().any(|word| word == "la57");
    Ok(*LEVELS.get_or_init(|| if five { 5 } else { 4 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_an_entry_have_names() {
        let entry = Entry::of(0x8000_0000_1234_5067, 0, 0);
        assert!(entry.present && entry.writable && entry.dirty && entry.accessed);
        assert!(!entry.executable && !entry.special && !entry.huge);
        assert_eq!(entry.pfn, 0x12345);
        let readonly = Entry::of(0x1234_5225, 0, 0);
        assert!(readonly.present && !readonly.writable && readonly.executable && readonly.special);
    }

    #[test]
    fn what_is_not_present_has_no_frame() {
        let entry = Entry::of(0x1234_5066, 0, 0);
        assert_eq!(
            (entry.present, entry.pfn, entry.raw),
            (false, 0, 0x1234_5066)
        );
    }

    #[test]
    fn an_address_inside_a_huge_page_has_a_frame_of_its_own() {
        let entry = Entry::of(0x0040_00e7 | 1 << 12, 1, 0x7f00_0000_3000);
        assert_eq!((entry.pfn, entry.huge), (0x403, true));
    }
}
