//! Arguments: which lengths, addresses and offsets mmap takes, and what it makes of them.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::sys::mman::ProtFlags;

use super::{extent, note_map};
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::map_call::MapCall;
use crate::object::{MemFile, Request};
use crate::probe::{Access, touch};
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};
use crate::sysctl;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "lengths",
        summary: "Maps the device with lengths from 1 byte to a page, one byte more than its buffer has, and a \
                  file with a page and a bit. Looks up what was mapped and touches the last byte of it.",
        run: lengths,
    },
    Experiment {
        name: "impossible-lengths",
        summary: "Maps the device and anonymous memory with length 0, with half of all addresses, and with a \
                  length that cannot be rounded up; and length 0 of a file that is not open.",
        run: impossible_lengths,
    },
    Experiment {
        name: "addresses-chosen",
        summary: "Four processes, each started anew, map the device without an address.",
        run: addresses_chosen,
    },
    Experiment {
        name: "hints",
        summary: "Maps the device with a wish, but no order, to put it into a free hole, 123 bytes into it, where \
                  something else is, and near address 0.",
        run: hints,
    },
    Experiment {
        name: "offsets",
        summary: "Maps the device, a file of three pages, anonymous memory and a descriptor that is not open from \
                  offsets that are and are not multiples of a page, up to impossible ones.",
        run: offsets,
    },
];

/// No descriptor has this number: it is above the usual `RLIMIT_NOFILE`, and nothing here opens so many.
pub(super) const NOT_OPEN: i32 = 9_999;

fn lengths(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let node = fixture.device.node();
    for len in [1, 100, 4_000, 4_095, PAGE_SIZE] {
        let who = format!("device-{len}");
        let mapped = Request::shared(node).len(len).try_map()?;
        if let Some(mapping) = note_map(&mut evidence, &who, mapped) {
            let last = mapping.addr() + PAGE_SIZE - 1;
            evidence.note(format!("{who}.mapped"), extent(last)?);
            evidence.note(format!("{who}.last-byte"), touch(last, Access::Store(1))?);
        }
    }
    let beyond = fixture.device.buffer_len()? + 1;
    let mapped = Request::shared(node).len(beyond).try_map()?;
    note_map(&mut evidence, "beyond", mapped);
    let file = MemFile::filled(2 * PAGE_SIZE)?;
    let mapped = Request::shared(file.path()).len(PAGE_SIZE + 1).try_map()?;
    if let Some(mapping) = note_map(&mut evidence, "file", mapped) {
        evidence.note("file.mapped", extent(mapping.addr())?);
        let last = mapping.addr() + 2 * PAGE_SIZE - 1;
        evidence.note("file.last-byte", touch(last, Access::Load)?);
    }
    Ok(evidence)
}

fn impossible_lengths(fixture: &Fixture) -> Result<Evidence> {
    /// The user's half of the addresses, `Documentation/arch/x86/x86_64/mm.rst`.
    const HALF: usize = 1 << 47;
    let mut evidence = Evidence::new();
    let device = Request::shared(fixture.device.node());
    let anonymous = Request::anonymous(libc::MAP_PRIVATE);
    let lengths = [
        ("one", 1),
        ("zero", 0),
        ("half", HALF),
        ("unroundable", usize::MAX - 100),
    ];
    for (name, len) in lengths {
        for (object, request) in [("device", &device), ("anonymous", &anonymous)] {
            let mapped = request.clone().len(len).try_map()?;
            note_map(&mut evidence, &format!("{object}-{name}"), mapped);
        }
    }
    let nothing = Mapping::of_number(device.len(0).call(), NOT_OPEN);
    note_map(&mut evidence, "not-open-zero", nothing);
    Ok(evidence)
}

fn addresses_chosen(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let level = sysctl::number("kernel.randomize_va_space")?;
    evidence.note("kernel.randomizes", level >= 1);
    let mut addrs = HashSet::new();
    let mut nr_aligned = 0;
    for number in 1..=4 {
        let name = format!("process-{number}");
        // Not one that was here before: the kernel would find the same place free again.
        let mut actor = Actor::start(&name)?;
        actor.map(&Request::shared(fixture.device.node()))?;
        let Some(vma) = actor.vma()? else { continue };
        evidence.note(format!("{name}.addr"), Value::Addr(vma.start));
        nr_aligned += u64::from(vma.start % PAGE_SIZE as u64 == 0);
        addrs.insert(vma.start);
    }
    evidence.note("addresses.page-aligned", nr_aligned);
    evidence.note("addresses.different", addrs.len() as u64);
    Ok(evidence)
}

fn hints(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let reserve = Request::anonymous(libc::MAP_PRIVATE).prot(ProtFlags::PROT_NONE);
    let mut before = reserve.len(3 * PAGE_SIZE).map()?;
    let mut hole = before.split_off(PAGE_SIZE)?;
    let _after = hole.split_off(PAGE_SIZE)?;
    let (occupied, free) = (before.addr(), hole.addr());
    hole.unmap()
        .map_err(Error::call("munmap()", "a page of a reserved range"))?;

    let device = fixture.device.open()?;
    let call = Request::shared(fixture.device.node()).call();
    let mut wish = |who: &str, addr: usize| {
        evidence.note(format!("{who}.wish"), Value::Addr(addr as u64));
        let mapped = Mapping::placed(addr, call, Some(device.as_fd()));
        if let Some(mapping) = note_map(&mut evidence, who, mapped) {
            evidence.note(format!("{who}.addr"), Value::Addr(mapping.addr() as u64));
        }
    };
    wish("free", free);
    wish("uneven", free + 123);
    wish("occupied", occupied);
    wish("low", PAGE_SIZE);
    let floor = sysctl::number("vm.mmap_min_addr")?;
    evidence.note("lowest.addr", Value::Addr(floor));
    let mode = procfs::vma(occupied)?.map_or_else(String::new, |vma| vma.mode);
    evidence.note("occupied.mode-after", mode.as_str());
    Ok(evidence)
}

fn offsets(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let device = fixture.device.open()?;
    let end = i64::try_from(fixture.device.buffer_len()?).unwrap_or(i64::MAX);
    let cases = [
        ("0", 0),
        ("1", 1),
        ("512", 512),
        ("4095", 4_095),
        ("end", end),
    ];
    for (name, offset) in cases {
        let mapped = Mapping::new(from(offset), Some(device.as_fd()));
        note_map(&mut evidence, &format!("device-{name}"), mapped);
    }
    file_offsets(&mut evidence)?;
    for (name, offset) in [("0", 0), ("1", 1)] {
        let mapped = Mapping::of_number(from(offset), NOT_OPEN);
        note_map(&mut evidence, &format!("not-open-{name}"), mapped);
    }
    let anonymous = Request::anonymous(libc::MAP_PRIVATE).call();
    let uneven = MapCall {
        offset: 1,
        ..anonymous
    };
    note_map(&mut evidence, "anonymous-1", Mapping::new(uneven, None));
    Ok(evidence)
}

/// One page, shared, from this offset on.
fn from(offset: i64) -> MapCall {
    MapCall {
        offset,
        ..Request::shared("").call()
    }
}

fn file_offsets(evidence: &mut Evidence) -> Result<()> {
    let far = 1 << 40;
    let file = MemFile::filled(3 * PAGE_SIZE)?;
    for page in 0_u8..3 {
        let at = u64::from(page) * PAGE_SIZE as u64;
        let written = file.file().write_all_at(&[10 + page], at);
        written.map_err(Error::file("write", file.path()))?;
    }
    let pages = [("4096", 4_096), ("8192", 8_192)];
    let others = [("1", 1), ("far", far), ("negative", -4_096)];
    for (name, offset) in pages.into_iter().chain(others) {
        let who = format!("file-{name}");
        let mapped = Mapping::new(from(offset), Some(file.file().as_fd()));
        if let Some(mapping) = note_map(evidence, &who, mapped) {
            let loaded = touch(mapping.addr(), Access::Load)?;
            evidence.note(format!("{who}.first-byte"), loaded);
        }
    }
    Ok(())
}
