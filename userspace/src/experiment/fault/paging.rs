//! Paging: when a page enters a page table, and how many faults that takes.

use std::os::unix::fs::MetadataExt;

use nix::sys::mman::MmapAdvise;

use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::faults;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "mmap-alone",
        summary: "Maps the device, 64 pages of a file that are all in memory, and 64 pages of anonymous memory, and \
                  counts the present page table entries before anything is touched, and the faults of the first load.",
        run: mmap_alone,
    },
    Experiment {
        name: "lazy-load",
        summary: "Maps a sparse file of 64 pages and looks at its page table entries and its memory before and after \
                  the first load; the same with MAP_POPULATE; and counts the faults of a first load and store on \
                  the device.",
        run: lazy_load,
    },
    Experiment {
        name: "first-access",
        summary: "Counts the faults of the first and second load of a file's page, of a load and then a store to \
                  anonymous memory, of a load next to a page that was loaded, and of one after MAP_POPULATE.",
        run: first_access,
    },
    Experiment {
        name: "faults-per-page",
        summary: "Counts the faults of touching 64 pages of a file one after the other: stores, loads where the \
                  file has no page yet, and loads where all pages are in the page cache.",
        run: faults_per_page,
    },
];

const NR_PAGES: usize = 64;
const LEN: usize = NR_PAGES * PAGE_SIZE;

fn load_first(mapping: &Mapping) -> Result<()> {
    mapping.load(0).map(drop)
}

fn store_first(mapping: &Mapping) -> Result<()> {
    mapping.store(0, 1)
}

fn load_second_page(mapping: &Mapping) -> Result<()> {
    mapping.load(PAGE_SIZE).map(drop)
}

fn mmap_alone(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let file = MemFile::filled(LEN)?;
    let device = fixture.device.map_shared()?;
    let cached = Request::shared(file.path()).len(LEN).map()?;
    let anonymous = Request::anonymous(libc::MAP_PRIVATE).len(LEN).map()?;
    let mappings = [
        ("device", device),
        ("file", cached),
        ("anonymous", anonymous),
    ];
    for (name, mapping) in mappings {
        evidence.note(format!("{name}.pages"), (mapping.len() / PAGE_SIZE) as u64);
        evidence.note(format!("{name}.present"), procfs::present(&mapping)?);
        let vma = procfs::vma(mapping.addr())?;
        evidence.note(format!("{name}.has-vma"), vma.is_some());
        let faults = faults::count(&mapping, load_first)?.1;
        evidence.note(format!("{name}.first-load-faults"), faults);
    }
    Ok(evidence)
}

fn lazy_load(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let file = MemFile::new(LEN)?;
    let mapping = Request::shared(file.path()).len(LEN).map()?;
    evidence.note("mapped.present", procfs::present(&mapping)?);
    evidence.note("mapped.kib", kib(&file)?);
    evidence.note("touched.faults", faults::count(&mapping, load_first)?.1);
    evidence.note("touched.present", procfs::present(&mapping)?);
    evidence.note("touched.kib", kib(&file)?);

    let file = MemFile::new(LEN)?;
    let populate = libc::MAP_SHARED | libc::MAP_POPULATE;
    let populated = Request::shared(file.path())
        .len(LEN)
        .flags(populate)
        .map()?;
    evidence.note("populated.present", procfs::present(&populated)?);
    evidence.note("populated.kib", kib(&file)?);

    let device = fixture.device.map_shared()?;
    evidence.note("device.load-faults", faults::count(&device, load_first)?.1);
    evidence.note(
        "device.store-faults",
        faults::count(&device, store_first)?.1,
    );
    Ok(evidence)
}

/// Memory that the file's pages occupy.
fn kib(file: &MemFile) -> Result<u64> {
    /// The unit of `st_blocks`, see inode(7).
    const BLOCK: u64 = 512;
    let meta = file
        .file()
        .metadata()
        .map_err(Error::file("look at", file.path()))?;
    Ok(meta.blocks() * BLOCK / 1024)
}

fn first_access(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let file = MemFile::filled(LEN)?;
    let mapping = Request::shared(file.path()).len(LEN).map()?;
    evidence.note("file.first-load", faults::count(&mapping, load_first)?.1);
    evidence.note("file.second-load", faults::count(&mapping, load_first)?.1);
    evidence.note(
        "file.next-page-load",
        faults::count(&mapping, load_second_page)?.1,
    );
    let populate = libc::MAP_SHARED | libc::MAP_POPULATE;
    let populated = Request::shared(file.path())
        .len(LEN)
        .flags(populate)
        .map()?;
    evidence.note(
        "populated.first-load",
        faults::count(&populated, load_first)?.1,
    );

    let mut anonymous = Request::anonymous(libc::MAP_PRIVATE).len(LEN).map()?;
    // A huge page would make one fault serve 512 pages.
    let small = anonymous.advise(MmapAdvise::MADV_NOHUGEPAGE);
    evidence.note("anonymous.madvise", small);
    evidence.note(
        "anonymous.first-load",
        faults::count(&anonymous, load_first)?.1,
    );
    evidence.note(
        "anonymous.first-store",
        faults::count(&anonymous, store_first)?.1,
    );
    Ok(evidence)
}

fn faults_per_page(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    evidence.note("touched.pages", NR_PAGES as u64);
    let file = MemFile::filled(LEN)?;
    let request = Request::shared(file.path()).len(LEN);
    evidence.note(
        "cached.store-faults",
        faults::count(&request.map()?, |it| it.store_pages(1))?.1,
    );
    evidence.note(
        "cached.load-faults",
        faults::count(&request.map()?, Mapping::load_pages)?.1,
    );
    let sparse = MemFile::new(LEN)?;
    let request = Request::shared(sparse.path()).len(LEN);
    evidence.note(
        "missing.load-faults",
        faults::count(&request.map()?, Mapping::load_pages)?.1,
    );
    Ok(evidence)
}
