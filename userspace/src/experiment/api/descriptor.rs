//! Descriptor: which numbers mmap takes for a file, and what becomes of the file afterwards.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use nix::errno::Errno;
use nix::sys::mman::ProtFlags;
use nix::unistd::dup2_stdin;

use super::arguments::NOT_OPEN;
use super::note_map;
use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::{CallEnd, Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Mode, Request, open};
use crate::sys::{Mapping, PAGE_SIZE, mmap_returns};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "returned-values",
        summary: "Makes a call of mmap that succeeds, and five that fail for different reasons, and notes the bare \
                  number returned and errno.",
        run: returned_values,
    },
    Experiment {
        name: "ignored-descriptors",
        summary: "Maps anonymous memory with the descriptors -1, 9999 and the open device, fills it, and reads the \
                  device. Then tries -1 without MAP_ANONYMOUS.",
        run: ignored_descriptors,
    },
    Experiment {
        name: "descriptor-zero",
        summary: "A child makes the device its standard input, descriptor 0, and maps that.",
        run: descriptor_zero,
    },
    Experiment {
        name: "closed-after-mmap",
        summary: "Maps the device, closes the descriptor, stores, and unmaps; asks the driver by another \
                  descriptor what it sees. Does the same to a file that has no other name.",
        run: closed_after_mmap,
    },
    Experiment {
        name: "open-mode-and-prot",
        summary: "Maps the device read-only, write-only and both, shared and private, open in each mode; then tries \
                  to make what was mapped for reading writable.",
        run: open_mode_and_prot,
    },
    Experiment {
        name: "bad-descriptors",
        summary: "Maps under the numbers -1, 9999, that of a device just closed, and that of a device opened for \
                  its path only.",
        run: bad_descriptors,
    },
];

fn returned_values(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let node = fixture.device.node();
    let (device, read_only) = (fixture.device.open()?, open(node, Mode::ReadOnly)?);
    let folder = open("/".as_ref(), Mode::ReadOnly)?;
    let call = Request::shared(node).call();
    let readable = Request::shared(node).prot(ProtFlags::PROT_READ);
    let anonymous = Request::anonymous(libc::MAP_PRIVATE);
    let cases = [
        ("mapped", call, device.as_raw_fd()),
        ("not-open", call, NOT_OPEN),
        (
            "zero-length",
            Request::shared(node).len(0).call(),
            device.as_raw_fd(),
        ),
        ("read-only", call, read_only.as_raw_fd()),
        ("folder", readable.call(), folder.as_raw_fd()),
        ("endless", anonymous.len(usize::MAX - 100).call(), -1),
    ];
    let failed = libc::MAP_FAILED.expose_provenance();
    evidence.note("map-failed.value", Value::Addr(failed as u64));
    for (who, call, fd) in cases {
        let (returned, errno) = mmap_returns(call, fd);
        evidence.note(format!("{who}.returned"), Value::Addr(returned as u64));
        evidence.note(format!("{who}.page-aligned"), returned % PAGE_SIZE == 0);
        let end = match errno {
            0 => CallEnd::Ok,
            errno => CallEnd::from(Err::<(), _>(Errno::from_raw(errno))),
        };
        evidence.note(format!("{who}.errno"), end);
    }
    Ok(evidence)
}

fn ignored_descriptors(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0x11)?;
    evidence.note("device.before", fixture.device.read(0, 4)?);
    let device = fixture.device.open()?;
    let call = Request::anonymous(libc::MAP_PRIVATE).call();
    let numbers = [
        ("minus-one", -1),
        ("not-open", NOT_OPEN),
        ("device", device.as_raw_fd()),
    ];
    for (who, number) in numbers {
        let mapped = Mapping::of_number(call, number);
        if let Some(mapping) = note_map(&mut evidence, who, mapped) {
            evidence.note(format!("{who}.bytes"), mapping.load_bytes(0, 4)?);
            mapping.store_bytes(0, &[0x22; 4])?;
        }
    }
    evidence.note("device.after", fixture.device.read(0, 4)?);
    let named = Request::shared(fixture.device.node()).call();
    note_map(
        &mut evidence,
        "not-anonymous",
        Mapping::of_number(named, -1),
    );
    Ok(evidence)
}

fn descriptor_zero(fixture: &Fixture) -> Result<Evidence> {
    const STORED: &[u8] = &[0x44; 4];
    fixture.device.fill(0x33)?;
    let mut evidence = errand::run("whose input is the device", || {
        let mut evidence = Evidence::new();
        let device = fixture.device.open()?;
        let node = fixture.device.node();
        dup2_stdin(&device).map_err(Error::call("dup2(0)", node.display().to_string()))?;
        drop(device);
        let call = Request::shared(node).call();
        if let Some(mapping) = note_map(&mut evidence, "zero", Mapping::of_number(call, 0)) {
            evidence.note("zero.bytes", mapping.load_bytes(0, 4)?);
            mapping.store_bytes(4, STORED)?;
            evidence.note("zero.stored", STORED);
        }
        Ok(evidence)
    })?;
    evidence.note("kernel.bytes", fixture.device.read(0, 4)?);
    evidence.note("kernel.stored", fixture.device.read(4, 4)?);
    Ok(evidence)
}

fn closed_after_mmap(fixture: &Fixture) -> Result<Evidence> {
    const TEXT: &[u8] = b"kept";
    let mut evidence = Evidence::new();
    let device = fixture.device.open()?;
    let before = fixture.device.info()?.mappings;
    let call = Request::shared(fixture.device.node()).call();
    let mapping =
        Mapping::new(call, Some(device.as_fd())).map_err(Error::call("mmap()", "the device"))?;
    let number = device.as_raw_fd();
    drop(device);
    note_map(&mut evidence, "again", Mapping::of_number(call, number));
    let mappings = || -> Result<u64> { Ok(fixture.device.info()?.mappings - before) };
    evidence.note("closed.mappings", mappings()?);
    mapping.store_bytes(0, TEXT)?;
    evidence.note("mapping.stored", TEXT);
    evidence.note("kernel.bytes", fixture.device.read(0, TEXT.len())?);
    evidence.note("mapping.munmap", mapping.unmap());
    evidence.note("unmapped.mappings", mappings()?);
    let file = MemFile::new(PAGE_SIZE)?;
    let written = file.file().write_all_at(TEXT, 0);
    written.map_err(Error::file("write", file.path()))?;
    let nameless = Request::shared(file.path()).map()?;
    drop(file);
    evidence.note("nameless.bytes", nameless.load_bytes(0, TEXT.len())?);
    Ok(evidence)
}

fn open_mode_and_prot(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let node = fixture.device.node();
    let (read, write) = (ProtFlags::PROT_READ, ProtFlags::PROT_WRITE);
    let modes = [
        ("rdonly", Mode::ReadOnly),
        ("wronly", Mode::WriteOnly),
        ("rdwr", Mode::ReadWrite),
    ];
    for (mode_name, mode) in modes {
        let kinds = [
            ("shared", Request::shared(node)),
            ("private", Request::private(node)),
        ];
        for (kind, request) in kinds {
            let request = request.mode(mode);
            for (prot_name, prot) in [("r", read), ("w", write), ("rw", read | write)] {
                let mapped = request.clone().prot(prot).try_map()?;
                let who = format!("{mode_name}-{kind}-{prot_name}");
                let mapping = note_map(&mut evidence, &who, mapped);
                if let (Some(mut mapping), "r") = (mapping, prot_name) {
                    evidence.note(format!("{who}.upgrade"), mapping.protect(read | write));
                }
            }
        }
    }
    Ok(evidence)
}

fn bad_descriptors(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let node = fixture.device.node();
    let call = Request::shared(node).call();
    let device = fixture.device.open()?;
    let number = device.as_raw_fd();
    note_map(&mut evidence, "open", Mapping::of_number(call, number));
    drop(device);
    note_map(&mut evidence, "closed", Mapping::of_number(call, number));
    note_map(&mut evidence, "minus-one", Mapping::of_number(call, -1));
    note_map(
        &mut evidence,
        "not-open",
        Mapping::of_number(call, NOT_OPEN),
    );
    let mut options = OpenOptions::new();
    let path = options.read(true).custom_flags(libc::O_PATH).open(node);
    let path = path.map_err(Error::file("open", node))?;
    note_map(
        &mut evidence,
        "path-only",
        Mapping::new(call, Some(path.as_fd())),
    );
    let anonymous = Request::anonymous(libc::MAP_PRIVATE).call();
    note_map(
        &mut evidence,
        "anonymous",
        Mapping::of_number(anonymous, NOT_OPEN),
    );
    Ok(evidence)
}
