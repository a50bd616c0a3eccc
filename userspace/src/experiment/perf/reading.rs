//! Reading and touching a file that is in memory, in instructions.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use super::messages;
use crate::cost;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::faults;
use crate::fixture::Fixture;
use crate::object::{MemFile, Mode, Request, open};
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "reading-cost",
        summary: "Counts the instructions of getting scattered bytes of a cached file of 1 MiB by pread(2), and \
                  of ten times as many by loads from a mapping that is in place; of getting all of it once by \
                  read(2) and by a new mapping; of getting one page by each, opening included; and of handing over \
                  messages of 8 bytes to 64 KiB by a mapping, a file, a pipe and a pair of sockets.",
        run: reading_cost,
    },
    Experiment {
        name: "touching-cost",
        summary: "Stores to each of the 1024 pages of a cached file that has just been mapped, and again: counts \
                  the faults, the page tables and the instructions of the first time, and the instructions of \
                  ten more.",
        run: touching_cost,
    },
];

const LEN: usize = 256 * PAGE_SIZE;
const READS: usize = 100;
/// As `cp` and others read.
const CHUNK: usize = 16 * PAGE_SIZE;

/// Offsets that follow each other in no order: a linear congruential generator (Knuth's MMIX).
pub(super) fn scattered(number: usize, len: usize) -> impl Iterator<Item = usize> {
    let next = |state: &u64| {
        let product = state.wrapping_mul(6_364_136_223_846_793_005);
        Some(product.wrapping_add(1_442_695_040_888_963_407))
    };
    let states = std::iter::successors(Some(1), next);
    let offset = move |state: u64| (state >> 33) as usize % len.max(1);
    states.skip(1).take(number).map(offset)
}

fn reading_cost(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let file = MemFile::filled(LEN)?;
    let unreadable = || Error::file("read", file.path());
    evidence.note("scattered.reads", READS as u64);
    let preads = cost::warm(|| {
        scattered(READS, LEN).try_for_each(|offset| {
            let read = file.file().read_exact_at(&mut [0], offset as u64);
            read.map_err(unreadable())
        })
    })?;
    evidence.note("scattered.pread-instructions", preads);
    let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    let mapped = Request::shared(file.path()).len(LEN).flags(flags).map()?;
    let loads = cost::warm(|| {
        scattered(10 * READS, LEN).try_for_each(|offset| mapped.load(offset).map(drop))
    })?;
    evidence.note("scattered.tenfold-load-instructions", loads);

    let buffer = Request::anonymous(libc::MAP_PRIVATE | libc::MAP_POPULATE)
        .len(CHUNK)
        .map()?;
    let all_read = cost::warm(|| read_all(&file, &buffer))?;
    evidence.note("whole.read-instructions", all_read);
    let request = Request::shared(file.path()).len(LEN);
    let all_mapped = cost::warm(|| request.map()?.load_pages())?;
    evidence.note("whole.map-instructions", all_mapped);
    let tenfold = cost::warm(|| (0..10).try_for_each(|_| request.map()?.load_pages()))?;
    evidence.note("whole.tenfold-map-instructions", tenfold);

    let once_read = cost::warm(|| {
        let file = open(file.path(), Mode::ReadOnly)?;
        let read = buffer.read_from(file.as_fd(), 0, PAGE_SIZE);
        read.map(drop).map_err(Error::call("read()", "a file"))
    })?;
    evidence.note("page.read-instructions", once_read);
    let once = Request::shared(file.path());
    let once_mapped = cost::warm(|| once.map()?.load(0).map(drop))?;
    evidence.note("page.map-instructions", once_mapped);
    messages::note_costs(&mut evidence)?;
    Ok(evidence)
}

fn read_all(file: &MemFile, buffer: &Mapping) -> Result<()> {
    let file = open(file.path(), Mode::ReadOnly)?;
    for _ in 0..LEN / CHUNK {
        let read = buffer.read_from(file.as_fd(), 0, CHUNK);
        read.map_err(Error::call("read()", "a file"))?;
    }
    Ok(())
}

fn touching_cost(_: &Fixture) -> Result<Evidence> {
    const NR_PAGES: usize = 1024;
    let mut evidence = Evidence::new();
    let file = MemFile::filled(NR_PAGES * PAGE_SIZE)?;
    let request = Request::shared(file.path()).len(NR_PAGES * PAGE_SIZE);
    evidence.note("touched.pages", NR_PAGES as u64);
    let counted = request.map()?;
    let store = |mapping: &Mapping| mapping.store_pages(2);
    evidence.note("first.faults", faults::count(&counted, store)?.1);
    evidence.note("second.faults", faults::count(&counted, store)?.1);
    drop(counted);

    let mapping = request.map()?;
    evidence.note("mapped.table-kib", procfs::page_table_kib()?);
    let ((), first) = cost::of(|| store(&mapping))?;
    evidence.note("touched.table-kib", procfs::page_table_kib()?);
    evidence.note("first.instructions", first);
    let ((), more) = cost::of(|| (0..10).try_for_each(|_| store(&mapping)))?;
    evidence.note("ten-more.instructions", more);
    Ok(evidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattered_offsets_are_inside_and_the_same_each_time() {
        let offsets: Vec<_> = scattered(100, LEN).collect();
        assert!(offsets.iter().all(|offset| *offset < LEN));
        assert!(scattered(100, LEN).eq(offsets.iter().copied()));
        let pages: std::collections::BTreeSet<_> =
            offsets.iter().map(|offset| offset / PAGE_SIZE).collect();
        assert!(pages.len() > 60, "{} pages", pages.len());
    }
}
