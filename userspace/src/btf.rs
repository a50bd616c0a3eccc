//! BTF: the structures of the running kernel, as it describes them itself; see `Documentation/bpf/btf.rst`.

use std::fs;
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// Where the kernel puts the description of its own types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u32 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// What each type begins with: name, kind with the number of parts, and size or another type.
const HEAD: usize = 12;
/// A member: name, type, offset.
const MEMBER: usize = 12;
/// Of a structure with bit fields, whose members' offsets have the field's length in the upper bits.
const HAS_BITFIELDS: u32 = 1 << 31;
const BIT_OFFSET: u32 = 0xff_ffff;

/// All types of a kernel.
#[derive(Debug)]
pub struct Types {
    bytes: Vec<u8>,
    /// Where each type begins in `bytes`; the type of number 1 comes first.
    starts: Vec<usize>,
    /// Where the names begin.
    names: usize,
}

impl Types {
    /// The running kernel's, which are read once.
    ///
    /// # Errors
    ///
    /// If it does not describe them.
    pub fn of_the_kernel() -> Result<&'static Self> {
        static TYPES: OnceLock<Types> = OnceLock::new();
        if let Some(types) = TYPES.get() {
            return Ok(types);
        }
        let types = Self::read()?;
        Ok(TYPES.get_or_init(|| types))
    }

    fn read() -> Result<Self> {
        let bytes = fs::read(VMLINUX).map_err(Error::file("read", VMLINUX))?;
        Self::parse(bytes).ok_or_else(|| Error::Garbled {
            what: VMLINUX.to_owned(),
            detail: "it is not in the form of btf.rst".to_owned(),
        })
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let word = |at| word(&bytes, at);
        let header = word(4)? as usize;
        let (types, len) = (header + word(8)? as usize, word(12)? as usize);
        let names = header + word(16)? as usize;
        let mut starts = Vec::new();
        let mut at = types;
        while at < types + len {
            starts.push(at);
            let info = word(at + 4)?;
            at += HEAD + extra(info)?;
        }
        let whole = word(0)? & 0xffff == MAGIC && at == types + len;
        whole.then_some(Self {
            bytes,
            starts,
            names,
        })
    }

    /// The names of a structure's members in order, those of nameless structures inside it among them; `None`
    /// if the kernel has no such structure.
    #[must_use]
    pub fn members(&self, structure: &str) -> Option<Vec<String>> {
        let members = self.layout(structure)?.into_iter();
        Some(members.map(|(name, _)| name).collect())
    }

    /// Where a member of a structure begins, in bytes; `None` if the kernel has none of this name, or if it
    /// does not begin with a byte.
    #[must_use]
    pub fn offset(&self, structure: &str, member: &str) -> Option<u64> {
        let members = self.layout(structure)?;
        let (_, bits) = members.into_iter().find(|(name, _)| name == member)?;
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// Where a member that this kernel is known to have begins in its structure, in bytes.
    ///
    /// # Errors
    ///
    /// If it has none of this name.
    pub fn place(&self, structure: &str, member: &str) -> Result<u64> {
        self.offset(structure, member)
            .ok_or_else(|| Error::Garbled {
                what: format!("struct {structure} of this kernel"),
                detail: format!("it has no {member}"),
            })
    }

    /// The length of a structure, in bytes.
    #[must_use]
    pub fn len(&self, structure: &str) -> Option<u64> {
        self.word(self.find(structure)? + 8).map(u64::from)
    }

    fn find(&self, structure: &str) -> Option<usize> {
        self.starts.iter().copied().find(|start| {
            self.kind(*start) == Some(STRUCT) && self.name(*start) == Some(structure.as_bytes())
        })
    }

    /// Names and offsets, in bits, of a structure's members.
    fn layout(&self, structure: &str) -> Option<Vec<(String, u64)>> {
        let mut members = Vec::new();
        self.collect(self.find(structure)?, 0, &mut members)?;
        Some(members)
    }

    fn collect(&self, start: usize, at: u64, members: &mut Vec<(String, u64)>) -> Option<()> {
        let info = self.word(start + 4)?;
        for nr in 0..(info & 0xffff) as usize {
            let member = start + HEAD + nr * MEMBER;
            let name = self.name(member)?;
            let mut offset = self.word(member + 8)?;
            if info & HAS_BITFIELDS != 0 {
                offset &= BIT_OFFSET;
            }
            let offset = at + u64::from(offset);
            if !name.is_empty() {
                members.push((String::from_utf8_lossy(name).into_owned(), offset));
                continue;
            }
            let number = self.word(member + 4)? as usize;
            let inner = *self.starts.get(number.checked_sub(1)?)?;
            if matches!(self.kind(inner)?, STRUCT | UNION) {
                self.collect(inner, offset, members)?;
            }
        }
        Some(())
    }

    fn kind(&self, start: usize) -> Option<u32> {
        Some(kind(self.word(start + 4)?))
    }

    /// What the word at `at` names.
    fn name(&self, at: usize) -> Option<&[u8]> {
        let start = self.names + self.word(at)? as usize;
        self.bytes.get(start..)?.split(|byte| *byte == 0).next()
    }

    fn word(&self, at: usize) -> Option<u32> {
        word(&self.bytes, at)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(word))
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// How many bytes come after the head of a type.
fn extra(info: u32) -> Option<usize> {
    let nr_parts = (info & 0xffff) as usize;
    Some(match kind(info) {
        // An integer, a variable, a tag.
        1 | 14 | 17 => 4,
        // An array.
        3 => 12,
        // Structures and unions, sections, 64-bit enumerations.
        STRUCT | UNION | 15 | 19 => nr_parts * 12,
        // Enumerations and the parameters of functions.
        6 | 13 => nr_parts * 8,
        // What only refers to another type, or has nothing inside.
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct area { int start; struct { int end; }; }`.
    fn made_up() -> Vec<u8> {
        let names = b"\0int\0area\0start\0end\0";
        let integer = [1, 1 << 24, 4, 32];
        let inner = [0, STRUCT << 24 | 1, 4, 16, 1, 0];
        let outer = [5, STRUCT << 24 | 2, 8, 10, 1, 0, 0, 2, 32];
        let types: Vec<u32> = [&integer[..], &inner[..], &outer[..]].concat();
        let len = u32::try_from(types.len() * 4).unwrap();
        let names_len = u32::try_from(names.len()).unwrap();
        let header = [MAGIC | 1 << 16, 24, 0, len, len, names_len];
        let words = header.into_iter().chain(types);
        let mut bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        bytes.extend(names);
        bytes
    }

    #[test]
    fn members_of_nameless_structures_count_as_members() {
        let types = Types::parse(made_up()).unwrap();
        assert_eq!(types.members("area").unwrap(), ["start", "end"]);
        assert_eq!(types.members("int"), None);
        assert_eq!(types.members("no_such_struct"), None);
    }

    #[test]
    fn members_lie_where_the_description_says() {
        let types = Types::parse(made_up()).unwrap();
        assert_eq!(types.offset("area", "start"), Some(0));
        assert_eq!(types.offset("area", "end"), Some(4));
        assert_eq!(types.offset("area", "middle"), None);
        assert_eq!(types.len("area"), Some(8));
    }

    #[test]
    fn what_is_cut_off_or_something_else_is_refused() {
        let mut bytes = made_up();
        bytes.truncate(40);
        assert!(Types::parse(bytes).is_none());
        assert!(Types::parse(vec![0; 64]).is_none());
        assert!(Types::parse(Vec::new()).is_none());
    }
}
