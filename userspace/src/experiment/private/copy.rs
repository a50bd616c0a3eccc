//! Copy: when a private mapping gets a page of its own, told by frames, faults and content.

use nix::sys::mman::ProtFlags;

use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Value};
use crate::experiment::Experiment;
use crate::faults;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "first-write",
        summary: "A and B map the device private; a third mapping, shared, shows the kernel's frame. Frames, \
                  page faults and smaps before and after A's first store, its second, and B's first. Then the \
                  same with a file in memory, whose pages mmap does not map.",
        run: first_write,
    },
    Experiment {
        name: "populate-table",
        summary: "Maps the device private in eight ways: plainly, with MAP_POPULATE, with MAP_LOCKED and followed \
                  by mlock, each read-only and writable, and looks at the frame at once.",
        run: populate_table,
    },
    Experiment {
        name: "eight-private",
        summary: "Eight processes map the one-page buffer private and each stores its number; each then looks at \
                  its number and its frame, and the kernel at the buffer.",
        run: eight_private,
    },
    Experiment {
        name: "snapshot",
        summary: "The kernel refills the buffer behind a private mapping, once before the mapping's first store \
                  and once after. Then a private mapping of a two-page file, of which one page is stored to.",
        run: snapshot,
    },
];

fn first_write(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0x6b)?;
    kernels_page(fixture, &mut evidence)?;
    let request = Request::private(fixture.device.node());
    let (mut a, mut b) = (fixture.actor("A")?, fixture.actor("B")?);
    a.map(&request)?;
    b.map(&request)?;
    evidence.note("before.a-pfn", Value::Pfn(a.page()?.pfn));
    evidence.note("before.b-pfn", Value::Pfn(b.page()?.pfn));
    let before = a.vma()?;
    evidence.note(
        "before.a-anonymous-kib",
        before.as_ref().map_or(0, |vma| vma.anonymous_kib),
    );
    evidence.note(
        "before.a-offset",
        Value::Addr(before.map_or(0, |vma| vma.offset)),
    );
    evidence.note("read.faults", a.load(0, 1)?.faults);
    evidence.note("read.a-pfn", Value::Pfn(a.page()?.pfn));
    evidence.note("first-store.faults", a.store(0, b"A")?);
    evidence.note("second-store.faults", a.store(1, b"A")?);
    evidence.note("after.a-pfn", Value::Pfn(a.page()?.pfn));
    evidence.note("after.a-anonymous-kib", anonymous_kib(&mut a)?);
    evidence.note("untouched.a", a.load(2, PAGE_SIZE - 2)?.bytes);
    evidence.note("untouched.kernel", fixture.device.read(2, PAGE_SIZE - 2)?);
    b.store(0, b"B")?;
    evidence.note("after.b-pfn", Value::Pfn(b.page()?.pfn));
    evidence.note("after.b-anonymous-kib", anonymous_kib(&mut b)?);
    evidence.note("after.a-sees", a.load(0, 1)?.bytes);
    evidence.note("a.stored", &b"A"[..]);
    lazy_first_write(&mut evidence)?;
    Ok(evidence)
}

/// Where the driver says that the buffer is.
fn kernels_page(fixture: &Fixture, evidence: &mut Evidence) -> Result<()> {
    let pfn = fixture.device.pfn(0)?;
    evidence.note("kernel.pfn", Value::Pfn(Some(pfn)));
    evidence.note("kernel.address", Value::Addr(pfn * PAGE_SIZE as u64));
    Ok(())
}

fn anonymous_kib(actor: &mut Actor) -> Result<u64> {
    Ok(actor.vma()?.map_or(0, |vma| vma.anonymous_kib))
}

/// The contrast: a file's page is not mapped before it is touched.
fn lazy_first_write(evidence: &mut Evidence) -> Result<()> {
    let file = MemFile::new(PAGE_SIZE)?;
    let shared = Request::shared(file.path()).map()?;
    shared.store(0, 0x6b)?;
    evidence.note("file.pfn", frame(&shared)?);
    let private = Request::private(file.path()).map()?;
    evidence.note("file.before-pfn", frame(&private)?);
    let store = |mapping: &Mapping| mapping.store(0, b'A');
    evidence.note("file.first-store-faults", faults::count(&private, store)?.1);
    evidence.note("file.after-pfn", frame(&private)?);
    Ok(())
}

fn frame(mapping: &Mapping) -> Result<Value> {
    Ok(Value::Pfn(procfs::page(mapping.addr())?.pfn))
}

fn populate_table(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0x6b)?;
    kernels_page(fixture, &mut evidence)?;
    let private = Request::private(fixture.device.node());
    let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    for (prot_name, prot) in [("r", ProtFlags::PROT_READ), ("rw", both)] {
        let mut row = |how: &str, mapping: &Mapping| {
            evidence.note(format!("{how}.{prot_name}"), frame(mapping)?);
            evidence.note(format!("{how}.{prot_name}-kib"), copied_kib(mapping)?);
            Ok::<_, Error>(())
        };
        let request = private.clone().prot(prot);
        let flagged = |flag| request.clone().flags(libc::MAP_PRIVATE | flag).map();
        let plain = request.map()?;
        row("plain", &plain)?;
        row("populate", &flagged(libc::MAP_POPULATE)?)?;
        row("locked", &flagged(libc::MAP_LOCKED)?)?;
        plain
            .lock()
            .map_err(Error::call("mlock()", "a private mapping"))?;
        row("mlock", &plain)?;
    }
    let stored = private.map()?;
    stored.store(0, 1)?;
    evidence.note("stored.rw", frame(&stored)?);
    evidence.note("stored.rw-kib", copied_kib(&stored)?);
    let early = private
        .clone()
        .flags(libc::MAP_PRIVATE | libc::MAP_POPULATE)
        .map()?;
    fixture.device.fill(0x6c)?;
    evidence.note("refill.byte", vec![0x6c]);
    evidence.note("populated.sees", early.load_bytes(0, 1)?);
    Ok(evidence)
}

/// What is this process's own of a private mapping, in KiB.
fn copied_kib(mapping: &Mapping) -> Result<u64> {
    Ok(procfs::vma(mapping.addr())?.map_or(0, |vma| vma.anonymous_kib))
}

fn eight_private(fixture: &Fixture) -> Result<Evidence> {
    const MAPPERS: u8 = 8;
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    evidence.note("kernel.before", fixture.device.read(0, 8)?);
    let mut mappers = Vec::new();
    for number in 1..=MAPPERS {
        let mut mapper = fixture.actor(&format!("mapper {number}"))?;
        mapper.map(&Request::private(fixture.device.node()))?;
        mapper.store(0, &[number])?;
        mappers.push((number, mapper));
    }
    let (mut keeping, mut copied_kib) = (0, 0);
    let mut frames = std::collections::BTreeSet::new();
    for (number, mapper) in &mut mappers {
        keeping += u64::from(mapper.load(0, 1)?.bytes == [*number]);
        frames.extend(mapper.page()?.pfn);
        copied_kib += anonymous_kib(mapper)?;
    }
    evidence.note("mappers.at-once", mappers.len() as u64);
    evidence.note("mappers.keeping-their-own", keeping);
    evidence.note("mappers.frames", frames.len() as u64);
    evidence.note("mappers.copied-kib", copied_kib);
    evidence.note("kernel.after", fixture.device.read(0, 8)?);
    Ok(evidence)
}

fn snapshot(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0x11)?;
    let mapping = Request::private(fixture.device.node()).map()?;
    evidence.note("first.seen", mapping.load_bytes(0, 1)?);
    fixture.device.fill(0x22)?;
    evidence.note("refill.byte", vec![0x22]);
    evidence.note("before-store.seen", mapping.load_bytes(0, 1)?);
    mapping.store(100, 0x99)?;
    fixture.device.fill(0x33)?;
    evidence.note("after-store.seen", mapping.load_bytes(0, 1)?);

    let file = MemFile::new(2 * PAGE_SIZE)?;
    let shared = Request::shared(file.path()).len(2 * PAGE_SIZE).map()?;
    let private = Request::private(file.path()).len(2 * PAGE_SIZE).map()?;
    private.store(1, 0x99)?;
    shared.store(0, 0x22)?;
    shared.store(PAGE_SIZE, 0x22)?;
    evidence.note("file.original", vec![0]);
    evidence.note("file.stored-page", private.load_bytes(0, 1)?);
    evidence.note("file.other-page", private.load_bytes(PAGE_SIZE, 1)?);
    Ok(evidence)
}
