//! Map call: the arguments of an `mmap(2)`.

use std::fmt;

use nix::sys::mman::ProtFlags;

/// The arguments of `mmap(2)` except the address and the file descriptor; `flags` is raw, because illegal
/// ones are tried.
#[derive(Clone, Copy, Debug)]
pub struct MapCall {
    /// Length in bytes.
    pub len: usize,
    /// `PROT_*`.
    pub prot: ProtFlags,
    /// `MAP_*`.
    pub flags: i32,
    /// Offset in bytes.
    pub offset: i64,
}

impl MapCall {
    /// Whether the flags make the kernel map at exactly the address given, even at address 0.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE) != 0
    }
}

/// The flags that have names here, by their bits.
const FLAGS: [(i32, &str); 11] = [
    (libc::MAP_SHARED, "MAP_SHARED"),
    (libc::MAP_PRIVATE, "MAP_PRIVATE"),
    (libc::MAP_FIXED, "MAP_FIXED"),
    (libc::MAP_ANONYMOUS, "MAP_ANONYMOUS"),
    (libc::MAP_GROWSDOWN, "MAP_GROWSDOWN"),
    (libc::MAP_LOCKED, "MAP_LOCKED"),
    (libc::MAP_NORESERVE, "MAP_NORESERVE"),
    (libc::MAP_POPULATE, "MAP_POPULATE"),
    (libc::MAP_NONBLOCK, "MAP_NONBLOCK"),
    (libc::MAP_HUGETLB, "MAP_HUGETLB"),
    (libc::MAP_FIXED_NOREPLACE, "MAP_FIXED_NOREPLACE"),
];

/// As a C program has it; an address that is not given is `NULL`.
impl fmt::Display for MapCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            len,
            prot,
            flags,
            offset,
        } = self;
        let addr = if self.is_fixed() { "addr" } else { "NULL" };
        let fd = if flags & libc::MAP_ANONYMOUS == 0 {
            "fd"
        } else {
            "-1"
        };
        let prot: Vec<_> = prot.iter_names().map(|(name, _)| name).collect();
        let prot = if prot.is_empty() {
            "PROT_NONE".to_owned()
        } else {
            prot.join("|")
        };
        let known = FLAGS.iter().filter(|(bit, _)| flags & bit != 0);
        let mut words: Vec<_> = known.clone().map(|(_, name)| (*name).to_owned()).collect();
        let rest = known.fold(*flags, |rest, (bit, _)| rest & !bit);
        if rest != 0 || words.is_empty() {
            words.push(format!("{rest:#x}"));
        }
        let flags = words.join("|");
        write!(f, "mmap({addr}, {len}, {prot}, {flags}, {fd}, {offset})")
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::sys::{Mapping, PAGE_SIZE};

    #[test]
    fn a_new_mapping_takes_no_fixed_address() {
        for fixed in [libc::MAP_FIXED, libc::MAP_FIXED_NOREPLACE] {
            let call = MapCall {
                len: PAGE_SIZE,
                prot: ProtFlags::PROT_READ,
                flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | fixed,
                offset: 0,
            };
            assert_eq!(Mapping::new(call, None).unwrap_err(), Errno::ENOTSUP);
        }
    }

    #[test]
    fn a_call_reads_as_in_a_program() {
        let call = |flags, prot| MapCall {
            len: 4096,
            prot,
            flags,
            offset: 0,
        };
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        assert_eq!(
            call(libc::MAP_SHARED | 1 << 24, both).to_string(),
            "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED|0x1000000, fd, 0)"
        );
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        assert_eq!(
            call(anonymous, ProtFlags::PROT_NONE).to_string(),
            "mmap(addr, 4096, PROT_NONE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)"
        );
    }
}
