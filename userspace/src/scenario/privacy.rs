//! Privacy: when a private mapping gets a frame of its own.

use super::stage::{Act, Stage};
use super::{MAIN, Scenario, USUAL};
use crate::actor::{Actor, Loaded};
use crate::error::Result;
use crate::fixture::Fixture;
use crate::frame::Owner;
use crate::object::Request;
use crate::sys::PAGE_SIZE;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "many-frames",
        title: "One page, many frames",
        question: "Two processes map the same page, private. Are there three copies of it then, or one?",
        claims: &[
            "private-starts-on-the-kernel-page-readonly",
            "private-first-write-copies-page",
            "private-second-writer-gets-its-own-page",
            "private-writes-invisible-to-others",
        ],
        needs: USUAL,
        boots: MAIN,
        play: many_frames,
    },
    Scenario {
        name: "not-a-snapshot",
        title: "Private is not a snapshot",
        question: "A has mapped the page private. Somebody else changes the page. Does A see that?",
        claims: &["private-is-snapshot"],
        needs: USUAL,
        boots: MAIN,
        play: not_a_snapshot,
    },
    Scenario {
        name: "populate",
        title: "MAP_POPULATE kills the sharing",
        question: "MAP_POPULATE only saves page faults later, it seems. Does a private mapping stay the same otherwise?",
        claims: &["private-no-copy-at-mmap"],
        needs: USUAL,
        boots: MAIN,
        play: populate,
    },
];

/// Has the driver fill its page.
fn fill(fixture: &Fixture, stage: &mut Stage<'_>, value: u8) -> Result<()> {
    fixture.device.fill(value)?;
    let act = Act::new("the driver", format!("fills its page with {value:#04x}"));
    stage.record(act.call("pwrite(fd, ..., 4096, 0)"))
}

fn map(
    stage: &mut Stage<'_>,
    name: &str,
    actor: &mut Actor,
    request: &Request,
    how: &str,
) -> Result<()> {
    let end = actor.try_map(request)?;
    stage.watch_actor(name, actor)?;
    let act = Act::new(name, format!("maps the device, {how}"));
    stage.record(act.call(request.to_string()).result(end))
}

fn store(
    stage: &mut Stage<'_>,
    name: &str,
    actor: &mut Actor,
    offset: usize,
    byte: u8,
) -> Result<u64> {
    let faults = actor.store(offset, &[byte])?;
    let did = format!("stores {byte:#04x} at offset {offset}");
    let label = format!("{}.page-faults", name.to_lowercase());
    stage.record(Act::new(name, did).fact(label, faults))?;
    Ok(faults)
}

fn load(stage: &mut Stage<'_>, name: &str, actor: &mut Actor) -> Result<Loaded> {
    let loaded = actor.load(0, 1)?;
    let act = Act::new(name, "loads the byte at offset 0");
    let label = format!("{}.page-faults", name.to_lowercase());
    let act = act
        .result(loaded.bytes.as_slice())
        .fact(label, loaded.faults);
    stage.record(act)?;
    Ok(loaded)
}

fn many_frames(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    stage.show_the_drivers_frame()?;
    fill(fixture, stage, 0x6b)?;
    let request = Request::private(fixture.device.node());
    let (mut a, mut b) = (Actor::start("A")?, Actor::start("B")?);
    map(stage, "A", &mut a, &request, "private")?;
    map(stage, "B", &mut b, &request, "private")?;
    let drivers = stage.drivers_pfn();
    let readonly = |name| stage.pte(name, 0).is_some_and(|pte| !pte.writable);
    stage.finding(
        "One frame for all three, and both entries are read-only, though both mappings may be written to.",
        stage.pfn("A", 0) == drivers && stage.pfn("B", 0) == drivers && readonly("A") && readonly("B"),
        "Nothing needs to be copied as long as nobody stores. A store will fault, and then the kernel copies.",
    );
    let loaded = load(stage, "A", &mut a)?;
    stage.finding(
        "To load copies nothing.",
        loaded.bytes == [0x6b] && stage.pfn("A", 0) == drivers,
        "",
    );
    let faults = store(stage, "A", &mut a, 0, 0x41)?;
    stage.finding(
        "One page fault, and A's entry leads to a new frame, writable.",
        faults == 1
            && stage.pfn("A", 0).is_some_and(|pfn| Some(pfn) != drivers)
            && stage.pte("A", 0).is_some_and(|pte| pte.writable),
        "The kernel copied the page, all 4096 bytes of it, and let A's entry lead to the copy.",
    );
    stage.finding(
        "B and the driver are where they were.",
        stage.pfn("B", 0) == drivers,
        "",
    );
    let as_before = a.load(1, PAGE_SIZE - 1)?.bytes == fixture.device.read(1, PAGE_SIZE - 1)?;
    let before = stage.pfn("A", 0);
    let faults = store(stage, "A", &mut a, 1, 0x41)?;
    stage.finding(
        "The second store takes no fault and goes to the same frame.",
        faults == 0 && stage.pfn("A", 0) == before,
        "The page is A's own now.",
    );
    stage.finding(
        "All bytes that A had not stored to were those of the driver's page.",
        as_before,
        "",
    );
    store(stage, "B", &mut b, 0, 0x42)?;
    let (of_a, of_b) = (stage.pfn("A", 0), stage.pfn("B", 0));
    stage.finding(
        "Now there are three frames: the driver's, A's and B's.",
        of_b.is_some() && of_b != of_a && of_b != drivers && of_a != drivers,
        "Each process that stores gets a copy, when it stores, of what was there then.",
    );
    Ok(())
}

fn not_a_snapshot(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    stage.show_the_drivers_frame()?;
    fill(fixture, stage, 0x11)?;
    let mut a = Actor::start("A")?;
    let request = Request::private(fixture.device.node());
    map(stage, "A", &mut a, &request, "private")?;
    load(stage, "A", &mut a)?;
    fill(fixture, stage, 0x22)?;
    let seen = load(stage, "A", &mut a)?;
    stage.finding(
        "A sees the new content: its private mapping is no snapshot.",
        seen.bytes == [0x22],
        "Until A stores, its entry leads to the driver's own frame. POSIX leaves open what happens here.",
    );
    store(stage, "A", &mut a, 100, 0x99)?;
    stage.finding(
        "The store brought A a frame of its own.",
        stage.pfn("A", 0) != stage.drivers_pfn(),
        "",
    );
    fill(fixture, stage, 0x33)?;
    let seen = load(stage, "A", &mut a)?;
    stage.finding(
        "From its first store on A sees nothing new, not even in bytes that it never touched.",
        seen.bytes == [0x22],
        "The whole page was copied. Each page of a mapping has its own moment from which on it is private.",
    );
    Ok(())
}

fn populate(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    stage.show_the_drivers_frame()?;
    fill(fixture, stage, 0x6b)?;
    let private = Request::private(fixture.device.node());
    let populated = private
        .clone()
        .flags(libc::MAP_PRIVATE | libc::MAP_POPULATE);
    let (mut a, mut b) = (Actor::start("A")?, Actor::start("B")?);
    map(stage, "A", &mut a, &private, "private")?;
    map(stage, "B", &mut b, &populated, "private, with MAP_POPULATE")?;
    let own = stage.frame(stage.pfn("B", 0));
    stage.finding(
        "B has a frame of its own already, and nobody has stored anything.",
        own.is_some_and(|frame| frame.owner == Owner::Anonymous) && stage.pfn("A", 0) == stage.drivers_pfn(),
        "MAP_POPULATE touches the pages as a store would if the mapping may be written to: it copies them all.",
    );
    fill(fixture, stage, 0x6c)?;
    let (of_a, of_b) = (load(stage, "A", &mut a)?, load(stage, "B", &mut b)?);
    stage.finding(
        "A follows the driver, B does not.",
        of_a.bytes == [0x6c] && of_b.bytes == [0x6b],
        "",
    );
    let readonly = populated.prot(nix::sys::mman::ProtFlags::PROT_READ);
    let mut c = Actor::start("C")?;
    map(
        stage,
        "C",
        &mut c,
        &readonly,
        "private, populated, only to read",
    )?;
    stage.finding(
        "Without PROT_WRITE, MAP_POPULATE copies nothing.",
        stage.pfn("C", 0) == stage.drivers_pfn(),
        "There it touches the pages as a load does.",
    );
    Ok(())
}
