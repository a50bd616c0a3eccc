//! Experiments on calls: what they take, and what they refuse.

use nix::errno::Errno;

use crate::error::Result;
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::procfs;
use crate::sys::Mapping;

mod arguments;
mod descriptor;
mod locking;
mod permission;
mod protection;
mod refusal;
mod scarcity;
mod swapfile;
mod unmapping;
mod writing;

pub(super) const FAMILY: &[&[Experiment]] = &[
    arguments::ALL,
    descriptor::ALL,
    unmapping::ALL,
    protection::ALL,
    writing::ALL,
    locking::ALL,
    refusal::ALL,
    permission::ALL,
    scarcity::ALL,
    swapfile::ALL,
];

/// Notes how an `mmap(2)` ended, as `who.map`, and passes the mapping on.
fn note_map(evidence: &mut Evidence, who: &str, mapped: Result<Mapping, Errno>) -> Option<Mapping> {
    let end = mapped.as_ref().map_err(|errno| *errno);
    evidence.note(format!("{who}.map"), end);
    mapped.ok()
}

/// The length of the VMA around `addr` in bytes; 0 if there is none.
fn extent(addr: usize) -> Result<u64> {
    Ok(procfs::vma(addr)?.map_or(0, |vma| vma.end - vma.start))
}
