//! Faulting: what a touch can come to, and how many pages it brings.

use std::fs;

use nix::sys::mman::{MmapAdvise, ProtFlags};
use nix::unistd::getpid;

use super::stage::{Act, Stage};
use super::{MAIN, Scenario, USUAL};
use crate::error::{Error, Result};
use crate::evidence::Touch;
use crate::faults;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::probe::{Access, RETURN_42, touch};
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "six-faults",
        title: "Six ways to fault",
        question: "An access fails, and a signal comes. Does the signal say what was wrong?",
        claims: &[
            "fault-sigbus-means-foreign-memory",
            "fault-segv-on-readonly-write",
            "fault-prot-none-guard",
            "fault-nx-exec",
            "file-pages-beyond-eof-are-zero",
        ],
        needs: USUAL,
        boots: MAIN,
        play: six_faults,
    },
    Scenario {
        name: "fault-around",
        title: "One fault, sixteen pages",
        question: "A file of 32 pages is in memory. A loads a byte of each page: how many page faults?",
        claims: &["fault-one-fault-per-page", "fault-ptes-built-at-mmap"],
        needs: USUAL,
        boots: MAIN,
        play: fault_around,
    },
];

/// A way to fault.
struct Way {
    did: &'static str,
    access: Access,
    /// What it comes to: the signal and `si_code`.
    ends: (&'static str, &'static str),
    says: &'static str,
    why: &'static str,
}

const WAYS: [Way; 6] = [
    Way {
        did: "loads where nothing is mapped",
        access: Access::Load,
        ends: ("SIGSEGV", "SEGV_MAPERR"),
        says: "No VMA: SIGSEGV, SEGV_MAPERR.",
        why: "There is nothing that could say what belongs there.",
    },
    Way {
        did: "loads from a PROT_NONE page",
        access: Access::Load,
        ends: ("SIGSEGV", "SEGV_ACCERR"),
        says: "A VMA that allows nothing: SEGV_ACCERR.",
        why: "This is what guard pages are made of.",
    },
    Way {
        did: "stores to a read-only mapping of the device",
        access: Access::Store(1),
        ends: ("SIGSEGV", "SEGV_ACCERR"),
        says: "The page is there and mapped, and the store is refused: SEGV_ACCERR.",
        why: "The VMA has no wr flag, so the kernel does not help.",
    },
    Way {
        did: "calls code in a mapping without PROT_EXEC",
        access: Access::Call,
        ends: ("SIGSEGV", "SEGV_ACCERR"),
        says: "To load and store is allowed there, to execute is not: SEGV_ACCERR.",
        why: "The entry has the bit NX.",
    },
    Way {
        did: "loads from a page beyond the end of a file",
        access: Access::Load,
        ends: ("SIGBUS", "BUS_ADRERR"),
        says: "The VMA allows it, but there is no page to be had: SIGBUS.",
        why: "A file of one page was mapped with a length of two.",
    },
    Way {
        did: "loads from the device after MADV_DONTNEED",
        access: Access::Load,
        ends: ("SIGBUS", "BUS_ADRERR"),
        says: "A page that was there a moment ago, and cannot be had again: SIGBUS.",
        why: "This driver maps its page at mmap and answers no faults. The page itself is where it was.",
    },
];

fn six_faults(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    let gone = Request::anonymous(libc::MAP_PRIVATE)
        .len(16 * PAGE_SIZE)
        .map()?;
    let nothing = gone.addr();
    gone.unmap()
        .map_err(Error::call("munmap()", "a reserved range"))?;
    let none = Request::anonymous(libc::MAP_PRIVATE)
        .prot(ProtFlags::PROT_NONE)
        .map()?;
    let device = Request::shared(fixture.device.node());
    let readonly = device.clone().prot(ProtFlags::PROT_READ).map()?;
    let code = device.map()?;
    code.store_bytes(0, &RETURN_42)?;
    let file = MemFile::filled(PAGE_SIZE)?;
    let beyond = Request::shared(file.path()).len(2 * PAGE_SIZE).map()?;
    let mut dropped = device.map()?;
    let advised = dropped.advise(MmapAdvise::MADV_DONTNEED);
    advised.map_err(Error::call("madvise(MADV_DONTNEED)", "the device"))?;
    stage.show_the_drivers_frame()?;
    let addrs = [
        nothing,
        none.addr(),
        readonly.addr() + 123,
        code.addr(),
        beyond.addr() + PAGE_SIZE,
        dropped.addr(),
    ];
    for (way, addr) in WAYS.iter().zip(addrs) {
        let page = addr - addr % PAGE_SIZE;
        stage.watch("A", getpid(), vec![(String::new(), page as u64)]);
        let touched = touch(addr, way.access)?;
        let as_said = matches!(&touched, Touch::Faulted(fault)
            if (fault.signal.as_str(), fault.code.as_str()) == way.ends && fault.addr == addr as u64);
        stage.record(Act::new("A", way.did).result(touched))?;
        stage.finding(way.says, as_said, way.why);
    }
    Ok(())
}

const NR_PAGES: usize = 32;
const LEN: usize = NR_PAGES * PAGE_SIZE;

fn fault_around(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    /// How many bytes around a fault are mapped, mm/memory.c, 7.3.
    const AROUND: &str = "/sys/kernel/debug/fault_around_bytes";
    let file = MemFile::filled(LEN)?;
    let request = Request::shared(file.path()).len(LEN);
    let mapping = request.map()?;
    stage.watch_own(&mapping);
    let act = Act::new("A", "maps a file of 32 pages, all of which are in memory");
    stage.record(act.call(request.call().to_string()))?;
    stage.finding(
        "No entry is in the page table yet.",
        stage.nr_present("A") == 0,
        "mmap made a VMA, and that is all.",
    );
    for (page, says, fresh) in [
        (0, "One fault, and sixteen pages are there.", 16..=16),
        (7, "A page that was brought along: no fault.", 0..=0),
        (
            16,
            "One fault more, and what lies around this page and was not there yet.",
            1..=16,
        ),
    ] {
        let before = stage.nr_present("A");
        let (_, faults) = faults::count(&mapping, |it| it.load(page * PAGE_SIZE))?;
        let did = format!("loads a byte of page {page}");
        stage.record(Act::new("A", did).fact("a.page-faults", faults))?;
        let new = stage.nr_present("A") - before;
        let why = "The kernel maps what lies around a fault and is in memory anyway: 64 KiB, as fault_around_bytes \
                   says, up to an address that is a multiple of that.";
        let faulted = *fresh.start() > 0;
        let seen = fresh.contains(&new) && (faults == 1) == faulted;
        stage.finding(says, seen, if faulted { why } else { "" });
    }
    drop(mapping);
    let mapping = request.map()?;
    stage.watch_own(&mapping);
    let ((), faults) = faults::count(&mapping, |it| it.store(0, 2))?;
    let act = Act::new("A", "maps it anew and stores a byte to page 0");
    stage.record(act.fact("a.page-faults", faults))?;
    stage.finding(
        "A store brings one page only.",
        (faults, stage.nr_present("A")) == (1, 1),
        "Each page that is stored to has to be made known as dirty.",
    );
    drop(mapping);
    let before = fs::read_to_string(AROUND).map_err(Error::file("read", AROUND))?;
    let set = |value: &str| fs::write(AROUND, value).map_err(Error::file("write", AROUND));
    set("4096")?;
    let narrow = load_first_and_eighth(&request, stage);
    // Before anything else, even after an error.
    set(before.trim())?;
    narrow?;
    let device = fixture.device.map_shared()?;
    stage.watch_own(&device);
    let (_, faults) = faults::count(&device, |it| it.load(0))?;
    let act = Act::new("A", "maps the device, one page, and loads from it");
    stage.record(act.fact("a.page-faults", faults))?;
    stage.finding(
        "No fault at all.",
        faults == 0,
        "The driver puts its page into the table when mmap is called.",
    );
    Ok(())
}

fn load_first_and_eighth(request: &Request, stage: &mut Stage<'_>) -> Result<()> {
    let mapping = request.map()?;
    stage.watch_own(&mapping);
    let load = |it: &Mapping| it.load(0).and_then(|_| it.load(7 * PAGE_SIZE));
    let (_, faults) = faults::count(&mapping, load)?;
    let act = Act::new(
        "A",
        "sets fault_around_bytes to 4096 and loads from pages 0 and 7",
    );
    stage.record(act.fact("a.page-faults", faults))?;
    stage.finding(
        "Now each page takes a fault.",
        (faults, stage.nr_present("A")) == (2, 2),
        "",
    );
    Ok(())
}
