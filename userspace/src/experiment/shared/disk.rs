//! Disk: whether it takes a disk for others to see a store.

use std::fs;

use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{Mode, Request, open};
use crate::sys::PAGE_SIZE;

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "disk-stays-behind",
    summary: "One process stores and another one loads, on the device and on a file on a disk; counts the sectors \
              written to the disk by then, and after fsync.",
    run: disk_stays_behind,
}];

const TEXT: &[u8] = b"not on any disk";

fn disk_stays_behind(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let device = Request::shared(fixture.device.node());
    evidence.note("device.stored", TEXT);
    evidence.note("device.seen", store_and_load(fixture, &device)?);

    let disk = fixture.disk()?;
    let path = disk.dir.join("disk-stays-behind");
    fs::write(&path, vec![0; PAGE_SIZE]).map_err(Error::file("write", &path))?;
    let file = open(&path, Mode::ReadWrite)?;
    // Also what others have left to be written.
    nix::unistd::sync();
    let before = disk.sectors()?;
    evidence.note("file.stored", TEXT);
    evidence.note(
        "file.seen",
        store_and_load(fixture, &Request::shared(&path))?,
    );
    evidence.note(
        "file.sectors-when-seen",
        disk.sectors()?.since(before).written,
    );
    file.sync_all().map_err(Error::file("sync", &path))?;
    evidence.note(
        "file.sectors-when-synced",
        disk.sectors()?.since(before).written,
    );
    fs::remove_file(&path).map_err(Error::file("remove", &path))?;
    Ok(evidence)
}

fn store_and_load(fixture: &Fixture, request: &Request) -> Result<Vec<u8>> {
    let (mut writer, mut reader) = (fixture.actor("the writer")?, fixture.actor("the reader")?);
    writer.map(request)?;
    reader.map(request)?;
    writer.store(0, TEXT)?;
    Ok(reader.load(0, TEXT.len())?.bytes)
}
