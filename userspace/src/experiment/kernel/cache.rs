//! Cache: the page cache, which mapped files are, and a device is not.

use std::fs;
use std::os::fd::AsFd;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::unistd::getpid;

use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{Mode, Request, open};
use crate::procfs;
use crate::sys::{PAGE_SIZE, cached_pages};

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "page-cache",
    summary: "Writes a file of 16 pages to a disk and drops its pages from the page cache; has another process read \
              it; maps it, loads and stores, and reads what was stored. Counts the pages in the cache each time, and \
              those of the device while it is mapped.",
    run: page_cache,
}];

const LEN: usize = 16 * PAGE_SIZE;

fn page_cache(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let path = fixture.disk()?.dir.join("page-cache");
    fs::write(&path, vec![1; LEN]).map_err(Error::file("write", &path))?;
    let file = open(&path, Mode::ReadWrite)?;
    file.sync_all().map_err(Error::file("sync", &path))?;
    let cached =
        |file: &fs::File| cached_pages(file.as_fd()).map_err(Error::call("cachestat()", "a file"));
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .map_err(Error::call("posix_fadvise(DONTNEED)", "a file"))?;
    evidence.note("file.pages", (LEN / PAGE_SIZE) as u64);
    evidence.note("dropped.cached", cached(&file)?);
    let len = errand::run("a reader", || {
        let content = fs::read(&path).map_err(Error::file("read", &path))?;
        Ok(content.len() as u64)
    })?;
    evidence.note("reader.bytes", len);
    evidence.note("read.cached", cached(&file)?);
    let mapping = Request::shared(&path).len(LEN).map()?;
    let before = procfs::major_faults(getpid())?;
    evidence.note("mapped.byte", vec![mapping.load(0)?]);
    mapping.load_pages()?;
    evidence.note(
        "mapped.disk-faults",
        procfs::major_faults(getpid())? - before,
    );
    mapping.store(0, 2)?;
    let content = fs::read(&path).map_err(Error::file("read", &path))?;
    evidence.note("mapped.stored", vec![mapping.load(0)?]);
    evidence.note("read.byte", content.get(..1).unwrap_or_default());

    let device = fixture.device.open()?;
    let mapping = fixture.device.map_shared()?;
    mapping.store(0, 3)?;
    evidence.note("device.cached", cached(&device)?);
    evidence.note("device.byte", vec![mapping.load(0)?]);
    fs::remove_file(&path).map_err(Error::file("remove", &path))?;
    Ok(evidence)
}
