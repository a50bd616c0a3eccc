//! Content: a file read, written and copied through memory.

use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use nix::sys::mman::{MsFlags, ProtFlags};

use crate::error::{Error, Result};
use crate::evidence::{Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Mode, Request};
use crate::probe::{Access, touch};
use crate::procfs;
use crate::sys::PAGE_SIZE;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "content-as-memory",
        summary: "Loads a page of the device and stores another content, counting the bytes that system calls move \
                  meanwhile; then does the same by read and write.",
        run: content_as_memory,
    },
    Experiment {
        name: "store-is-output",
        summary: "Another process stores a text into a shared mapping, of the device and of a file; read by a \
                  descriptor of its own must find it there, and so must seeking to the end find the length.",
        run: store_is_output,
    },
    Experiment {
        name: "read-only-view",
        summary: "Opens the device for reading only, maps it shared and only readable, and looks at what the kernel \
                  writes. Then stores, asks for the right to store, and synchronises.",
        run: read_only_view,
    },
    Experiment {
        name: "copy",
        summary: "Copies files of six lengths from one mapping to another; then maps an empty source, and stores to a \
                  destination that was not sized.",
        run: copy,
    },
];

fn content_as_memory(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0x6b)?;
    let mapping = fixture.device.map_shared()?;
    let expected = vec![0x6b; PAGE_SIZE];
    let device = fixture.device.open()?;
    let object = fixture.device.node();

    let before = procfs::transferred()?;
    let loaded = mapping.load_bytes(0, PAGE_SIZE)?;
    mapping.store_bytes(0, &expected)?;
    let (read, written) = procfs::transferred()?.since(before);
    evidence.note("mapping.read-bytes", read);
    evidence.note("mapping.written-bytes", written);
    evidence.note("mapping.content", loaded == expected);

    mapping.store_bytes(0, b"by a store")?;
    evidence.note("stored.bytes", &b"by a store"[..]);
    let mut bytes = vec![0; PAGE_SIZE];
    let before = procfs::transferred()?;
    device
        .read_exact_at(&mut bytes, 0)
        .map_err(Error::file("read", object))?;
    device
        .write_all_at(&bytes, 0)
        .map_err(Error::file("write", object))?;
    let (read, written) = procfs::transferred()?.since(before);
    evidence.note("calls.read-bytes", read);
    evidence.note("calls.written-bytes", written);
    bytes.truncate(b"by a store".len());
    evidence.note("calls.content", bytes);
    Ok(evidence)
}

fn store_is_output(fixture: &Fixture) -> Result<Evidence> {
    const TEXT: &[u8] = b"output";
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let file = MemFile::new(PAGE_SIZE)?;
    evidence.note("writer.stored", TEXT);
    for (name, path) in [("device", fixture.device.node()), ("file", file.path())] {
        let mut writer = fixture.actor("the writer")?;
        writer.map(&Request::shared(path))?;
        let mut reader = crate::object::open(path, Mode::ReadOnly)?;
        let mut bytes = vec![0; TEXT.len()];
        let mut read = |name: String, evidence: &mut Evidence| {
            reader
                .read_exact_at(&mut bytes, 0)
                .map_err(Error::file("read", path))?;
            evidence.note(name, bytes.clone());
            Ok::<_, Error>(())
        };
        read(format!("{name}.before"), &mut evidence)?;
        writer.store(0, TEXT)?;
        read(format!("{name}.read"), &mut evidence)?;
        let end = reader.seek(SeekFrom::End(0));
        evidence.note(
            format!("{name}.len"),
            end.map_err(Error::file("seek in", path))?,
        );
    }
    Ok(evidence)
}

fn read_only_view(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0x11)?;
    let request = Request::shared(fixture.device.node())
        .prot(ProtFlags::PROT_READ)
        .mode(Mode::ReadOnly);
    let mut view = match request.try_map()? {
        Ok(view) => view,
        Err(errno) => {
            evidence.note("view.mmap", Err::<(), _>(errno));
            return Ok(evidence);
        }
    };
    evidence.note("view.mmap", Value::Call(crate::evidence::CallEnd::Ok));
    evidence.note("view.first", view.load_bytes(0, 1)?);
    fixture.device.fill(0x22)?;
    evidence.note("kernel.wrote", vec![0x22]);
    evidence.note("view.then", view.load_bytes(0, 1)?);
    evidence.note("view.store", touch(view.addr(), Access::Store(1))?);
    if let Some(vma) = procfs::vma(view.addr())? {
        evidence.note("view.mode", vma.mode.as_str());
        evidence.note("view.flags", vma.flags);
    }
    let writable = view.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
    evidence.note("view.mprotect", writable);
    evidence.note("view.msync", view.sync(MsFlags::MS_SYNC));
    Ok(evidence)
}

/// Around the length of a page, and two that are long.
const LENGTHS: [usize; 6] = [1, 4095, 4096, 4097, 10_000, 300_000];

fn copy(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let mut identical = 0;
    for len in LENGTHS {
        let (from, to) = (MemFile::new(0)?, MemFile::new(len)?);
        let content: Vec<_> = (0..len).map(|at| (at % 251).to_le_bytes()[0]).collect();
        from.file()
            .write_all_at(&content, 0)
            .map_err(Error::file("write", from.path()))?;
        let source = Request::shared(from.path()).len(len).map()?;
        let target = Request::shared(to.path()).len(len).map()?;
        target.store_bytes(0, &source.load_bytes(0, len)?)?;
        let mut copied = vec![0; len + 1];
        let read = to.file().read_at(&mut copied, 0);
        let read = read.map_err(Error::file("read", to.path()))?;
        identical += u64::from(copied.get(..read) == Some(&content));
    }
    evidence.note("copies.made", LENGTHS.len() as u64);
    evidence.note("copies.identical", identical);
    let empty = MemFile::new(0)?;
    let mapped = Request::shared(empty.path()).len(0).try_map()?;
    evidence.note("empty-source.mmap", mapped);
    let unsized_target = Request::shared(empty.path()).map()?;
    let stored = touch(unsized_target.addr(), Access::Store(1))?;
    evidence.note("unsized-target.store", stored);
    Ok(evidence)
}
