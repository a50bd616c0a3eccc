//! Populate: `MAP_POPULATE`, which touches everything before mmap returns, and `MAP_NONBLOCK`.

use std::os::fd::AsFd;

use crate::device::Device;
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::faults;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::probe::{Access, touch};
use crate::procfs;
use crate::strategy::Strategy;
use crate::sys::{Mapping, PAGE_SIZE, ioctl};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "populate-kinds",
        summary: "Maps 64 pages of a file, all of them in memory, and of anonymous memory, each shared and private, \
                  with MAP_POPULATE, with MAP_NONBLOCK, with both and with neither, and counts the entries of the \
                  page table. The same with the device that fills its pages in by faults, which counts them.",
        run: populate_kinds,
    },
    Experiment {
        name: "populate-from-disk",
        summary: "Maps 64 pages that are on a disk and not in memory, plainly and with MAP_POPULATE, and counts the \
                  sectors read, the entries of the page table, and the faults that loads and stores take then. \
                  Counts them also for a private mapping, one that is longer than its file, a file in memory, and \
                  private mappings of each device.",
        run: populate_from_disk,
    },
];

const NR_PAGES: usize = 64;
const LEN: usize = NR_PAGES * PAGE_SIZE;

fn populate_kinds(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let file = MemFile::filled(LEN)?;
    evidence.note("file.pages", NR_PAGES as u64);
    let device = Device::with_strategy(Strategy::Fault)?;
    for (name, flags) in [
        ("plain", 0),
        ("populate", libc::MAP_POPULATE),
        ("nonblock", libc::MAP_NONBLOCK),
        ("both", libc::MAP_POPULATE | libc::MAP_NONBLOCK),
    ] {
        for (object, request) in [
            ("shared-file", Request::shared(file.path())),
            ("private-file", Request::private(file.path())),
            ("shared-memory", Request::anonymous(libc::MAP_SHARED)),
            ("private-memory", Request::anonymous(libc::MAP_PRIVATE)),
        ] {
            let flags = request.flags | flags;
            let mapping = request.flags(flags).len(LEN).map()?;
            evidence.note(format!("{name}.{object}"), procfs::present(&mapping)?);
        }
        let before = device_faults(&device)?;
        let request = Request::shared(device.node()).flags(libc::MAP_SHARED | flags);
        let mapping = request.map()?;
        let inside = device_faults(&device)? - before;
        evidence.note(format!("{name}.device-faults"), inside);
        let load = |mapping: &Mapping| mapping.load(0);
        let later = faults::count(&mapping, load)?.1;
        evidence.note(format!("{name}.later-faults"), later);
    }
    Ok(evidence)
}

fn populate_from_disk(fixture: &Fixture) -> Result<Evidence> {
    /// The unit in which disks are read, `Documentation/admin-guide/iostats.rst`.
    const SECTOR: usize = 512;
    let mut evidence = Evidence::new();
    let disk = fixture.disk()?;
    let file = disk.file("populated", &vec![1; LEN])?;
    evidence.note("file.pages", NR_PAGES as u64);
    evidence.note("file.sectors", (LEN / SECTOR) as u64);
    let shared = Request::shared(file.path()).len(LEN);
    map_cold(&mut evidence, "plain", disk, &file, &shared)?;
    let mapping = map_cold(&mut evidence, "shared", disk, &file, &populated(&shared))?;
    note_store_faults(&mut evidence, "shared", &mapping)?;
    drop(mapping);
    file.file()
        .sync_all()
        .map_err(Error::file("synchronise", file.path()))?;
    let private = populated(&Request::private(file.path()).len(LEN));
    let mapping = map_cold(&mut evidence, "private", disk, &file, &private)?;
    note_store_faults(&mut evidence, "private", &mapping)?;

    let long = populated(&shared).len(2 * LEN).try_map()?;
    if let Ok(long) = &long {
        evidence.note("long.present", procfs::present(long)?);
        evidence.note("long.beyond-end", touch(long.addr() + LEN, Access::Load)?);
    }
    evidence.note("long.call", long);

    let file = MemFile::filled(LEN)?;
    let memory = populated(&Request::shared(file.path()).len(LEN)).map()?;
    note_store_faults(&mut evidence, "memory", &memory)?;
    for strategy in [Strategy::Insert, Strategy::Pfn, Strategy::Fault] {
        let device = Device::with_strategy(strategy)?;
        let private = populated(&Request::private(device.node())).map()?;
        note_store_faults(&mut evidence, &strategy.to_string(), &private)?;
    }
    Ok(evidence)
}

fn populated(request: &Request) -> Request {
    let flags = request.flags | libc::MAP_POPULATE;
    request.clone().flags(flags)
}

/// Maps a file of which nothing is in memory and loads all its pages.
fn map_cold(
    evidence: &mut Evidence,
    name: &str,
    disk: &Disk,
    file: &DiskFile,
    request: &Request,
) -> Result<Mapping> {
    file.drop_from_memory()?;
    let before = disk.sectors()?;
    let mapping = request.map()?;
    let read = disk.sectors()?.since(before).read;
    evidence.note(format!("{name}.sectors-read"), read);
    evidence.note(format!("{name}.present"), procfs::present(&mapping)?);
    let faults = faults::count(&mapping, Mapping::load_pages)?.1;
    evidence.note(format!("{name}.load-faults"), faults);
    Ok(mapping)
}

fn note_store_faults(evidence: &mut Evidence, name: &str, mapping: &Mapping) -> Result<()> {
    let faults = faults::count(mapping, |mapping| mapping.store_pages(2))?.1;
    evidence.note(format!("{name}.store-faults"), faults);
    Ok(())
}

/// The page faults that the driver has answered so far.
fn device_faults(device: &Device) -> Result<u64> {
    let node = device.open()?;
    let info = ioctl::info(node.as_fd()).map_err(Error::call("ioctl(INFO)", "the device"))?;
    Ok(info.faults)
}
