//! Copies: what read(2) copies and a mapping does not, and the calls that takes.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};
use crate::evidence::{Evidence, Value};
use crate::experiment::Experiment;
use crate::faults;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};
use crate::syscalls;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "copied-bytes",
        summary: "Gets a page of the device by read(2) and by loads from a mapping, and looks each time at how \
                  much the kernel says to have copied for this process, and at the frame where the bytes are.",
        run: copied_bytes,
    },
    Experiment {
        name: "calls-made",
        summary: "A traced child gets 256 single bytes of the device by pread(2), another by loads from a \
                  mapping that it makes and unmaps; all their system calls are counted.",
        run: calls_made,
    },
];

fn copied_bytes(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0x5a)?;
    evidence.note("kernel.byte", vec![0x5a]);
    evidence.note("kernel.pfn", Value::Pfn(Some(fixture.device.pfn(0)?)));
    let device = fixture.device.open()?;
    let buffer = Request::anonymous(libc::MAP_PRIVATE | libc::MAP_POPULATE).map()?;
    let before = procfs::transferred()?;
    let read = buffer.read_from(device.as_fd(), 0, PAGE_SIZE);
    let (copied, _) = procfs::transferred()?.since(before);
    read.map_err(Error::call("read()", "the device"))?;
    evidence.note("read.copied", copied);
    evidence.note("read.bytes", buffer.load_bytes(0, 1)?);
    evidence.note("read.pfn", Value::Pfn(procfs::page(buffer.addr())?.pfn));

    let mapping = fixture.device.map_shared()?;
    let before = procfs::transferred()?;
    let loaded = mapping.load_bytes(0, PAGE_SIZE)?;
    let (copied, _) = procfs::transferred()?.since(before);
    evidence.note("mapped.copied", copied);
    evidence.note("mapped.bytes", loaded.get(..1).unwrap_or_default());
    evidence.note("mapped.pfn", Value::Pfn(procfs::page(mapping.addr())?.pfn));
    Ok(evidence)
}

const ACCESSES: usize = 256;

fn calls_made(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    evidence.note("accesses.number", ACCESSES as u64);
    let read = syscalls::count("the reader", || {
        let device = fixture.device.open()?;
        for offset in 0..ACCESSES {
            let read = device.read_exact_at(&mut [0], offset as u64);
            read.map_err(Error::file("read", fixture.device.node()))?;
        }
        Ok(())
    })?;
    evidence.note("read.calls", read);
    let mapped = syscalls::count("the mapper", || load_each(&fixture.device.map_shared()?))?;
    evidence.note("mapped.calls", mapped);
    let mapping = fixture.device.map_shared()?;
    evidence.note("mapped.faults", faults::count(&mapping, load_each)?.1);
    let loads = syscalls::count("the loader", || load_each(&mapping))?;
    evidence.note("loads.calls", loads);
    Ok(evidence)
}

fn load_each(mapping: &Mapping) -> Result<()> {
    (0..ACCESSES).try_for_each(|offset| mapping.load(offset).map(drop))
}
