//! Channel: what a message costs by a pipe and by a page of the device, in instructions.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::steps;
use crate::cost;
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "page-cost",
        summary: "Counts the instructions of producing a page of numbers and adding them up again: handed over \
                  by a pipe from one buffer to another, and in place in a mapping of the device. Looks at the \
                  frames behind both.",
        run: page_cost,
    },
    Experiment {
        name: "message-cost",
        summary: "Counts the instructions of handing over 8 bytes: by pread(2) and by a mapping of the device \
                  when either is opened for this alone, and by a pipe and a mapping that are in place; and those \
                  of each step of a mapping's life, shared and private.",
        run: message_cost,
    },
];

const LONG: usize = size_of::<u64>();

/// Produces a page of numbers.
fn produce(page: &Mapping) -> Result<()> {
    for offset in (0..PAGE_SIZE).step_by(LONG) {
        page.long(offset)?.store(offset as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Adds them up.
fn consume(page: &Mapping) -> Result<u64> {
    let mut sum = 0_u64;
    for offset in (0..PAGE_SIZE).step_by(LONG) {
        sum = sum.wrapping_add(page.long(offset)?.load(Ordering::Relaxed));
    }
    Ok(sum)
}

/// The end to read from, and the one to write to.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe2()", "a channel"))
}

fn own_page() -> Result<Mapping> {
    Request::anonymous(libc::MAP_PRIVATE | libc::MAP_POPULATE).map()
}

fn send(from: &Mapping, to: &Mapping, pipe: &(OwnedFd, OwnedFd), len: usize) -> Result<()> {
    let (hear, say) = pipe;
    let written = from.write_to(say.as_fd(), 0, len);
    written.map_err(Error::call("write()", "a pipe"))?;
    let read = to.read_from(hear.as_fd(), 0, len);
    read.map(drop).map_err(Error::call("read()", "a pipe"))
}

fn page_cost(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let (from, to, pipe) = (own_page()?, own_page()?, pipe()?);
    let mut sum = 0;
    let piped = cost::warm(|| {
        produce(&from)?;
        send(&from, &to, &pipe, PAGE_SIZE)?;
        sum = consume(&to)?;
        Ok(())
    })?;
    evidence.note("pipe.sum", sum);
    evidence.note("pipe.instructions", piped);
    let frame = |mapping: &Mapping| Ok::<_, Error>(Value::Pfn(procfs::page(mapping.addr())?.pfn));
    evidence.note("pipe.from-pfn", frame(&from)?);
    evidence.note("pipe.to-pfn", frame(&to)?);

    let mapping = fixture.device.map_shared()?;
    let mut sum = 0;
    let mapped = cost::warm(|| {
        produce(&mapping)?;
        sum = consume(&mapping)?;
        Ok(())
    })?;
    evidence.note("mapping.sum", sum);
    evidence.note("mapping.instructions", mapped);
    evidence.note("mapping.pfn", frame(&mapping)?);
    evidence.note("kernel.pfn", Value::Pfn(Some(fixture.device.pfn(0)?)));
    let seen_by_kernel = fixture.device.read(PAGE_SIZE - LONG, LONG)?;
    evidence.note("mapping.last", mapping.load_bytes(PAGE_SIZE - LONG, LONG)?);
    evidence.note("kernel.last", seen_by_kernel);
    Ok(evidence)
}

fn message_cost(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let read = cost::warm(|| {
        let read = fixture.device.open()?.read_exact_at(&mut [0; LONG], 0);
        read.map_err(Error::file("read", fixture.device.node()))
    })?;
    evidence.note("once.read-instructions", read);
    let mapped = cost::warm(|| {
        let mapping = fixture.device.map_shared()?;
        mapping.long(0)?.load(Ordering::Acquire);
        Ok(())
    })?;
    evidence.note("once.mapping-instructions", mapped);

    let (from, to, pipe) = (own_page()?, own_page()?, pipe()?);
    let piped = cost::warm(|| send(&from, &to, &pipe, LONG))?;
    evidence.note("each.pipe-instructions", piped);
    let mapping = fixture.device.map_shared()?;
    let stored = cost::warm(|| {
        mapping.long(0)?.store(1, Ordering::Release);
        mapping.long(0)?.load(Ordering::Acquire);
        Ok(())
    })?;
    evidence.note("each.mapping-instructions", stored);
    steps::note_costs(&fixture.device, &mut evidence)?;
    Ok(evidence)
}
