//! Pages: what anonymous memory holds before anything is stored, and when it takes memory.

use nix::sys::mman::MmapAdvise;

use crate::error::{Error, Result};
use crate::evidence::{Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "zero-filled",
        summary: "Fills 16 pages, gives them back, and looks for bytes that are not zero in 16 new ones. Then looks \
                  at the frames of two pages that were only read, and of one of them once it is stored to.",
        run: zero_filled,
    },
    Experiment {
        name: "memory-of-a-mapping",
        summary: "Looks at the resident memory of an anonymous mapping of 8 MiB when it is new, after all of it was \
                  read, and after all of it was stored to; and maps 1 TiB.",
        run: memory_of_a_mapping,
    },
];

/// Anonymous memory of a mapping of its own, in pages of the small size.
fn memory(len: usize) -> Result<Mapping> {
    let mut memory = Request::anonymous(libc::MAP_PRIVATE).len(len).map()?;
    memory
        .advise(MmapAdvise::MADV_NOHUGEPAGE)
        .map_err(Error::call("madvise(MADV_NOHUGEPAGE)", "anonymous memory"))?;
    Ok(memory)
}

fn frame(mapping: &Mapping, offset: usize) -> Result<Value> {
    Ok(Value::Pfn(procfs::page(mapping.addr() + offset)?.pfn))
}

fn zero_filled(_: &Fixture) -> Result<Evidence> {
    const LEN: usize = 16 * PAGE_SIZE;
    let mut evidence = Evidence::new();
    let nonzero = |memory: &Mapping| -> Result<u64> {
        let bytes = memory.load_bytes(0, LEN)?;
        Ok(bytes.iter().filter(|byte| **byte != 0).count() as u64)
    };
    let dirty = memory(LEN)?;
    dirty.store_bytes(0, &vec![0xff; LEN])?;
    evidence.note("dirty.nonzero", nonzero(&dirty)?);
    drop(dirty);
    let fresh = memory(LEN)?;
    // By stores, so that each page is given a frame, likely one of those just given back.
    fresh.store_pages(0)?;
    evidence.note("fresh.present", procfs::present(&fresh)?);
    evidence.note("fresh.nonzero", nonzero(&fresh)?);
    drop(fresh);

    let read = memory(2 * PAGE_SIZE)?;
    read.load_pages()?;
    evidence.note("read.first-pfn", frame(&read, 0)?);
    evidence.note("read.second-pfn", frame(&read, PAGE_SIZE)?);
    evidence.note("read.kib", kib(&read)?);
    read.store(0, 1)?;
    evidence.note("stored.first-pfn", frame(&read, 0)?);
    evidence.note("stored.kib", kib(&read)?);
    Ok(evidence)
}

/// Its resident memory.
fn kib(mapping: &Mapping) -> Result<u64> {
    Ok(procfs::vma(mapping.addr())?.map_or(0, |vma| vma.rss_kib))
}

fn memory_of_a_mapping(_: &Fixture) -> Result<Evidence> {
    const LEN: usize = 8 << 20;
    const HUGE: usize = 1 << 40;
    let mut evidence = Evidence::new();
    let mapping = memory(LEN)?;
    evidence.note("mapping.kib", LEN as u64 / 1024);
    evidence.note("mapped.kib", kib(&mapping)?);
    mapping.load_pages()?;
    evidence.note("loaded.kib", kib(&mapping)?);
    mapping.store_pages(1)?;
    evidence.note("stored.kib", kib(&mapping)?);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let huge = Request::anonymous(0).flags(flags).len(HUGE).try_map()?;
    evidence.note("huge.call", huge);
    evidence.note("huge.mib", HUGE as u64 >> 20);
    evidence.note("machine.mib", procfs::memory()?.total >> 20);
    Ok(evidence)
}
