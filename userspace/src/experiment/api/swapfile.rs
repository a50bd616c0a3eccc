//! Swap file: what mmap says to one that is in use, and to programs that are running.

use nix::sys::mman::ProtFlags;

use super::note_map;
use crate::error::Result;
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Mode, Request};
use crate::swapfile::SwapFile;
use crate::sys::PAGE_SIZE;

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "text-file-busy",
    summary: "Maps the device and a file, each open for writing, with MAP_DENYWRITE, and opens the file for \
              writing while it is so mapped. Then maps a swap file in use, in three ways.",
    run: text_file_busy,
}];

fn text_file_busy(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let file = MemFile::new(PAGE_SIZE)?;
    for (who, path) in [("device", fixture.device.node()), ("file", file.path())] {
        let request = Request::shared(path);
        let flags = request.flags | libc::MAP_DENYWRITE;
        let mapped = request.clone().flags(flags).try_map()?;
        let _kept = note_map(&mut evidence, &format!("{who}-denywrite"), mapped);
        // While that is mapped.
        note_map(&mut evidence, &format!("{who}-again"), request.try_map()?);
    }
    let swap = SwapFile::new(&fixture.disk()?.dir, 16 * PAGE_SIZE)?;
    let readable = Request::shared(swap.path())
        .mode(Mode::ReadOnly)
        .prot(ProtFlags::PROT_READ);
    let ways = [
        ("swap-shared-writable", Request::shared(swap.path())),
        ("swap-shared-readable", readable),
        (
            "swap-private-writable",
            Request::private(swap.path()).mode(Mode::ReadOnly),
        ),
    ];
    for (who, request) in ways {
        note_map(&mut evidence, who, request.try_map()?);
    }
    swap.off()?;
    Ok(evidence)
}
