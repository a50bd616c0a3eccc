//! Growth: mappings of files whose length changes.

use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::probe::{Access, touch};
use crate::procfs;
use crate::sys::PAGE_SIZE;

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "growing-file",
    summary: "Lets a mapped file grow and shrink; then appends records through a mapping that is longer than the \
              file, and lets a mapping follow by mremap, of a file and of the device.",
    run: growing_file,
}];

fn growing_file(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let file = MemFile::filled(PAGE_SIZE)?;
    let set_len = |len: usize| {
        let set = file.file().set_len(len as u64);
        set.map_err(Error::file("size", file.path()))
    };
    // The page behind is free: it was mapped with the first one, and given back.
    let mut mapping = Request::shared(file.path()).len(2 * PAGE_SIZE).map()?;
    let behind = mapping.addr() + PAGE_SIZE;
    let rest = mapping.split_off(PAGE_SIZE)?;
    rest.unmap().map_err(Error::call("munmap()", "the rest"))?;
    set_len(2 * PAGE_SIZE)?;
    evidence.note("grown.vma-behind", procfs::vma(behind)?.is_some());
    evidence.note("grown.load-behind", touch(behind, Access::Load)?);
    set_len(0)?;
    evidence.note("shrunk.load", touch(behind - 1, Access::Load)?);
    append(&mut evidence)?;

    set_len(2 * PAGE_SIZE)?;
    evidence.note("resized.mremap", mapping.resize(2 * PAGE_SIZE));
    let last = mapping.addr() + mapping.len() - 1;
    evidence.note("resized.load", touch(last, Access::Load)?);
    let mut device = Request::shared(fixture.device.node()).map()?;
    evidence.note("device.mremap", device.resize(2 * PAGE_SIZE));
    Ok(evidence)
}

/// Records are appended by ftruncate(2) and stores, in a mapping that never changes.
fn append(evidence: &mut Evidence) -> Result<()> {
    const RECORD_LEN: usize = 1000;
    const RECORDS: u8 = 10;
    let log = MemFile::new(0)?;
    let window = Request::shared(log.path()).len(16 * PAGE_SIZE).map()?;
    let mut written = Vec::new();
    for number in 1..=RECORDS {
        let record = [number; RECORD_LEN];
        let offset = written.len();
        written.extend_from_slice(&record);
        let set = log.file().set_len(written.len() as u64);
        set.map_err(Error::file("size", log.path()))?;
        window.store_bytes(offset, &record)?;
    }
    let mut read = vec![0; written.len() + 1];
    let nr_read = log.file().read_at(&mut read, 0);
    read.truncate(nr_read.map_err(Error::file("read", log.path()))?);
    evidence.note("appended.bytes", written.len() as u64);
    evidence.note("appended.is-the-file", read == written);
    Ok(())
}
