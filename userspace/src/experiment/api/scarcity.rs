//! Scarcity: what mmap refuses because there is not enough, or may not be more.

use std::fs;
use std::os::fd::AsFd;

use nix::fcntl::OFlag;
use nix::sys::mman::ProtFlags;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::Mode;

use super::note_map;
use super::unmapping::MAX_MAP_COUNT;
use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::sys::{Mapping, PAGE_SIZE};
use crate::sysctl::Sysctl;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "no-more-files",
        summary: "Sets fs.file-max to 0. A child without privileges then opens a file, and maps the device and a \
                  file that were open before, and anonymous memory, private and shared. Afterwards it maps again.",
        run: no_more_files,
    },
    Experiment {
        name: "no-more-memory",
        summary: "Maps 64 TiB, once without and once with access; beyond RLIMIT_AS; and, with vm.max_map_count \
                  lowered, 1000 pages alike one by one, then pages of which every second has another protection.",
        run: no_more_memory,
    },
];

fn no_more_files(fixture: &Fixture) -> Result<Evidence> {
    let (device, file) = (fixture.device.open()?, MemFile::new(PAGE_SIZE)?);
    let shared = Request::anonymous(libc::MAP_SHARED);
    let none = Sysctl::set("fs.file-max", 0)?;
    let evidence = errand::run_as_nobody("who may open nothing", || {
        let mut evidence = Evidence::new();
        let opened = nix::fcntl::open("/dev/null", OFlag::O_CLOEXEC, Mode::empty());
        evidence.note("null.open", opened);
        let call = Request::shared("").call();
        note_map(
            &mut evidence,
            "device",
            Mapping::new(call, Some(device.as_fd())),
        );
        note_map(
            &mut evidence,
            "file",
            Mapping::new(call, Some(file.file().as_fd())),
        );
        let private = Request::anonymous(libc::MAP_PRIVATE);
        note_map(&mut evidence, "private-anonymous", private.try_map()?);
        note_map(&mut evidence, "shared-anonymous", shared.try_map()?);
        Ok(evidence)
    });
    let mut privileged = Evidence::new();
    note_map(&mut privileged, "privileged", shared.try_map()?);
    none.restore()?;
    let mut evidence = evidence?;
    evidence.extend(privileged);
    evidence.extend(errand::run_as_nobody("who may open files again", || {
        let mut evidence = Evidence::new();
        note_map(&mut evidence, "restored", shared.try_map()?);
        Ok(evidence)
    })?);
    Ok(evidence)
}

fn no_more_memory(_fixture: &Fixture) -> Result<Evidence> {
    let low = Sysctl::set("vm.max_map_count", MAX_MAP_COUNT as u64)?;
    let counted = errand::run("who has many mappings", many_mappings);
    low.restore()?;
    let mut evidence = counted?;
    evidence.extend(errand::run("who asks for much", || {
        let mut evidence = Evidence::new();
        let huge = Request::anonymous(libc::MAP_PRIVATE).len(1 << 46);
        let reserved = huge.clone().prot(ProtFlags::PROT_NONE);
        note_map(&mut evidence, "reserved", reserved.try_map()?);
        note_map(&mut evidence, "promised", huge.try_map()?);
        let some = reserved.len(1 << 31);
        note_map(&mut evidence, "unlimited", some.try_map()?);
        setrlimit(Resource::RLIMIT_AS, 1 << 30, 1 << 30)
            .map_err(Error::call("setrlimit(RLIMIT_AS)", "a child"))?;
        note_map(&mut evidence, "limited", some.try_map()?);
        Ok(evidence)
    })?);
    Ok(evidence)
}

fn many_mappings() -> Result<Evidence> {
    const NR_ALIKE: usize = 1_000;
    let mut evidence = Evidence::new();
    evidence.note("limit.maps", MAX_MAP_COUNT as u64);
    let page = Request::anonymous(libc::MAP_PRIVATE);
    let mut alike = Vec::with_capacity(NR_ALIKE);
    for _ in 0..NR_ALIKE {
        match page.try_map()? {
            Ok(mapping) => alike.push(mapping),
            Err(_) => break,
        }
    }
    evidence.note("alike.mapped", alike.len() as u64);
    drop(alike);
    let mut unlike = page.len(2 * NR_ALIKE * PAGE_SIZE).map()?;
    let protected = (0..NR_ALIKE).try_for_each(|pair| {
        unlike.protect_part(2 * pair * PAGE_SIZE, PAGE_SIZE, ProtFlags::PROT_NONE)
    });
    evidence.note("unlike.mprotect", protected);
    let maps = "/proc/self/maps";
    let lines = fs::read_to_string(maps).map_err(Error::file("read", maps))?;
    evidence.note("unlike.maps", lines.lines().count() as u64);
    let different = Request::anonymous(libc::MAP_SHARED);
    let _another = note_map(&mut evidence, "another", different.try_map()?);
    note_map(&mut evidence, "yet-another", different.try_map()?);
    Ok(evidence)
}
