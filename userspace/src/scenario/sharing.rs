//! Sharing: two processes and one frame.

use super::stage::{Act, Stage};
use super::{MAIN, Scenario, USUAL};
use crate::actor::Actor;
use crate::error::Result;
use crate::evidence::CallEnd;
use crate::fixture::Fixture;
use crate::object::Request;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "one-frame",
        title: "One frame, two processes",
        question: "Two programs that know nothing of each other map the same device, shared. How does what one \
                   stores get to the other?",
        claims: &[
            "shared-same-physical-page",
            "shared-writes-visible-across-processes",
            "shared-user-store-visible-to-kernel",
        ],
        needs: USUAL,
        boots: MAIN,
        play: one_frame,
    },
    Scenario {
        name: "both-flags",
        title: "Two flags or-ed",
        question: "MAP_SHARED and MAP_PRIVATE exclude each other, the books say. What does the kernel say to both?",
        claims: &["private-shared-mutually-exclusive"],
        needs: USUAL,
        boots: MAIN,
        play: both_flags,
    },
];

fn one_frame(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    fixture.device.fill(0x6b)?;
    stage.show_the_drivers_frame()?;
    stage.record(
        Act::new("the driver", "fills its page with 0x6b").call("pwrite(fd, ..., 4096, 0)"),
    )?;
    let request = Request::shared(fixture.device.node());
    let (mut a, mut b) = (Actor::start("A")?, Actor::start("B")?);
    for (name, actor) in [("A", &mut a), ("B", &mut b)] {
        let end = actor.try_map(&request)?;
        stage.watch_actor(name, actor)?;
        let act = Act::new(name, "maps the device, shared");
        stage.record(act.call(request.to_string()).result(end))?;
    }
    stage.finding(
        "The addresses may differ, the frame is the same: the driver's own.",
        stage.pfn("A", 0).is_some()
            && stage.pfn("A", 0) == stage.pfn("B", 0)
            && stage.pfn("B", 0) == stage.drivers_pfn(),
        "Nothing is copied between the two, as there is only one page.",
    );
    let faults = a.store(0, b"A")?;
    let act = Act::new("A", "stores 'A' (0x41) at offset 0");
    stage.record(act.fact("a.page-faults", faults))?;
    stage.finding(
        "The store needed no page fault.",
        faults == 0,
        "The driver had put the page into the table when mmap was called, writable.",
    );
    let loaded = b.load(0, 1)?;
    let act = Act::new("B", "loads the byte at offset 0");
    stage.record(
        act.result(loaded.bytes.as_slice())
            .fact("b.page-faults", loaded.faults),
    )?;
    stage.finding(
        "B has what A stored, without any call.",
        loaded.bytes == b"A",
        "It is the same memory.",
    );
    let read = fixture.device.read(0, 1)?;
    let act = Act::new("the driver", "reads its page for whoever calls read");
    stage.record(act.call("pread(fd, buf, 1, 0)").result(read.as_slice()))?;
    stage.finding(
        "The kernel has it, too.",
        read == b"A",
        "The store went to the driver's memory. There is no msync that would bring it there.",
    );
    Ok(())
}

/// A bit of `flags` that no kernel up to 7.3 gives a meaning, include/uapi/asm-generic/mman-common.h.
const MEANINGLESS: i32 = 1 << 24;

fn both_flags(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    const BOTH: i32 = libc::MAP_SHARED | libc::MAP_PRIVATE;
    fixture.device.fill(0)?;
    stage.show_the_drivers_frame()?;
    let private = Request::private(fixture.device.node());
    let (mut a, mut b) = (Actor::start("A")?, Actor::start("B")?);
    let both = private.clone().flags(BOTH);
    let end = a.try_map(&both)?;
    if end == CallEnd::Ok {
        stage.watch_actor("A", &mut a)?;
    }
    let act = Act::new("A", "maps the device with both flags");
    stage.record(act.call(both.to_string()).result(end.clone()))?;
    let shared = stage.vmas("A").iter().any(|vma| vma.mode.ends_with('s'));
    stage.finding(
        "The kernel takes both, and the mapping is shared.",
        end == CallEnd::Ok && shared,
        "The two bits together are a third value, MAP_SHARED_VALIDATE.",
    );
    let end = b.try_map(&private)?;
    stage.watch_actor("B", &mut b)?;
    let act = Act::new("B", "maps it private, for comparison");
    stage.record(act.call(private.to_string()).result(end))?;
    a.store(0, b"x")?;
    let read = fixture.device.read(0, 1)?;
    let act = Act::new("A", "stores 'x' (0x78) at offset 0");
    stage.record(act.fact("the-driver.sees", read.as_slice()))?;
    stage.finding(
        "The store reached the driver's frame.",
        read == b"x" && stage.pfn("A", 0) == stage.drivers_pfn(),
        "",
    );
    b.store(0, b"y")?;
    let read = fixture.device.read(0, 1)?;
    let act = Act::new("B", "stores 'y' (0x79) at offset 0");
    stage.record(act.fact("the-driver.sees", read.as_slice()))?;
    stage.finding(
        "That of the private mapping did not: B has a frame of its own now.",
        read == b"x" && stage.pfn("B", 0) != stage.drivers_pfn(),
        "",
    );
    let mut c = Actor::start("C")?;
    let unknown = both.clone().flags(BOTH | MEANINGLESS);
    let end = c.try_map(&unknown)?;
    stage.watch("C", c.pid(), Vec::new());
    let act = Act::new("C", "maps with both flags and a bit that means nothing");
    stage.record(act.call(unknown.to_string()).result(end.clone()))?;
    stage.finding(
        "MAP_SHARED_VALIDATE refuses what it does not know.",
        end == CallEnd::Refused("EOPNOTSUPP".to_owned()),
        "This is what it is for: MAP_SHARED alone ignores bits that it does not know.",
    );
    Ok(())
}
