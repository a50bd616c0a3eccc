//! Block: what a mapping has to do with the place of a file on its disk.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::sys::mman::{MmapAdvise, MsFlags};

use crate::disk::DiskFile;
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Mode, Request, open};
use crate::probe::{Access, touch};
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE, filesystem};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "no-block-needed",
        summary: "Maps a file of which nothing is on disk yet, loads and then stores a page, and asks after each step \
                  how many pieces of the disk belong to the file; maps one page twice; asks the same of a file in \
                  memory.",
        run: no_block_needed,
    },
    Experiment {
        name: "cold-map",
        summary: "Makes a file of so many pieces that the list of their places fills a block of its own, mounts the disk \
                  anew, maps the file and loads a page; counts the sectors read by each of the two.",
        run: cold_map,
    },
    Experiment {
        name: "huge-file",
        summary: "Maps a file of 64 GiB, longer than memory and disk together, stores to a few pages of it, has them \
                  written and taken from memory, and loads them.",
        run: huge_file,
    },
];

fn nr_extents(file: &File) -> Value {
    match filesystem::nr_extents(file.as_fd()) {
        Ok(pieces) => u64::from(pieces).into(),
        Err(errno) => Err::<(), _>(errno).into(),
    }
}

fn sparse(file: &DiskFile, len: u64) -> Result<()> {
    let sized = file.file().set_len(len);
    sized.map_err(Error::file("size", file.path()))
}

fn no_block_needed(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let file = fixture.disk()?.file("sparse", b"")?;
    sparse(&file, 16 * PAGE_SIZE as u64)?;
    let request = Request::shared(file.path()).len(16 * PAGE_SIZE);
    let (first, second) = (request.map()?, request.map()?);
    evidence.note("mapped.extents", nr_extents(file.file()));
    evidence.note("mapped.load", touch(first.addr(), Access::Load)?);
    evidence.note("loaded.byte", first.load_bytes(0, 1)?);
    evidence.note("loaded.pfn", Value::Pfn(procfs::page(first.addr())?.pfn));
    evidence.note("loaded.extents", nr_extents(file.file()));
    first.store(0, 1)?;
    second.load(0)?;
    evidence.note("first.pfn", Value::Pfn(procfs::page(first.addr())?.pfn));
    evidence.note("second.pfn", Value::Pfn(procfs::page(second.addr())?.pfn));
    let synced = first.sync(MsFlags::MS_SYNC);
    synced.map_err(Error::call("msync(MS_SYNC)", "the sparse file"))?;
    evidence.note("written.extents", nr_extents(file.file()));
    let memory = MemFile::filled(PAGE_SIZE)?;
    let mapping = Request::shared(memory.path()).map()?;
    evidence.note("memory.load", touch(mapping.addr(), Access::Load)?);
    evidence.note("memory.extents", nr_extents(memory.file()));
    Ok(evidence)
}

fn cold_map(fixture: &Fixture) -> Result<Evidence> {
    /// More than the four that fit into an inode (Documentation/filesystems/ext4/ifork.rst).
    const PIECES: usize = 40;
    let mut evidence = Evidence::new();
    let disk = fixture.disk()?;
    let path = disk.put("pieces", b"")?;
    let file = open(&path, Mode::ReadWrite)?;
    for piece in 0..PIECES {
        let offset = piece * 2 * PAGE_SIZE;
        file.write_all_at(&[1; PAGE_SIZE], offset as u64)
            .map_err(Error::file("write", &path))?;
    }
    file.sync_all().map_err(Error::file("synchronise", &path))?;
    evidence.note("file.extents", nr_extents(&file));
    drop(file);
    disk.remount()?;
    let request = Request::shared(&path).len(PIECES * 2 * PAGE_SIZE);
    let file = open(&path, Mode::ReadWrite)?;
    let before = disk.sectors()?;
    let mapping = Mapping::new(request.call(), Some(file.as_fd()));
    let mapping = mapping.map_err(Error::call("mmap()", "the file of pieces"))?;
    let mapped = disk.sectors()?;
    evidence.note("mmap.sectors-read", mapped.since(before).read);
    evidence.note("load.byte", mapping.load_bytes(0, 1)?);
    let loaded = disk.sectors()?;
    evidence.note("load.sectors-read", loaded.since(mapped).read);
    drop((mapping, file));
    std::fs::remove_file(&path).map_err(Error::file("remove", &path))?;
    Ok(evidence)
}

fn huge_file(fixture: &Fixture) -> Result<Evidence> {
    const GIB: usize = 1 << 30;
    const PLACES: [usize; 4] = [0, GIB, 31 * GIB + PAGE_SIZE, 63 * GIB];
    let mut evidence = Evidence::new();
    let disk = fixture.disk()?;
    let file = disk.file("huge", b"")?;
    sparse(&file, 64 * GIB as u64)?;
    let mut mapping = Request::shared(file.path()).len(64 * GIB).map()?;
    evidence.note("mapped.bytes", mapping.len() as u64);
    let memory = procfs::memory()?;
    evidence.note("memory.bytes", memory.total + memory.swap);
    for (number, place) in (1..).zip(PLACES) {
        mapping.store(place, number)?;
    }
    evidence.note("stored.bytes", vec![1, 2, 3, 4]);
    let load = |mapping: &Mapping| -> Result<Vec<u8>> {
        PLACES
            .into_iter()
            .map(|place| mapping.load(place))
            .collect()
    };
    evidence.note("stored.rss-kib", rss_kib(&mapping)?);
    file.file()
        .sync_all()
        .map_err(Error::file("synchronise", file.path()))?;
    let given_back = mapping.advise(MmapAdvise::MADV_DONTNEED);
    evidence.note("given-back.madvise", given_back);
    file.drop_from_memory()?;
    evidence.note("given-back.rss-kib", rss_kib(&mapping)?);
    let before = disk.sectors()?;
    evidence.note("again.bytes", load(&mapping)?);
    evidence.note("again.sectors-read", disk.sectors()?.since(before).read);
    let meta = file.file().metadata();
    let meta = meta.map_err(Error::file("look at", file.path()))?;
    evidence.note("on-disk.kib", meta.blocks() / 2);
    Ok(evidence)
}

fn rss_kib(mapping: &Mapping) -> Result<u64> {
    Ok(procfs::vma(mapping.addr())?.map_or(0, |vma| vma.rss_kib))
}
