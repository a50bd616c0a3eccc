//! Disk: what everybody sees is not yet on the disk, told by a power cut.

use std::fs;
use std::time::Duration;

use nix::sys::mman::MsFlags;
use nix::unistd::getpid;

use super::Scenario;
use super::stage::{Act, Stage};
use crate::boot::Boot;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::fixture::Fixture;
use crate::need::Need;
use crate::object::Request;
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const ALL: &[Scenario] = &[Scenario {
    name: "power-cut",
    title: "Power cut",
    question: "Four files are stored to through mappings, and all four read back as new. Which of them are new after a \
               power cut?",
    claims: &[
        "sync-msync-sync-makes-durable",
        "sync-munmap-triggers-writeback",
        "sync-ms-async-starts-io",
        "sync-file-updated-only-at-msync-or-munmap",
    ],
    needs: &[Need::Pagemap, Need::Root, Need::Btf],
    boots: &[Boot::PowerCut, Boot::Main],
    play: power_cut,
}];

const OLD: &[u8] = b"old";
const NEW: &[u8] = b"new";
/// Long for a disk that has been told to write, short for a kernel that writes by itself.
const A_WHILE: Duration = Duration::from_millis(200);
/// The files, by what is done after the store.
const FATES: [&str; 4] = ["synced", "async", "unmapped", "left"];

fn power_cut(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    let disk = fixture.cut_disk()?;
    match fixture.boot {
        Boot::PowerCut => before(disk, stage),
        _ => after(disk, stage),
    }
}

/// Other files than those of the experiment about the same.
fn name(fate: &str) -> String {
    format!("show-{fate}")
}

fn before(disk: &Disk, stage: &mut Stage<'_>) -> Result<()> {
    let mut page = OLD.to_vec();
    page.resize(PAGE_SIZE, 0);
    let mut mappings = Vec::new();
    for fate in FATES {
        let path = disk.put(&name(fate), &page)?;
        mappings.push((fate.to_owned(), Request::shared(path).map()?));
    }
    disk.quiet()?;
    let pages = mappings
        .iter()
        .map(|(fate, it)| (fate.clone(), it.addr() as u64));
    stage.watch("A", getpid(), pages.collect());
    let act = Act::new("A", "maps four files of a disk, shared; all say \"old\"");
    stage.record(act.facts(contents(disk)?))?;

    let store = |(_, mapping): &(String, Mapping)| mapping.store_bytes(0, NEW);
    let act = Act::new("A", "stores \"new\" to all four");
    let written = watched(disk, stage, act, || mappings.iter().try_for_each(store))?;
    let all_new = FATES.map(|fate| says(disk, fate, NEW)).iter().all(|it| *it);
    stage.finding(
        "Whoever reads the files reads \"new\", all four. To the disk nothing has gone.",
        all_new && !written,
        "read has the pages that the mappings have, those of the page cache. The entries are dirty now.",
    );
    after_the_store(disk, stage, mappings)
}

/// What is done to each of the files; nothing to the last.
fn after_the_store(
    disk: &Disk,
    stage: &mut Stage<'_>,
    mappings: Vec<(String, Mapping)>,
) -> Result<()> {
    let mut mappings = mappings.into_iter().map(|(_, mapping)| mapping);
    let (Some(synced), Some(asynced), Some(unmapped)) =
        (mappings.next(), mappings.next(), mappings.next())
    else {
        return Ok(());
    };
    let sync = |mapping: &Mapping, flags, call| {
        let done = mapping.sync(flags);
        done.map_err(Error::call(call, "a file on the disk"))
    };
    let act = Act::new("A", "has the first synchronised").call("msync(addr, 4096, MS_SYNC)");
    let written = watched(disk, stage, act, || {
        sync(&synced, MsFlags::MS_SYNC, "msync(MS_SYNC)")
    })?;
    let clean = |pte: crate::page_table::Entry| !pte.dirty && !pte.writable;
    let clean = stage.pte("A", 0).is_some_and(clean);
    stage.finding(
        "The disk was written, and the entry is clean and read-only.",
        written && clean,
        "The next store is to fault, so that the kernel learns that the page is dirty again.",
    );
    let act = Act::new("A", "asks for the second, without waiting");
    let act = act.call("msync(addr, 4096, MS_ASYNC)");
    let written = watched(disk, stage, act, || {
        sync(&asynced, MsFlags::MS_ASYNC, "msync(MS_ASYNC)")
    })?;
    stage.finding(
        "Nothing goes to the disk.",
        !written,
        "Since Linux 2.6.19 MS_ASYNC does nothing: the kernel keeps account of dirty pages anyway, msync(2).",
    );
    let act = Act::new("A", "unmaps the third, and leaves the fourth alone");
    let act = act.call("munmap(addr, 4096)");
    let written = watched(disk, stage, act, || {
        let done = unmapped.unmap();
        done.map_err(Error::call("munmap()", "a file on the disk"))
    })?;
    stage.finding(
        "Nothing goes to the disk: the entry is gone, the page stays in the page cache, and dirty.",
        !written && stage.pfn("A", 2).is_none(),
        "",
    );
    Ok(())
}

/// Records an act that may make the kernel write to the disk, and whether that is written in a while.
fn watched(
    disk: &Disk,
    stage: &mut Stage<'_>,
    act: Act,
    work: impl FnOnce() -> Result<()>,
) -> Result<bool> {
    let before = disk.sectors()?;
    work()?;
    let written = disk.written_since(before, A_WHILE)?;
    let act = act.facts(contents(disk)?);
    stage.record(act.fact("disk.was-written", written))?;
    Ok(written)
}

fn after(disk: &Disk, stage: &mut Stage<'_>) -> Result<()> {
    let did = "has cut the power, and boots again with the same disk";
    stage.record(Act::new("the host", did).facts(contents(disk)?))?;
    let others_old = ["async", "unmapped", "left"].map(|fate| says(disk, fate, OLD));
    stage.finding(
        "Only the file that was synchronised is new.",
        says(disk, "synced", NEW) && others_old.iter().all(|it| *it),
        "To be visible to all and to be on the disk are two things. The rest was in memory, and that is gone.",
    );
    Ok(())
}

fn contents(disk: &Disk) -> Result<Evidence> {
    let mut contents = Evidence::new();
    for fate in FATES {
        contents.note(format!("{fate}.says"), read(disk, fate)?);
    }
    Ok(contents)
}

fn says(disk: &Disk, fate: &str, text: &[u8]) -> bool {
    read(disk, fate).is_ok_and(|read| read == text)
}

fn read(disk: &Disk, fate: &str) -> Result<Vec<u8>> {
    let path = disk.dir.join(name(fate));
    let mut bytes = fs::read(&path).map_err(Error::file("read", &path))?;
    bytes.truncate(NEW.len());
    Ok(bytes)
}
