//! Locking: which memory mlock keeps, and when it is refused.

use nix::sys::mman::MmapAdvise;
use nix::sys::resource::{Resource, setrlimit};

use super::note_map;
use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::{CallEnd, Evidence};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::procfs;
use crate::swapfile::SwapFile;
use crate::sys::{self, Mapping, PAGE_SIZE};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "mlock-one-byte",
        summary: "Locks one byte at an address that is not a multiple of a page.",
        run: mlock_one_byte,
    },
    Experiment {
        name: "mlock-two-bytes",
        summary: "Locks the last byte of the first and the first byte of the second of three pages that were never \
                  touched; looks which are in memory then.",
        run: mlock_two_bytes,
    },
    Experiment {
        name: "mlock-refusals",
        summary: "A child without privileges locks less and more than RLIMIT_MEMLOCK allows, memory that is not \
                  mapped, and anything at all when the limit is 0. One with privileges does the same.",
        run: mlock_refusals,
    },
    Experiment {
        name: "mlock-against-swap",
        summary: "Turns a swap file on, asks the kernel by MADV_PAGEOUT to move two MiB there, one of them locked, \
                  and looks what has gone. Locks the device and looks whether that counts.",
        run: mlock_against_swap,
    },
];

/// The limit of the children, in bytes.
pub(super) const MEMLOCK: u64 = 64 * 1024;

fn mlock_one_byte(_fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let mapping = pages(2)?;
    let before = procfs::locked_kib()?;
    evidence.note("uneven.mlock", sys::lock(mapping.addr() + 100, 1));
    evidence.note("uneven.locked-kib", procfs::locked_kib()? - before);
    Ok(evidence)
}

fn mlock_two_bytes(_fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let mapping = pages(3)?;
    let before = procfs::locked_kib()?;
    evidence.note("before.present", procfs::present(&mapping)?);
    let end_of_first = mapping.addr() + PAGE_SIZE - 1;
    evidence.note("two-bytes.mlock", sys::lock(end_of_first, 2));
    evidence.note("two-bytes.locked-kib", procfs::locked_kib()? - before);
    let present = procfs::pages(mapping.addr(), 3)?;
    for (page, name) in present.iter().zip(["first", "second", "third"]) {
        evidence.note(format!("{name}-page.present"), page.pfn.is_some());
    }
    Ok(evidence)
}

fn pages(nr_pages: usize) -> Result<Mapping> {
    let len = nr_pages * PAGE_SIZE;
    Request::anonymous(libc::MAP_PRIVATE).len(len).map()
}

/// Limits what this child may lock.
pub(super) fn limit_locking(limit: u64) -> Result<()> {
    setrlimit(Resource::RLIMIT_MEMLOCK, limit, limit)
        .map_err(Error::call("setrlimit(RLIMIT_MEMLOCK)", "a child"))
}

fn mlock_refusals(_fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = errand::run_as_nobody("who may lock little", || {
        let mut evidence = Evidence::new();
        limit_locking(MEMLOCK)?;
        let (little, much) = (pages(4)?, pages(64)?);
        evidence.note("little.mlock", little.lock());
        evidence.note("much.mlock", much.lock());
        let flags = libc::MAP_PRIVATE | libc::MAP_LOCKED;
        let mapped = Request::anonymous(flags).len(much.len()).try_map()?;
        note_map(&mut evidence, "much", mapped);
        let free = much.addr();
        let unmapped = much.unmap();
        unmapped.map_err(Error::call("munmap()", "64 pages"))?;
        evidence.note("unmapped.mlock", sys::lock(free, PAGE_SIZE));
        limit_locking(0)?;
        evidence.note("forbidden.mlock", pages(1)?.lock());
        Ok(evidence)
    })?;
    let privileged = errand::run("who may lock all", || {
        limit_locking(0)?;
        let end: CallEnd = pages(64)?.lock().into();
        Ok(end)
    })?;
    evidence.note("privileged.mlock", privileged);
    Ok(evidence)
}

fn mlock_against_swap(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let nr_pages = 256;
    let swap = SwapFile::new(&fixture.disk()?.dir, 4 * nr_pages * PAGE_SIZE)?;
    for who in ["unlocked", "locked"] {
        let mut mapping = pages(nr_pages)?;
        let plain = mapping.advise(MmapAdvise::MADV_NOHUGEPAGE);
        plain.map_err(Error::call("madvise(MADV_NOHUGEPAGE)", who))?;
        mapping.store_pages(1)?;
        if who == "locked" {
            evidence.note("locked.mlock", mapping.lock());
        }
        evidence.note(
            format!("{who}.pageout"),
            mapping.advise(MmapAdvise::MADV_PAGEOUT),
        );
        evidence.note(format!("{who}.present"), procfs::present(&mapping)?);
        if let Some(vma) = procfs::vma(mapping.addr())? {
            evidence.note(format!("{who}.swapped-kib"), vma.swap_kib);
        }
    }
    swap.off()?;
    let device = fixture.device.map_shared()?;
    let before = procfs::locked_kib()?;
    evidence.note("device.mlock", device.lock());
    evidence.note("device.locked-kib", procfs::locked_kib()? - before);
    if let Some(vma) = procfs::vma(device.addr())? {
        evidence.note("device.flags", vma.flags);
    }
    Ok(evidence)
}
