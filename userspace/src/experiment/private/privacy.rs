//! Privacy: who sees, and who does not see, what was stored in a private mapping.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::sys::mman::MsFlags;

use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::procfs;
use crate::sys::PAGE_SIZE;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "private-store",
        summary: "A maps the device private, B private, C shared. A stores; B, C and the kernel look. Then C \
                  stores to the same place, and A and B look.",
        run: private_store,
    },
    Experiment {
        name: "private-sync",
        summary: "Stores to private mappings of the device and of a file in memory, calls msync(MS_SYNC), unmaps, \
                  and has the kernel read buffer and file after each step.",
        run: private_sync,
    },
    Experiment {
        name: "initial-content",
        summary: "The kernel writes a pattern to the whole buffer; then two processes map it private and load all \
                  of it.",
        run: initial_content,
    },
    Experiment {
        name: "private-reach",
        summary: "Stores to a private mapping, forks, and has the child look and store; hands the mapping to \
                  write(2); and has an unrelated process and the driver look at the buffer.",
        run: private_reach,
    },
    Experiment {
        name: "both-flags",
        summary: "Maps the device, a file in memory and anonymous memory with neither, either and both of \
                  MAP_SHARED and MAP_PRIVATE, and with a bit that means nothing; stores where both were accepted.",
        run: both_flags,
    },
];

fn private_store(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let node = fixture.device.node();
    fixture.device.fill(0x6b)?;
    let (mut a, mut b, mut c) = (
        fixture.actor("A")?,
        fixture.actor("B")?,
        fixture.actor("C")?,
    );
    a.map(&Request::private(node))?;
    b.map(&Request::private(node))?;
    c.map(&Request::shared(node))?;
    evidence.note("original.bytes", fixture.device.read(0, 1)?);
    a.store(0, b"A")?;
    evidence.note("a.stored", &b"A"[..]);
    evidence.note("a.sees", a.load(0, 1)?.bytes);
    evidence.note("b.sees", b.load(0, 1)?.bytes);
    evidence.note("c.sees", c.load(0, 1)?.bytes);
    evidence.note("kernel.sees", fixture.device.read(0, 1)?);
    c.store(0, b"C")?;
    evidence.note("c.stored", &b"C"[..]);
    evidence.note("a.keeps", a.load(0, 1)?.bytes);
    evidence.note("b.sees-later", b.load(0, 1)?.bytes);
    Ok(evidence)
}

fn private_sync(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0x6b)?;
    let device = fixture.device.open()?;
    sync_and_look(
        &Request::private(fixture.device.node()),
        &device,
        "device",
        &mut evidence,
    )?;
    let file = MemFile::new(PAGE_SIZE)?;
    sync_and_look(
        &Request::private(file.path()),
        file.file(),
        "file",
        &mut evidence,
    )?;
    Ok(evidence)
}

fn sync_and_look(
    request: &Request,
    kernel: &File,
    object: &str,
    evidence: &mut Evidence,
) -> Result<()> {
    let look = || -> Result<Vec<u8>> {
        let mut byte = vec![0];
        kernel
            .read_exact_at(&mut byte, 0)
            .map_err(Error::file("read", object))?;
        Ok(byte)
    };
    let mapping = request.map()?;
    evidence.note(format!("{object}.before"), look()?);
    mapping.store(0, b'A')?;
    evidence.note(format!("{object}.msync"), mapping.sync(MsFlags::MS_SYNC));
    evidence.note(format!("{object}.after-msync"), look()?);
    let page = procfs::page(mapping.addr())?;
    evidence.note(format!("{object}.page-belongs-to-it"), page.file);
    let anonymous_kib = procfs::vma(mapping.addr())?.map_or(0, |vma| vma.anonymous_kib);
    evidence.note(format!("{object}.anonymous-kib"), anonymous_kib);
    mapping.unmap().map_err(Error::call("munmap()", object))?;
    evidence.note(format!("{object}.after-munmap"), look()?);
    Ok(())
}

fn initial_content(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    // 251 is prime, so the pattern does not repeat at any power of two.
    let pattern: Vec<u8> = (0..=250).cycle().take(PAGE_SIZE).collect();
    fixture.device.write(0, &pattern)?;
    evidence.note("kernel.wrote", pattern);
    let (mut a, mut b) = (fixture.actor("A")?, fixture.actor("B")?);
    for (name, actor) in [("a", &mut a), ("b", &mut b)] {
        actor.map(&Request::private(fixture.device.node()))?;
        evidence.note(format!("{name}.sees"), actor.load(0, PAGE_SIZE)?.bytes);
    }
    Ok(evidence)
}

fn private_reach(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0x6b)?;
    evidence.note("original.byte", fixture.device.read(0, 1)?);
    let mapping = Request::private(fixture.device.node()).map()?;
    mapping.store(0, b'P')?;
    evidence.note("parent.stored", &b"P"[..]);
    let mut stranger = fixture.actor("a stranger")?;
    stranger.map(&Request::private(fixture.device.node()))?;
    evidence.note("stranger.sees", stranger.load(0, 1)?.bytes);
    evidence.note("buffer.byte", fixture.device.read(0, 1)?);

    let mut child = Actor::fork("the child", &mapping)?;
    evidence.note("child.sees", child.load(0, 1)?.bytes);
    child.store(0, b"c")?;
    evidence.note("parent.keeps", mapping.load_bytes(0, 1)?);

    let file = MemFile::new(0)?;
    evidence.note("write.call", mapping.write_to(file.file().as_fd(), 0, 1));
    let mut written = vec![0];
    let read = file.file().read_exact_at(&mut written, 0);
    read.map_err(Error::file("read", file.path()))?;
    evidence.note("write.byte", written);
    Ok(evidence)
}

/// A bit of `flags` that no kernel up to 7.3 gives a meaning, include/uapi/asm-generic/mman-common.h.
const MEANINGLESS: i32 = 1 << 24;
const BOTH: i32 = libc::MAP_SHARED | libc::MAP_PRIVATE;

fn both_flags(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let file = MemFile::new(PAGE_SIZE)?;
    let objects = [
        ("device", Request::shared(fixture.device.node())),
        ("file", Request::shared(file.path())),
        ("anonymous", Request::anonymous(0)),
    ];
    let combinations = [
        ("neither", 0),
        ("shared", libc::MAP_SHARED),
        ("private", libc::MAP_PRIVATE),
        ("both", BOTH),
        ("both-and-unknown", BOTH | MEANINGLESS),
        ("shared-and-unknown", libc::MAP_SHARED | MEANINGLESS),
    ];
    for (object, request) in &objects {
        let anonymous = if request.path.is_none() {
            libc::MAP_ANONYMOUS
        } else {
            0
        };
        for (name, flags) in combinations {
            let mapped = request.clone().flags(flags | anonymous).try_map()?;
            evidence.note(format!("{object}.{name}"), mapped);
        }
    }
    let mapping = objects[0].1.clone().flags(BOTH).map()?;
    mapping.store(0, b'x')?;
    evidence.note("both.stored", &b"x"[..]);
    evidence.note("both.kernel-sees", fixture.device.read(0, 1)?);
    let flags = procfs::vma(mapping.addr())?
        .map(|vma| vma.flags)
        .unwrap_or_default();
    evidence.note("both.vmflags", Value::Words(flags));
    Ok(evidence)
}
