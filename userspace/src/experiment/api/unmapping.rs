//! Unmapping: what munmap takes away, given what.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use super::{extent, note_map};
use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::probe::{Access, Call, call, touch};
use crate::sys::{Mapping, PAGE_SIZE};
use crate::sysctl::Sysctl;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "partial-munmap",
        summary: "Unmaps one byte on the second of five pages of a file, one byte of the device, one page of a \
                  mapping of 10000 bytes, and a range with a hole; looks at what is left.",
        run: partial_munmap,
    },
    Experiment {
        name: "munmap-addresses",
        summary: "Gives munmap the address that mmap returned, the next byte, the next page, and addresses where \
                  nothing is mapped, or nothing any more.",
        run: munmap_addresses,
    },
    Experiment {
        name: "munmap-answers",
        summary: "Unmaps the device: properly, with length 0, from an odd address, after its file was closed, and \
                  where no user memory is. Then a sealed page, and one in the middle of a mapping while the \
                  process has as many mappings as vm.max_map_count allows, which is lowered for this.",
        run: munmap_answers,
    },
];

/// Few enough to be reached fast.
pub(super) const MAX_MAP_COUNT: usize = 400;

fn partial_munmap(fixture: &Fixture) -> Result<Evidence> {
    // What is left over ends with the child.
    errand::run("who unmaps parts", || {
        let mut evidence = Evidence::new();
        let file = MemFile::filled(5 * PAGE_SIZE)?;
        let pages = Request::shared(file.path()).len(5 * PAGE_SIZE).map()?;
        let first = pages.addr();
        evidence.note("one-byte.munmap", pages.unmap_part(PAGE_SIZE, 1));
        for (page, name) in ["first", "second", "third"].into_iter().enumerate() {
            let loaded = touch(first + page * PAGE_SIZE, Access::Load)?;
            evidence.note(format!("{name}-page.load"), loaded);
        }
        evidence.note("before.left", extent(first)?);
        evidence.note("after.left", extent(first + 2 * PAGE_SIZE)?);

        let device = Request::shared(fixture.device.node()).len(4_000).map()?;
        let addr = device.addr();
        evidence.note("device.munmap", device.unmap_part(0, 1));
        evidence.note("device.load", touch(addr + 3_999, Access::Load)?);

        let three = Request::shared(file.path()).len(10_000).map()?;
        let second = three.addr() + PAGE_SIZE;
        evidence.note("too-short.munmap", three.unmap_part(0, PAGE_SIZE));
        evidence.note("too-short.left", extent(second)?);

        let (left, _right) = with_hole()?;
        let holey = call(left.addr(), 3 * PAGE_SIZE, Call::Unmap)?;
        evidence.note("with-hole.munmap", holey);
        Ok(evidence)
    })
}

/// Two pages with nothing between them, where a third could be.
fn with_hole() -> Result<(Mapping, Mapping)> {
    let request = Request::anonymous(libc::MAP_PRIVATE).len(3 * PAGE_SIZE);
    let mut left = request.map()?;
    let mut hole = left.split_off(PAGE_SIZE)?;
    let right = hole.split_off(PAGE_SIZE)?;
    let unmapped = hole.unmap();
    unmapped.map_err(Error::call("munmap()", "the middle page of three"))?;
    Ok((left, right))
}

fn munmap_addresses(_fixture: &Fixture) -> Result<Evidence> {
    errand::run("who unmaps here and there", || {
        let mut evidence = Evidence::new();
        let file = MemFile::filled(3 * PAGE_SIZE)?;
        let map = || Request::shared(file.path()).len(3 * PAGE_SIZE).map();
        let returned = map()?;
        let addr = returned.addr();
        evidence.note("returned.munmap", returned.unmap_part(0, 3 * PAGE_SIZE));
        evidence.note("returned.left", extent(addr)?);
        evidence.note("again.munmap", call(addr, 3 * PAGE_SIZE, Call::Unmap)?);
        evidence.note("next-byte.munmap", map()?.unmap_part(1, PAGE_SIZE));
        let mapping = map()?;
        let addr = mapping.addr();
        evidence.note("next-page.munmap", mapping.unmap_part(PAGE_SIZE, PAGE_SIZE));
        evidence.note("next-page.load", touch(addr + PAGE_SIZE, Access::Load)?);
        let (left, _right) = with_hole()?;
        let hole = left.addr() + PAGE_SIZE;
        evidence.note("hole.mapped", extent(hole)?);
        evidence.note("hole.munmap", call(hole, PAGE_SIZE, Call::Unmap)?);
        Ok(evidence)
    })
}

fn munmap_answers(fixture: &Fixture) -> Result<Evidence> {
    /// The first address of the kernel's half, `Documentation/arch/x86/x86_64/mm.rst`.
    const KERNEL_HALF: usize = 1 << 63;
    let low = Sysctl::set("vm.max_map_count", MAX_MAP_COUNT as u64)?;
    let answers = errand::run("who unmaps the device", || {
        let mut evidence = Evidence::new();
        let request = Request::shared(fixture.device.node());
        let device = fixture.device.open()?;
        let number = device.as_raw_fd();
        let map = || -> Result<Mapping> {
            let mapped = Mapping::new(request.call(), Some(device.as_fd()));
            mapped.map_err(Error::call("mmap()", "the device"))
        };
        evidence.note("whole.munmap", map()?.unmap_part(0, PAGE_SIZE));
        evidence.note("no-length.munmap", map()?.unmap_part(0, 0));
        evidence.note("uneven.munmap", request.map()?.unmap_part(1, 1));
        evidence.note("kernel.munmap", call(KERNEL_HALF, PAGE_SIZE, Call::Unmap)?);
        let sealed = map()?;
        evidence.note("sealed.mseal", sealed.seal());
        evidence.note("sealed.munmap", sealed.unmap_part(0, PAGE_SIZE));
        evidence.note("middle.munmap", at_the_limit(&map)?);
        let mapping = map()?;
        drop(device);
        note_map(
            &mut evidence,
            "closed",
            Mapping::of_number(request.call(), number),
        );
        evidence.note("closed.munmap", mapping.unmap_part(0, PAGE_SIZE));
        Ok(evidence)
    });
    low.restore()?;
    answers
}

/// Unmaps the middle of three pages when there can be no more VMAs. Those of a device are never merged.
fn at_the_limit(map: &impl Fn() -> Result<Mapping>) -> Result<Result<(), Errno>> {
    let file = MemFile::new(3 * PAGE_SIZE)?;
    let three = Request::shared(file.path()).len(3 * PAGE_SIZE).map()?;
    // No memory is asked for at the limit.
    let mut others = Vec::with_capacity(MAX_MAP_COUNT + 1);
    while others.len() < others.capacity() {
        let Ok(other) = map() else { break };
        others.push(other);
    }
    Ok(three.unmap_part(PAGE_SIZE, PAGE_SIZE))
}
