//! Space: address spaces, who can reach what, and in what units.

use nix::sys::mman::ProtFlags;
use nix::sys::utsname::uname;
use nix::unistd::{SysconfVar, sysconf};
use std::os::fd::AsFd;

use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::{CallEnd, Evidence, Touch, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::kcore;
use crate::object::Request;
use crate::probe::{Access, RETURN_42, touch};
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE, deny_write_execute};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "same-address",
        summary: "A process has private memory at an address at which its child maps the device. The child stores, \
                  then unmaps, and both touch the address.",
        run: same_address,
    },
    Experiment {
        name: "kernel-address",
        summary: "Finds the kernel's own address of the device's page in /proc/kcore, reads the page there as root, \
                  and has a process load from that address, and from its own mapping.",
        run: kernel_address,
    },
    Experiment {
        name: "granule",
        summary: "Asks for the page size, and maps one byte of the device.",
        run: granule,
    },
    Experiment {
        name: "devices",
        summary: "Maps the device, stores, and has the driver read what was stored; and tries to map /dev/null.",
        run: devices,
    },
    Experiment {
        name: "write-and-execute",
        summary: "Maps anonymous memory for reading, writing and execution, puts code there and runs it; makes \
                  writable memory executable; and does both in a process that has asked for it to be denied.",
        run: write_and_execute,
    },
];

const BOTH: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);
const ALL_THREE: ProtFlags = BOTH.union(ProtFlags::PROT_EXEC);

fn same_address(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let page = Request::anonymous(libc::MAP_PRIVATE).map()?;
    page.store(0, 1)?;
    let addr = page.addr();
    evidence.note("parent.addr", Value::Addr(addr as u64));
    // The child takes the page out of its own copy of this, and unmaps it in its own address space.
    let mut slot = Some(page);
    let child = errand::run("the child", || replace_and_unmap(fixture, slot.take()))?;
    let (child_addr, before, after, gone) = child;
    evidence.note("child.addr", Value::Addr(child_addr));
    evidence.note("child.before", u64::from(before));
    evidence.note("child.after", u64::from(after));
    evidence.note("child.content", vec![after]);
    evidence.note("child.unmapped", gone);
    if let Some(page) = &slot {
        evidence.note("parent.value", u64::from(page.load(0)?));
    }
    evidence.note("device.content", fixture.device.read(0, 1)?);
    Ok(evidence)
}

/// Maps the device at the page's address, stores 2, and unmaps it. Returns the address, what was there before
/// and after the store, and how a touch ended in the end.
fn replace_and_unmap(fixture: &Fixture, page: Option<Mapping>) -> Result<(u64, u8, u8, Touch)> {
    let mut page = page.ok_or_else(|| Error::Gone {
        who: "the page".to_owned(),
        what: "the child had it".to_owned(),
    })?;
    let device = fixture.device.open()?;
    let call = Request::shared(fixture.device.node()).call();
    let placed = page.replace_page(0, call, Some(device.as_fd()));
    let addr = placed.map_err(Error::call("mmap(MAP_FIXED)", "the device"))?;
    let before = page.load(0)?;
    page.store(0, 2)?;
    let after = page.load(0)?;
    page.unmap().map_err(Error::call("munmap()", "a page"))?;
    Ok((addr as u64, before, after, touch(addr, Access::Load)?))
}

fn kernel_address(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let stored = b"in the kernel";
    let mapping = fixture.device.map_shared()?;
    mapping.store_bytes(0, stored)?;
    let physical = fixture.device.pfn(0)? * PAGE_SIZE as u64;
    let addr = kcore::address_of(physical)?;
    evidence.note("kernel.addr", Value::Addr(addr));
    evidence.note("kernel.bytes", kcore::read(physical, stored.len())?);
    evidence.note("mapping.bytes", mapping.load_bytes(0, stored.len())?);
    evidence.note("mapping.addr", Value::Addr(mapping.addr() as u64));
    evidence.note("mapping.touch", touch(mapping.addr(), Access::Load)?);
    let addr = usize::try_from(addr).map_err(|_| Error::Garbled {
        what: "a kernel address".to_owned(),
        detail: addr.to_string(),
    })?;
    evidence.note("user.load", touch(addr, Access::Load)?);
    evidence.note("user.store", touch(addr, Access::Store(1))?);
    Ok(evidence)
}

fn granule(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let machine = uname().map_err(Error::call("uname()", "the kernel"))?;
    evidence.note("machine.name", machine.machine().to_string_lossy().as_ref());
    let bytes = sysconf(SysconfVar::PAGE_SIZE).map_err(Error::call("sysconf()", "_SC_PAGESIZE"))?;
    let bytes = bytes.unwrap_or(0).unsigned_abs();
    evidence.note("machine.page-bytes", bytes);
    let mapping = Request::shared(fixture.device.node()).len(1).map()?;
    let vma = procfs::vma(mapping.addr())?;
    let mapped = vma.map_or(0, |vma| vma.end - vma.start);
    evidence.note("one-byte.mapped", mapped);
    Ok(evidence)
}

fn devices(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let mapped = Request::shared(fixture.device.node()).try_map()?;
    if let Ok(mapping) = &mapped {
        mapping.store_bytes(0, b"stored")?;
        evidence.note("device.stored", mapping.load_bytes(0, 6)?);
    }
    evidence.note("device.map", CallEnd::from(mapped));
    evidence.note("driver.read", fixture.device.read(0, 6)?);
    let null = Request::shared("/dev/null").try_map()?;
    evidence.note("null.map", CallEnd::from(null));
    Ok(evidence)
}

fn write_and_execute(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let all = Request::anonymous(libc::MAP_PRIVATE).prot(ALL_THREE);
    let mapping = all.map()?;
    mapping.store_bytes(0, &RETURN_42)?;
    let mode = procfs::vma(mapping.addr())?.map(|vma| vma.mode);
    evidence.note("default.mode", mode.unwrap_or_default().as_str());
    evidence.note("default.call", touch(mapping.addr(), Access::Call)?);
    let mut writable = Request::anonymous(libc::MAP_PRIVATE).map()?;
    evidence.note("default.mprotect", writable.protect(ALL_THREE));
    let (map, mprotect) = errand::run("the restricted", || {
        deny_write_execute().map_err(Error::call("prctl(PR_SET_MDWE)", "self"))?;
        let map = CallEnd::from(all.try_map()?);
        let mut writable: Mapping = Request::anonymous(libc::MAP_PRIVATE).map()?;
        let readable = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
        Ok((map, CallEnd::from(writable.protect(readable))))
    })?;
    evidence.note("restricted.map", map);
    evidence.note("restricted.mprotect", mprotect);
    Ok(evidence)
}
