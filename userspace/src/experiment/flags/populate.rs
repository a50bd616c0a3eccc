//! Populate: `MAP_POPULATE`, which touches everything before mmap returns, and `MAP_NONBLOCK`.

use std::os::fd::AsFd;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::faults;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::procfs;
use crate::strategy::Strategy;
use crate::sys::{Mapping, PAGE_SIZE, ioctl};

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "populate-kinds",
    summary: "Maps 64 pages of a file, all of them in memory, and of anonymous memory, each shared and private, with \
              MAP_POPULATE, with MAP_NONBLOCK, with both and with neither, and counts the entries of the page \
              table. The same with the device that fills its pages in by faults, which counts them.",
    run: populate_kinds,
}];

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

/// The page faults that the driver has answered so far.
fn device_faults(device: &Device) -> Result<u64> {
    let node = device.open()?;
    let info = ioctl::info(node.as_fd()).map_err(Error::call("ioctl(INFO)", "the device"))?;
    Ok(info.faults)
}
