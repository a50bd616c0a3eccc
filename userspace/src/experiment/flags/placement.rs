//! Placement: where a mapping goes, and what becomes of what was there.

use std::os::fd::AsFd;

use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::{CallEnd, Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};
use crate::tracer::Recording;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "map-fixed",
        summary: "Fills three pages of anonymous memory and maps the device over the second: by \
                  MAP_FIXED_NOREPLACE, by MAP_FIXED at an address that is no multiple of the page size, and by \
                  MAP_FIXED; then looks at all three.",
        run: map_fixed,
    },
    Experiment {
        name: "map-over",
        summary: "Fills three pages of anonymous memory and records which functions of the kernel it takes to map the \
                  device over the second by MAP_FIXED, to map it where nothing is, and to unmap that again; then \
                  looks at all three pages.",
        run: map_over,
    },
    Experiment {
        name: "map-unavailable",
        summary: "Maps the device by MAP_FIXED to where the kernel lives, over a page that was sealed by mseal, and, \
                  as nobody, to the second page of all addresses; and once without the flag.",
        run: map_unavailable,
    },
    Experiment {
        name: "low-addresses",
        summary: "Maps anonymous memory and the device with MAP_32BIT and without, and with MAP_32BIT and MAP_FIXED \
                  to a high address.",
        run: low_addresses,
    },
];

/// What the anonymous pages hold.
const OLD: u8 = 0x61;
/// What the device's page holds.
const NEW: u8 = 0x64;

fn three_pages() -> Result<Mapping> {
    let memory = Request::anonymous(libc::MAP_PRIVATE);
    let pages = memory.len(3 * PAGE_SIZE).map()?;
    pages.store_pages(OLD)?;
    Ok(pages)
}

fn map_fixed(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(NEW)?;
    evidence.note("device.byte", fixture.device.read(0, 1)?);
    let mut reserved = three_pages()?;
    evidence.note("page.content", vec![OLD]);
    let target = reserved.addr() + PAGE_SIZE;
    evidence.note("fixed.target", Value::Addr(target as u64));
    let device = fixture.device.open()?;
    let fd = Some(device.as_fd());
    let request = Request::shared(fixture.device.node());

    let noreplace = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
    let careful = Mapping::placed(target, request.clone().flags(noreplace).call(), fd);
    evidence.note("noreplace.call", careful);
    let wish = Mapping::placed(target, request.call(), fd);
    let elsewhere = wish.as_ref().is_ok_and(|wish| wish.addr() != target);
    evidence.note("wish.call", wish);
    evidence.note("wish.elsewhere", elsewhere);
    let misaligned = reserved.replace_page(PAGE_SIZE + 1, request.call(), fd);
    evidence.note("misaligned.call", misaligned);
    let wish = Mapping::placed(target + 1, request.call(), fd);
    evidence.note("misaligned.wish", wish);
    evidence.note("before.middle", reserved.load_bytes(PAGE_SIZE, 1)?);

    let fixed = reserved.replace_page(PAGE_SIZE, request.call(), fd);
    evidence.note("fixed.call", fixed);
    if let Ok(addr) = fixed {
        evidence.note("fixed.addr", Value::Addr(addr as u64));
    }
    note_bytes(&mut evidence, &reserved)?;
    if let Some(vma) = procfs::vma(target)? {
        evidence.note("fixed.start", Value::Addr(vma.start));
        evidence.note("fixed.len", vma.end - vma.start);
    }
    Ok(evidence)
}

fn map_over(fixture: &Fixture) -> Result<Evidence> {
    /// Those by which a range gets rid of what is mapped there.
    const FUNCTIONS: [(&str, &str); 4] = [
        ("do-munmap", "do_munmap"),
        ("do-vmi-munmap", "do_vmi_munmap"),
        ("gather", "vms_gather_munmap_vmas"),
        ("unmap-pages", "unmap_vmas"),
    ];
    let mut evidence = Evidence::new();
    fixture.device.fill(NEW)?;
    evidence.note("device.byte", fixture.device.read(0, 1)?);
    let mut reserved = three_pages()?;
    evidence.note("page.content", vec![OLD]);
    let target = reserved.addr() + PAGE_SIZE;
    let device = fixture.device.open()?;
    let fd = Some(device.as_fd());
    let call = Request::shared(fixture.device.node()).call();
    let record = |recording: &Recording<'_>| {
        let over = recording.step("over", || Ok(reserved.replace_page(PAGE_SIZE, call, fd)))?;
        let beside = recording.step("beside", || Ok(Mapping::new(call, fd)))?;
        let beside = beside.map_err(Error::call("mmap()", "the device"))?;
        let unmapped = recording.step("unmap", || Ok(beside.unmap()))?;
        Ok((over, unmapped))
    };
    let functions = FUNCTIONS.map(|(_, function)| function);
    let ((over, unmapped), trace) = fixture.tracer()?.record(&functions, record)?;
    evidence.note("over.call", over);
    evidence.note("unmap.call", unmapped);
    for step in ["over", "beside", "unmap"] {
        for (label, function) in FUNCTIONS {
            evidence.note(format!("{step}.{label}"), trace.count(step, function));
        }
    }
    note_bytes(&mut evidence, &reserved)?;
    let kept = procfs::vma(target)?.map_or(0, |vma| vma.end - vma.start);
    evidence.note("over.len", kept);
    Ok(evidence)
}

fn note_bytes(evidence: &mut Evidence, pages: &Mapping) -> Result<()> {
    for (name, offset) in [("first", 0), ("middle", PAGE_SIZE), ("last", 2 * PAGE_SIZE)] {
        evidence.note(format!("{name}.byte"), pages.load_bytes(offset, 1)?);
    }
    Ok(())
}

fn map_unavailable(fixture: &Fixture) -> Result<Evidence> {
    /// The begin of the kernel's half of the addresses, `Documentation/arch/x86/x86_64/mm.rst`.
    const KERNEL: usize = 0xffff_8000_0000_0000;
    /// Below `vm.mmap_min_addr`, by which only privileged processes may map.
    const LOW: usize = PAGE_SIZE;
    const FIXED: i32 = libc::MAP_SHARED | libc::MAP_FIXED;
    let mut evidence = Evidence::new();
    let device = fixture.device.open()?;
    let fd = Some(device.as_fd());
    let wish = Request::shared(fixture.device.node());
    let fixed = wish.clone().flags(FIXED);
    evidence.note("wish.call", Mapping::placed(KERNEL, wish.call(), fd));
    evidence.note("kernel.call", Mapping::placed(KERNEL, fixed.call(), fd));
    // The second flag keeps this from replacing something; nothing is there.
    let fixed = wish.clone().flags(FIXED | libc::MAP_FIXED_NOREPLACE);
    let low = || CallEnd::from(Mapping::placed(LOW, fixed.call(), fd));
    evidence.note("low.nobody", errand::run_as_nobody("nobody", || Ok(low()))?);
    evidence.note("low.root", low());
    // What is sealed can only be got rid of by ending.
    let (over, keeps) = errand::run("the sealer", || {
        let mut sealed = Request::anonymous(libc::MAP_PRIVATE).map()?;
        sealed.store(0, OLD)?;
        sealed.seal().map_err(Error::call("mseal()", "a page"))?;
        let over = sealed.replace_page(0, wish.call(), fd);
        Ok((CallEnd::from(over), sealed.load_bytes(0, 1)?))
    })?;
    evidence.note("sealed.call", over);
    evidence.note("sealed.byte", keeps);
    evidence.note("page.content", vec![OLD]);
    Ok(evidence)
}

fn low_addresses(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let memory = Request::anonymous(libc::MAP_PRIVATE);
    let device = Request::shared(fixture.device.node());
    for (name, request) in [("memory", &memory), ("device", &device)] {
        let flagged = request.clone().flags(request.flags | libc::MAP_32BIT);
        let addr =
            |request: &Request| -> Result<Value> { Ok(Value::Addr(request.map()?.addr() as u64)) };
        evidence.note(format!("plain.{name}"), addr(request)?);
        evidence.note(format!("low.{name}"), addr(&flagged)?);
    }
    let mut reserved = memory.map()?;
    evidence.note("fixed.target", Value::Addr(reserved.addr() as u64));
    let flagged = memory.flags | libc::MAP_32BIT;
    let fixed = reserved.replace_page(0, memory.clone().flags(flagged).call(), None);
    evidence.note("fixed.call", fixed);
    if let Ok(addr) = fixed {
        evidence.note("fixed.addr", Value::Addr(addr as u64));
    }
    Ok(evidence)
}
