//! Traffic: what goes to and from a disk for reads, loads, writes and stores.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::sys::mman::MsFlags;

use super::reading::scattered;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Value};
use crate::experiment::Experiment;
use crate::faults;
use crate::fixture::Fixture;
use crate::object::{Mode, Request, open};
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "cached-reads",
        summary: "Reads a file of 256 KiB, of which nothing is in memory, from the disk, twice by read(2); and \
                  after it was dropped from memory again, twice by a mapping; and counts the sectors that come \
                  from the disk.",
        run: cached_reads,
    },
    Experiment {
        name: "copies-of-a-page",
        summary: "Reads a page of a file on the disk into a buffer, twice, and maps it, twice: looks at the \
                  sectors that come from the disk, and at the frames.",
        run: copies_of_a_page,
    },
    Experiment {
        name: "scattered-updates",
        summary: "Updates 200 single bytes all over a cached file of 1 MiB on the disk by pwrite(2) and \
                  fdatasync, and by stores and msync: counts the faults and the sectors that are written.",
        run: scattered_updates,
    },
];

/// Pages of 4096 bytes are this many sectors of 512.
const SECTORS: u64 = 8;

/// A file on the disk, gone when dropped.
struct OnDisk {
    path: PathBuf,
}

impl OnDisk {
    /// A file whose bytes are on the disk and in the page cache.
    fn new(disk: &Disk, name: &str, len: usize) -> Result<Self> {
        let path = disk.dir.join(name);
        fs::write(&path, vec![1; len]).map_err(Error::file("write", &path))?;
        let written = Self { path };
        written.sync()?;
        Ok(written)
    }

    fn open(&self) -> Result<File> {
        open(&self.path, Mode::ReadWrite)
    }

    fn sync(&self) -> Result<()> {
        let synced = self.open()?.sync_all();
        synced.map_err(Error::file("write to its disk", &self.path))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        // The file system is made anew for each run.
        let _ = fs::remove_file(&self.path);
    }
}

/// How many sectors `work` takes from the disk.
fn sectors_read(disk: &Disk, work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let before = disk.sectors()?;
    work()?;
    Ok(disk.sectors()?.since(before).read)
}

fn cached_reads(fixture: &Fixture) -> Result<Evidence> {
    const NR_PAGES: usize = 64;
    const LEN: usize = NR_PAGES * PAGE_SIZE;
    let mut evidence = Evidence::new();
    let disk = fixture.disk()?;
    let file = OnDisk::new(disk, "cached-reads", LEN)?;
    evidence.note("file.sectors", NR_PAGES as u64 * SECTORS);
    disk.remount()?;
    for how in ["first", "second"] {
        let sectors = sectors_read(disk, || {
            let read = fs::read(file.path()).map_err(Error::file("read", file.path()))?;
            evidence.note(format!("{how}.read-bytes"), read.len() as u64);
            Ok(())
        })?;
        evidence.note(format!("{how}.read-sectors"), sectors);
    }
    disk.remount()?;
    for how in ["first", "second"] {
        let request = Request::shared(file.path()).len(LEN);
        let sectors = sectors_read(disk, || request.map()?.load_pages())?;
        evidence.note(format!("{how}.map-sectors"), sectors);
    }
    Ok(evidence)
}

fn copies_of_a_page(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let disk = fixture.disk()?;
    let path = OnDisk::new(disk, "copies-of-a-page", PAGE_SIZE)?;
    disk.remount()?;
    let buffer = Request::anonymous(libc::MAP_PRIVATE | libc::MAP_POPULATE).map()?;
    let read = || {
        let file = path.open()?;
        let read = buffer.read_from(file.as_fd(), 0, PAGE_SIZE);
        read.map(drop).map_err(Error::call("read()", "a file"))
    };
    evidence.note("page.bytes", PAGE_SIZE as u64);
    evidence.note("cold.read-sectors", sectors_read(disk, read)?);
    let file = path.open()?;
    let before = (disk.sectors()?, procfs::transferred()?);
    let read = buffer.read_from(file.as_fd(), 0, PAGE_SIZE);
    let (copied, _) = procfs::transferred()?.since(before.1);
    read.map_err(Error::call("read()", "a file"))?;
    evidence.note("warm.read-copied", copied);
    evidence.note("warm.read-sectors", disk.sectors()?.since(before.0).read);
    drop(file);
    disk.remount()?;
    let (first, second) = (Request::shared(path.path()), Request::shared(path.path()));
    let (first, second) = (first.map()?, second.map()?);
    let load = |mapping: &Mapping| mapping.load(0).map(drop);
    evidence.note("cold.load-sectors", sectors_read(disk, || load(&first))?);
    let before = (disk.sectors()?, procfs::transferred()?);
    load(&second)?;
    let (copied, _) = procfs::transferred()?.since(before.1);
    evidence.note("warm.load-copied", copied);
    evidence.note("warm.load-sectors", disk.sectors()?.since(before.0).read);
    let frame = |mapping: &Mapping| Ok::<_, Error>(Value::Pfn(procfs::page(mapping.addr())?.pfn));
    evidence.note("buffer.pfn", frame(&buffer)?);
    evidence.note("first.pfn", frame(&first)?);
    evidence.note("second.pfn", frame(&second)?);
    Ok(evidence)
}

fn scattered_updates(fixture: &Fixture) -> Result<Evidence> {
    const LEN: usize = 256 * PAGE_SIZE;
    const UPDATES: usize = 200;
    let mut evidence = Evidence::new();
    let disk = fixture.disk()?;
    let path = OnDisk::new(disk, "scattered-updates", LEN)?;
    let pages: BTreeSet<_> = scattered(UPDATES, LEN).map(|at| at / PAGE_SIZE).collect();
    evidence.note("updated.pages", pages.len() as u64);
    evidence.note("updated.sectors", pages.len() as u64 * SECTORS);

    let file = path.open()?;
    let scratch = Request::anonymous(libc::MAP_PRIVATE).map()?;
    let pwrites = |_: &Mapping| {
        scattered(UPDATES, LEN).try_for_each(|offset| {
            let wrote = file.write_all_at(&[2], offset as u64);
            wrote.map_err(Error::file("write", path.path()))
        })
    };
    let before = disk.sectors()?;
    evidence.note("pwrite.faults", faults::count(&scratch, pwrites)?.1);
    let synced = file.sync_data();
    synced.map_err(Error::file("write to its disk", path.path()))?;
    evidence.note("pwrite.sectors", disk.sectors()?.since(before).written);

    let mapping = Request::shared(path.path()).len(LEN).map()?;
    let stores =
        |mapping: &Mapping| scattered(UPDATES, LEN).try_for_each(|offset| mapping.store(offset, 3));
    let before = disk.sectors()?;
    evidence.note("store.faults", faults::count(&mapping, stores)?.1);
    let synced = mapping.sync(MsFlags::MS_SYNC);
    synced.map_err(Error::call("msync(MS_SYNC)", "a file"))?;
    evidence.note("store.sectors", disk.sectors()?.since(before).written);
    // After it was written back each page is write-protected again, to notice the next store.
    evidence.note("again.faults", faults::count(&mapping, stores)?.1);
    Ok(evidence)
}
