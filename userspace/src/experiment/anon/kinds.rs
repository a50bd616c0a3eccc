//! Kinds: private and shared, of a file and of none.

use std::os::unix::fs::MetadataExt;

use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::procfs::{self, Vma};
use crate::sys::PAGE_SIZE;

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "four-kinds",
    summary: "Maps anonymous memory, a file and the device, each private and shared, stores to each, and looks at \
              the areas and the pages; then at the area of this program's own code.",
    run: four_kinds,
}];

fn area(addr: usize) -> Result<Vma> {
    procfs::vma(addr)?.ok_or_else(|| Error::Garbled {
        what: "/proc/self/smaps".to_owned(),
        detail: format!("nothing at {addr:#x}"),
    })
}

fn four_kinds(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let file = MemFile::new(PAGE_SIZE)?;
    let meta = file.file().metadata();
    let meta = meta.map_err(Error::file("look at", file.path()))?;
    evidence.note("file.inode", meta.ino());
    for (name, request) in [
        ("private-memory", Request::anonymous(libc::MAP_PRIVATE)),
        ("shared-memory", Request::anonymous(libc::MAP_SHARED)),
        ("private-file", Request::private(file.path())),
        ("shared-file", Request::shared(file.path())),
        ("private-device", Request::private(fixture.device.node())),
        ("shared-device", Request::shared(fixture.device.node())),
    ] {
        let mapping = request.map()?;
        mapping.store(0, 1)?;
        let area = area(mapping.addr())?;
        evidence.note(format!("{name}.mode"), area.mode.as_str());
        evidence.note(format!("{name}.inode"), area.inode);
        let page = procfs::page(mapping.addr())?;
        evidence.note(format!("{name}.page-of-a-file"), page.file);
    }
    let code = area(four_kinds as fn(&Fixture) -> Result<Evidence> as usize)?;
    evidence.note("program.mode", code.mode.as_str());
    evidence.note("program.inode", code.inode);
    Ok(evidence)
}
