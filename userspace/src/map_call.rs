//! Map call: the arguments of an `mmap(2)`.

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
}
