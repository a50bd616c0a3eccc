//! Ignored: flags that the kernel takes and does nothing about, and what they are said to do.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::mman::ProtFlags;
use nix::sys::stat::Mode as Permissions;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{ftruncate, write};

use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::{CallEnd, Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Mode, Request, open};
use crate::probe::{Access, RETURN_42, touch};
use crate::procfs::{self, Vma};
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "deny-write",
        summary: "Maps a file in memory and the device with MAP_DENYWRITE, has another process open, truncate and \
                  write the file, and write the device, and compares the areas with those of plain mappings. Then \
                  tries to open this program itself for writing.",
        run: deny_write,
    },
    Experiment {
        name: "map-executable",
        summary: "Maps a file with machine code in it with MAP_EXECUTABLE but not PROT_EXEC, and calls the code; \
                  then the same with PROT_EXEC. Then the same with the device.",
        run: map_executable,
    },
    Experiment {
        name: "compatible-flags",
        summary: "Compares the numbers of MAP_ANON, MAP_ANONYMOUS and MAP_FILE, and maps memory and a file by each \
                  of them.",
        run: compatible_flags,
    },
    Experiment {
        name: "anonymous-names",
        summary: "Maps anonymous memory private and twice shared, and looks in /proc at the files behind it.",
        run: anonymous_names,
    },
];

fn area(mapping: &Mapping) -> Result<Vma> {
    procfs::vma(mapping.addr())?.ok_or_else(|| Error::Garbled {
        what: "/proc/self/smaps".to_owned(),
        detail: "no area of a mapping".to_owned(),
    })
}

fn deny_write(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let file = MemFile::filled(PAGE_SIZE)?;
    fixture.device.fill(1)?;
    evidence.note("other.stored", &b"W"[..]);
    let objects = [
        ("file", file.path(), true),
        ("device", fixture.device.node(), false),
    ];
    for (name, path, truncates) in objects {
        let plain = Request::shared(path).map()?;
        let flags = libc::MAP_SHARED | libc::MAP_DENYWRITE;
        let denying = Request::shared(path).flags(flags).map()?;
        evidence.note(format!("{name}.plain-flags"), area(&plain)?.flags);
        evidence.note(format!("{name}.flags"), area(&denying)?.flags);
        let (truncate, written) = errand::run("another process", || overwrite(path, truncates))?;
        if truncates {
            evidence.note(format!("{name}.truncate"), truncate);
        }
        evidence.note(format!("{name}.write"), written);
        evidence.note(format!("{name}.byte"), denying.load_bytes(0, 1)?);
    }
    let program = nix::fcntl::open("/proc/self/exe", OFlag::O_WRONLY, Permissions::empty());
    evidence.note("program.open", program);
    Ok(evidence)
}

/// Opens for writing, cuts the object off if it can be, and writes a byte.
fn overwrite(path: &Path, truncates: bool) -> Result<(CallEnd, CallEnd)> {
    let file = open(path, Mode::WriteOnly)?;
    let cut = if truncates {
        ftruncate(&file, 0)
    } else {
        Ok(())
    };
    Ok((cut.into(), write(file.as_fd(), b"W").into()))
}

fn map_executable(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let file = MemFile::new(PAGE_SIZE)?;
    let written = file.file().write_all_at(&RETURN_42, 0);
    written.map_err(Error::file("write", file.path()))?;
    fixture.device.write(0, &RETURN_42)?;
    let all = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE | ProtFlags::PROT_EXEC;
    for (name, path) in [("file", file.path()), ("device", fixture.device.node())] {
        let flags = libc::MAP_SHARED | libc::MAP_EXECUTABLE;
        let flagged = Request::shared(path).flags(flags).map()?;
        let plain = Request::shared(path).map()?;
        evidence.note(format!("{name}.plain-flags"), area(&plain)?.flags);
        evidence.note(format!("{name}.flags"), area(&flagged)?.flags);
        evidence.note(format!("{name}.call"), touch(flagged.addr(), Access::Call)?);
        let allowed = Request::shared(path).prot(all).map()?;
        evidence.note(format!("{name}.prot-flags"), area(&allowed)?.flags);
        let called = touch(allowed.addr(), Access::Call)?;
        evidence.note(format!("{name}.prot-call"), called);
    }
    Ok(evidence)
}

fn compatible_flags(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let file = MemFile::new(PAGE_SIZE)?;
    let number = |flag: i32| u64::from(flag.unsigned_abs());
    for (name, flag) in [
        ("anonymous", libc::MAP_ANONYMOUS),
        ("anon", libc::MAP_ANON),
        ("file", libc::MAP_FILE),
    ] {
        evidence.note(format!("{name}.number"), number(flag));
        let memory = Request::anonymous(0).flags(libc::MAP_PRIVATE | flag);
        let mapped = CallEnd::from(memory.try_map()?);
        evidence.note(format!("{name}.memory"), mapped);
        let alone = Request::shared(file.path()).flags(flag).try_map()?;
        evidence.note(format!("{name}.alone"), alone);
    }
    let flagged = Request::shared(file.path()).flags(libc::MAP_SHARED | libc::MAP_FILE);
    evidence.note("file.shared", flagged.try_map()?);
    Ok(evidence)
}

fn anonymous_names(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let private = Request::anonymous(libc::MAP_PRIVATE).map()?;
    let shared = Request::anonymous(libc::MAP_SHARED).map()?;
    let other = Request::anonymous(libc::MAP_SHARED).map()?;
    for (name, mapping) in [
        ("private", &private),
        ("shared", &shared),
        ("other", &other),
    ] {
        let vma = area(mapping)?;
        let link = format!("/proc/self/map_files/{:x}-{:x}", vma.start, vma.end);
        evidence.note(format!("{name}.inode"), vma.inode);
        let words = vma.name.split_whitespace().map(str::to_owned).collect();
        evidence.note(format!("{name}.name"), Value::Words(words));
        let behind = statfs(Path::new(&link));
        evidence.note(
            format!("{name}.on-tmpfs"),
            behind.is_ok_and(|behind| behind.filesystem_type() == TMPFS_MAGIC),
        );
        let looked: Result<_, Errno> = behind.map(drop);
        evidence.note(format!("{name}.file"), looked);
    }
    Ok(evidence)
}
