//! Leak: what stays when nobody unmaps, as long as the process lives.

use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::Mode;
use nix::unistd::{ftruncate, getpid};

use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::procfs;
use crate::sys::PAGE_SIZE;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "never-unmapped",
        summary: "Maps the device 1000 times and loads from each mapping without unmapping it, then unmaps all, and counts areas, the driver's \
                  mappings and the references to its page before, meanwhile and afterwards.",
        run: never_unmapped,
    },
    Experiment {
        name: "named-memory",
        summary: "A process makes an object by shm_open, stores into it, unmaps it and ends; another one looks for \
                  it, before and after shm_unlink.",
        run: named_memory,
    },
];

fn never_unmapped(fixture: &Fixture) -> Result<Evidence> {
    const TIMES: u64 = 1000;
    let mut evidence = Evidence::new();
    let before = note_counts(&mut evidence, "before", fixture, None)?;
    let mapped = (0..TIMES).map(|_| {
        let mapping = fixture.device.map_shared()?;
        mapping.load(0)?;
        Ok(mapping)
    });
    let mapped: Vec<_> = mapped.collect::<Result<_>>()?;
    note_counts(&mut evidence, "meanwhile", fixture, Some(before))?;
    drop(mapped);
    note_counts(&mut evidence, "afterwards", fixture, Some(before))?;
    Ok(evidence)
}

/// Areas of this process, mappings that the driver knows of, references to its first page.
type Counts = (u64, u64, u64);

/// Notes what has been added since; returns what there is.
fn note_counts(
    evidence: &mut Evidence,
    when: &str,
    fixture: &Fixture,
    before: Option<Counts>,
) -> Result<Counts> {
    let node = fixture.device.node().display().to_string();
    let vmas = procfs::vmas(getpid())?;
    let areas = vmas.iter().filter(|vma| vma.name == node).count() as u64;
    let (info, page) = (fixture.device.info()?, fixture.device.page_info(0)?);
    let counts = (
        areas,
        info.mappings,
        u64::from(page.refcount.unsigned_abs()),
    );
    if let Some(before) = before {
        evidence.note(format!("{when}.areas"), counts.0.saturating_sub(before.0));
        evidence.note(
            format!("{when}.mappings"),
            counts.1.saturating_sub(before.1),
        );
        evidence.note(
            format!("{when}.references"),
            counts.2.saturating_sub(before.2),
        );
    }
    Ok(counts)
}

fn named_memory(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let name = format!("/mmapdemo-{}", std::process::id());
    let path = Path::new("/dev/shm").join(name.trim_start_matches('/'));
    let made = errand::run("a maker", || {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR;
        let object = shm_open(name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let object = object.map_err(Error::call("shm_open()", &name))?;
        ftruncate(&object, PAGE_SIZE.try_into().unwrap_or(0))
            .map_err(Error::call("ftruncate()", &name))?;
        let mapping = Request::shared(&path).map()?;
        mapping.store_bytes(0, b"left behind")?;
        mapping.unmap().map_err(Error::call("munmap()", &name))?;
        Ok(path.exists())
    });
    let unmapped = made.inspect_err(|_| {
        // It may not have come to be; the first error is the one to tell.
        let _ = shm_unlink(name.as_str());
    })?;
    evidence.note("unmapped.exists", unmapped);
    evidence.note("ended.exists", path.exists());
    let content = std::fs::read(&path).unwrap_or_default();
    evidence.note("ended.content", content.get(..11).unwrap_or_default());
    evidence.note("maker.stored", &b"left behind"[..]);
    evidence.note("removed.unlink", shm_unlink(name.as_str()));
    evidence.note("removed.exists", path.exists());
    Ok(evidence)
}
