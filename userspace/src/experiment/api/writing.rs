//! Writing: which mappings bring a store into the object, and which part of it.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::sys::mman::ProtFlags;

use super::extent;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::map_call::MapCall;
use crate::object::{MemFile, Request};
use crate::probe::{Access, touch};
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "store-by-prot-read",
        summary: "Maps the device, open for reading and writing, with PROT_READ only, and stores there.",
        run: store_by_prot_read,
    },
    Experiment {
        name: "store-by-prot-write",
        summary: "Maps the device with PROT_WRITE only, shared and then private, stores, and asks the driver for \
                  the byte.",
        run: store_by_prot_write,
    },
    Experiment {
        name: "file-window",
        summary: "Maps the last of three pages of a file, loads from it and stores to it; reads and writes the \
                  same bytes by pread and pwrite.",
        run: file_window,
    },
];

fn store_by_prot_read(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0x11)?;
    evidence.note("kernel.before", fixture.device.read(0, 1)?);
    let mapping = Request::shared(fixture.device.node())
        .prot(ProtFlags::PROT_READ)
        .map()?;
    evidence.note("mapping.load", touch(mapping.addr(), Access::Load)?);
    evidence.note("mapping.store", touch(mapping.addr(), Access::Store(0x22))?);
    evidence.note("mapping.tried", vec![0x22]);
    evidence.note("kernel.byte", fixture.device.read(0, 1)?);
    let other = Request::shared(fixture.device.node()).map()?;
    evidence.note("writable.stored", vec![0x33]);
    evidence.note("writable.store", touch(other.addr(), Access::Store(0x33))?);
    evidence.note("kernel.next-byte", fixture.device.read(0, 1)?);
    Ok(evidence)
}

fn store_by_prot_write(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let node = fixture.device.node();
    for (who, request) in [
        ("shared", Request::shared(node)),
        ("private", Request::private(node)),
    ] {
        fixture.device.fill(0x11)?;
        evidence.note(format!("{who}.before"), fixture.device.read(0, 1)?);
        let mapping = request.prot(ProtFlags::PROT_WRITE).map()?;
        mapping.store(0, 0x22)?;
        evidence.note(format!("{who}.stored"), vec![0x22]);
        evidence.note(format!("{who}.mapping"), mapping.load_bytes(0, 1)?);
        evidence.note(format!("{who}.kernel"), fixture.device.read(0, 1)?);
    }
    Ok(evidence)
}

fn file_window(_fixture: &Fixture) -> Result<Evidence> {
    const OFFSET: usize = 2 * PAGE_SIZE;
    const AT: usize = 100;
    let mut evidence = Evidence::new();
    let file = MemFile::filled(3 * PAGE_SIZE)?;
    let write = |bytes: &[u8], at: usize| {
        let written = file.file().write_all_at(bytes, at as u64);
        written.map_err(Error::file("write", file.path()))
    };
    let read = |at: usize| {
        let mut bytes = [0; 4];
        let read = file.file().read_exact_at(&mut bytes, at as u64);
        read.map_err(Error::file("read", file.path()))?;
        Ok::<_, Error>(bytes.to_vec())
    };
    write(b"page", OFFSET)?;
    let call = MapCall {
        offset: i64::try_from(OFFSET).unwrap_or(i64::MAX),
        ..Request::shared("").call()
    };
    let window = Mapping::new(call, Some(file.file().as_fd()))
        .map_err(Error::call("mmap()", "the last page of a file"))?;
    evidence.note("window.mapped", extent(window.addr())?);
    evidence.note("window.bytes", window.load_bytes(0, 4)?);
    evidence.note("file.bytes", read(OFFSET)?);
    evidence.note("file.first-bytes", read(0)?);
    window.store_bytes(AT, b"from")?;
    evidence.note("window.stored", &b"from"[..]);
    evidence.note("file.stored", read(OFFSET + AT)?);
    Ok(evidence)
}
