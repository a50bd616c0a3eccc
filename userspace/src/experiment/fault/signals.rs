//! Signals: what an access that the kernel does not allow raises, with `si_code` and address.

use std::os::fd::AsFd;

use nix::sys::mman::{MmapAdvise, ProtFlags};
use nix::sys::resource::{Resource, setrlimit};

use crate::error::{Error, Result};
use crate::evidence::{Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::probe::{Access, RETURN_42, touch};
use crate::process::Process;
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};
use crate::turn::TURN;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "readonly-store",
        summary: "Stores into a read-only mapping of the device, and into one made read-only by mprotect; then has \
                  the kernel copy into it by read(2).",
        run: readonly_store,
    },
    Experiment {
        name: "fault-table",
        summary: "Touches, each in a child of its own: memory never mapped, address 0, kernel memory, memory \
                  without permission, a page beyond the end of a file, a page cut off by truncation, and the device \
                  after MADV_DONTNEED.",
        run: fault_table,
    },
    Experiment {
        name: "after-munmap",
        summary: "Loads from a mapping of the device, unmaps it, makes sure that nothing else has taken its place, \
                  and loads again.",
        run: after_munmap,
    },
    Experiment {
        name: "unguarded-store",
        summary: "A child without a signal handler stores into a read-only mapping of the device; so does one with \
                  a handler.",
        run: unguarded_store,
    },
    Experiment {
        name: "guard-pages",
        summary: "Puts the device between two PROT_NONE pages and touches the byte before it, its first and last \
                  byte, and the byte after it. Then makes the device itself PROT_NONE.",
        run: guard_pages,
    },
    Experiment {
        name: "execute",
        summary: "Stores the machine code of a function that returns 42 into a shared mapping of the device and \
                  calls it, without PROT_EXEC and with it.",
        run: execute,
    },
];

const BOTH: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

/// Somewhere inside the page, so that an address rounded down would show.
const INSIDE: usize = 123;

fn readonly_store(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let mut writable = fixture.device.map_shared()?;
    let readonly = Request::shared(fixture.device.node())
        .prot(ProtFlags::PROT_READ)
        .map()?;
    evidence.note(
        "writable.store",
        touch(writable.addr() + INSIDE, Access::Store(1))?,
    );
    evidence.note(
        "readonly.load",
        touch(readonly.addr() + INSIDE, Access::Load)?,
    );
    evidence.note(
        "readonly.target",
        Value::Addr((readonly.addr() + INSIDE) as u64),
    );
    evidence.note(
        "readonly.store",
        touch(readonly.addr() + INSIDE, Access::Store(1))?,
    );
    let protected = writable.protect(ProtFlags::PROT_READ);
    evidence.note("mprotect.call", protected);
    evidence.note(
        "mprotect.target",
        Value::Addr((writable.addr() + INSIDE) as u64),
    );
    evidence.note(
        "mprotect.store",
        touch(writable.addr() + INSIDE, Access::Store(1))?,
    );
    let device = fixture.device.open()?;
    evidence.note("kernel.copy", readonly.read_from(device.as_fd(), 0, 1));
    Ok(evidence)
}

fn fault_table(fixture: &Fixture) -> Result<Evidence> {
    /// The begin of the kernel's text, `Documentation/arch/x86/x86_64/mm.rst`.
    const KERNEL_TEXT: usize = 0xffff_ffff_8100_0000;
    let mut evidence = Evidence::new();
    let mut try_address = |name: &str, addr: usize, access| -> Result<()> {
        evidence.note(format!("{name}.target"), Value::Addr(addr as u64));
        evidence.note(format!("{name}.touch"), touch(addr, access)?);
        Ok(())
    };
    try_address("null", 0, Access::Load)?;
    try_address("kernel", KERNEL_TEXT, Access::Load)?;
    try_address("unmapped", free_address()?, Access::Load)?;

    let none = Request::anonymous(libc::MAP_PRIVATE)
        .prot(ProtFlags::PROT_NONE)
        .map()?;
    try_address("none", none.addr(), Access::Load)?;
    let readonly = Request::shared(fixture.device.node())
        .prot(ProtFlags::PROT_READ)
        .map()?;
    try_address("readonly", readonly.addr(), Access::Store(1))?;

    let file = MemFile::new(2 * PAGE_SIZE)?;
    let beyond = Request::shared(file.path()).len(3 * PAGE_SIZE).map()?;
    try_address("beyond-end", beyond.addr() + 2 * PAGE_SIZE, Access::Load)?;
    beyond.store(PAGE_SIZE, 1)?;
    let cut = file.file().set_len(PAGE_SIZE as u64);
    cut.map_err(Error::file("truncate", file.path()))?;
    try_address("cut-off", beyond.addr() + PAGE_SIZE, Access::Load)?;

    let mut device = fixture.device.map_shared()?;
    let dropped = device.advise(MmapAdvise::MADV_DONTNEED);
    try_address("dropped", device.addr(), Access::Load)?;
    evidence.note("dropped.madvise", dropped);
    Ok(evidence)
}

/// An address at which nothing is mapped.
fn free_address() -> Result<usize> {
    let mapping = Request::anonymous(libc::MAP_PRIVATE)
        .len(16 * PAGE_SIZE)
        .map()?;
    let addr = mapping.addr();
    mapping
        .unmap()
        .map_err(Error::call("munmap()", "a reserved range"))?;
    Ok(addr)
}

fn after_munmap(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let mapping = fixture.device.map_shared()?;
    let target = mapping.addr() + INSIDE;
    evidence.note("target.addr", Value::Addr(target as u64));
    evidence.note("before.load", touch(target, Access::Load)?);
    evidence.note("munmap.call", mapping.unmap());
    evidence.note("target.free", procfs::vma(target)?.is_none());
    evidence.note("after.load", touch(target, Access::Load)?);
    evidence.note("after.store", touch(target, Access::Store(1))?);
    Ok(evidence)
}

fn unguarded_store(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let readonly = Request::shared(fixture.device.node())
        .prot(ProtFlags::PROT_READ)
        .map()?;
    let innocent = Process::fork("the innocent", || i32::from(readonly.load(0).is_err()))?;
    evidence.note("innocent.end", innocent.wait(TURN)?);
    let victim = Process::fork("the victim", || {
        // The default action also writes a core file (signal(7)), which nobody wants to keep.
        let no_core = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        i32::from(no_core.is_err() || readonly.store(0, 1).is_err())
    })?;
    evidence.note("unguarded.end", victim.wait(TURN)?);
    // The probe's child has a handler, which reports and lets the child end by itself.
    evidence.note("guarded.store", touch(readonly.addr(), Access::Store(1))?);
    Ok(evidence)
}

fn guard_pages(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let guarded = Request::anonymous(libc::MAP_PRIVATE).prot(ProtFlags::PROT_NONE);
    let mut reserved = guarded.len(3 * PAGE_SIZE).map()?;
    let device = fixture.device.open()?;
    let request = Request::shared(fixture.device.node());
    let placed = reserved.replace_page(PAGE_SIZE, request.call(), Some(device.as_fd()));
    evidence.note("device.placed", placed);
    let (first, after) = (reserved.addr() + PAGE_SIZE, reserved.addr() + 2 * PAGE_SIZE);
    evidence.note("before.target", Value::Addr(first as u64 - 1));
    evidence.note("before.store", touch(first - 1, Access::Store(1))?);
    evidence.note("first.store", touch(first, Access::Store(1))?);
    evidence.note("last.store", touch(after - 1, Access::Store(1))?);
    evidence.note("after.target", Value::Addr(after as u64));
    evidence.note("after.load", touch(after, Access::Load)?);

    let mut closed = fixture.device.map_shared()?;
    let frame =
        |mapping: &Mapping| -> Result<Value> { Ok(Value::Pfn(procfs::page(mapping.addr())?.pfn)) };
    evidence.note("open.pfn", frame(&closed)?);
    evidence.note("closed.mprotect", closed.protect(ProtFlags::PROT_NONE));
    evidence.note("closed.load", touch(closed.addr(), Access::Load)?);
    evidence.note("closed.store", touch(closed.addr(), Access::Store(1))?);
    evidence.note("closed.pfn", frame(&closed)?);
    evidence.note("reopened.mprotect", closed.protect(BOTH));
    evidence.note("reopened.load", touch(closed.addr(), Access::Load)?);
    Ok(evidence)
}

fn execute(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let mut mapping = fixture.device.map_shared()?;
    mapping.store_bytes(0, &RETURN_42)?;
    evidence.note("code.target", Value::Addr(mapping.addr() as u64));
    evidence.note("without.call", touch(mapping.addr(), Access::Call)?);
    let executable = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
    evidence.note("with.mprotect", mapping.protect(executable));
    evidence.note("with.call", touch(mapping.addr(), Access::Call)?);
    Ok(evidence)
}
