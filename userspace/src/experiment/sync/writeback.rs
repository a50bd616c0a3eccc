//! Writeback: when a store to a mapped file reaches the disk, told by the sectors written and by a power cut.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::mman::MsFlags;

use crate::actor::Actor;
use crate::boot::Boot;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{Mode, Request, open};
use crate::sys::{Mapping, PAGE_SIZE};
use crate::sysctl::Sysctl;
use crate::turn::TURN;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "left-to-the-kernel",
        summary: "Stores into a shared mapping of a file on disk and waits for the disk to be written, with the \
                  kernel's usual delays and with short ones. Then drops the page from memory and reads the file; the \
                  same with a private mapping.",
        run: left_to_the_kernel,
    },
    Experiment {
        name: "power-cut",
        summary: "Stores into five files on disk: one is synchronised by msync, one by MS_ASYNC, one is unmapped, one \
                  is left alone, and one's process is killed. All are read, the power is cut, and they are read once \
                  more.",
        run: power_cut,
    },
];

const OLD: &[u8] = b"old";
const NEW: &[u8] = b"new";
/// Long for a disk that has been told to write, short for a kernel that writes by itself.
const A_WHILE: Duration = Duration::from_millis(200);

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = vec![0; NEW.len()];
    let file = open(path, Mode::ReadOnly)?;
    file.read_exact_at(&mut bytes, 0)
        .map_err(Error::file("read", path))?;
    Ok(bytes)
}

/// A page that begins with the old text.
fn old_page() -> Vec<u8> {
    let mut page = OLD.to_vec();
    page.resize(PAGE_SIZE, 0);
    page
}

fn left_to_the_kernel(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let disk = fixture.disk()?;
    let file = disk.file("shared", &old_page())?;
    let copied = disk.file("private", &old_page())?;
    let mapping = Request::shared(file.path()).map()?;
    let private = Request::private(copied.path()).map()?;
    evidence.note("original.bytes", OLD);
    evidence.note("stored.bytes", &b"now"[..]);

    disk.quiet()?;
    let before = disk.sectors()?;
    mapping.store_bytes(0, b"now")?;
    evidence.note("at-once.read", read(file.path())?);
    let written = disk.sectors()?.since(before).written;
    evidence.note("at-once.sectors-written", written);
    evidence.note("in-a-while.written", disk.written_since(before, A_WHILE)?);

    // In hundredths of a second; 30 s and 5 s otherwise (Documentation/admin-guide/sysctl/vm.rst).
    let expire = Sysctl::set("vm.dirty_expire_centisecs", 10)?;
    let wake_up = Sysctl::set("vm.dirty_writeback_centisecs", 10)?;
    disk.quiet()?;
    evidence.note("stored-next.bytes", NEW);
    let before = disk.sectors()?;
    mapping.store_bytes(0, NEW)?;
    private.store_bytes(0, NEW)?;
    evidence.note("left-alone.written", disk.written_since(before, TURN)?);
    wake_up.restore()?;
    expire.restore()?;
    evidence.note("left-alone.private", private.load_bytes(0, NEW.len())?);
    drop((mapping, private));
    for (name, file) in [("shared", &file), ("private", &copied)] {
        file.drop_from_memory()?;
        let before = disk.sectors()?;
        evidence.note(format!("{name}.read-again"), read(file.path())?);
        let from_disk = disk.sectors()?.since(before).read;
        evidence.note(format!("{name}.sectors-read"), from_disk);
    }
    Ok(evidence)
}

/// The files, by what is done after the store.
const FATES: [&str; 5] = ["synced", "left", "unmapped", "async", "killed"];

fn path_on(disk: &Disk, fate: &str) -> PathBuf {
    disk.dir.join(fate)
}

/// A file that no disk backs.
fn in_memory() -> PathBuf {
    std::env::temp_dir().join("mmapdemo-power-cut")
}

fn power_cut(fixture: &Fixture) -> Result<Evidence> {
    let disk = fixture.cut_disk()?;
    if fixture.boot == Boot::PowerCut {
        return before_the_cut(disk);
    }
    let recorded = fixture.recorded(Boot::PowerCut, "power-cut");
    let mut evidence = recorded.cloned().unwrap_or_default();
    for fate in FATES {
        evidence.note(format!("after.{fate}"), read(&path_on(disk, fate))?);
    }
    evidence.note("after.is-in-memory", in_memory().exists());
    Ok(evidence)
}

fn before_the_cut(disk: &Disk) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    evidence.note("old.bytes", OLD);
    evidence.note("new.bytes", NEW);
    for fate in FATES {
        disk.put(fate, &old_page())?;
    }
    disk.quiet()?;
    for fate in FATES {
        let path = path_on(disk, fate);
        let before = disk.sectors()?;
        let mapping = Request::shared(&path).map()?;
        if fate == "killed" {
            let mut writer = Actor::start("the victim")?;
            writer.map(&Request::shared(&path))?;
            writer.store(0, NEW)?;
            evidence.note("killed.end", writer.kill()?);
        } else {
            mapping.store_bytes(0, NEW)?;
        }
        leave_to_its_fate(fate, mapping)?;
        evidence.note(
            format!("{fate}.written"),
            disk.written_since(before, A_WHILE)?,
        );
    }
    for fate in FATES {
        evidence.note(format!("before.{fate}"), read(&path_on(disk, fate))?);
    }
    let made = std::fs::write(in_memory(), NEW);
    made.map_err(Error::file("write", in_memory()))?;
    evidence.note("before.in-memory", read(&in_memory())?);
    Ok(evidence)
}

fn leave_to_its_fate(fate: &str, mapping: Mapping) -> Result<()> {
    match fate {
        "synced" => mapping
            .sync(MsFlags::MS_SYNC)
            .map_err(Error::call("msync(MS_SYNC)", fate)),
        "async" => mapping
            .sync(MsFlags::MS_ASYNC)
            .map_err(Error::call("msync(MS_ASYNC)", fate)),
        "unmapped" => mapping.unmap().map_err(Error::call("munmap()", fate)),
        _ => {
            // Still mapped when the power goes.
            std::mem::forget(mapping);
            Ok(())
        }
    }
}
