//! Identity: which mappings are the same memory, told by physical frames and by content.

use crate::actor::Actor;
use crate::error::Result;
use crate::evidence::{Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "same-frame",
        summary: "Two unrelated processes map the device shared and look their page up in pagemap; one then \
                  stores to every byte of the page and counts its page faults.",
        run: same_frame,
    },
    Experiment {
        name: "fork-inherits",
        summary: "Maps the device shared and forks. The child looks the page up before it touches it, loads what \
                  the parent stored and stores an answer. The same with a file in memory.",
        run: fork_inherits,
    },
    Experiment {
        name: "anonymous-relations",
        summary: "A child stores into anonymous memory that it inherited, shared and private; the parent looks. \
                  Two unrelated processes each map shared anonymous memory; then both open one memory file.",
        run: anonymous_relations,
    },
];

fn same_frame(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let request = Request::shared(fixture.device.node());
    let (mut a, mut b) = (fixture.actor("A")?, fixture.actor("B")?);
    a.map(&request)?;
    b.map(&request)?;
    // A fault may have to bring the page in; what is counted is what stores cost after that.
    evidence.note("a.first-faults", a.store(0, &[0])?);
    evidence.note("a.stores", PAGE_SIZE as u64);
    evidence.note("a.faults", a.store(0, &[0x61; PAGE_SIZE])?);
    evidence.note("b.seen", b.load(PAGE_SIZE - 2, 2)?.bytes);
    evidence.note("a.stored", vec![0x61, 0x61]);
    evidence.note("kernel.pfn", Value::Pfn(Some(fixture.device.pfn(0)?)));
    evidence.note("a.pfn", Value::Pfn(a.page()?.pfn));
    evidence.note("b.pfn", Value::Pfn(b.page()?.pfn));
    let flags = b.vma()?.map(|vma| vma.flags).unwrap_or_default();
    evidence.note("b.vmflags", flags);
    Ok(evidence)
}

fn fork_inherits(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    talk_to_child(&fixture.device.map_shared()?, "device", &mut evidence)?;
    let file = MemFile::new(PAGE_SIZE)?;
    talk_to_child(&Request::shared(file.path()).map()?, "file", &mut evidence)?;
    Ok(evidence)
}

fn talk_to_child(mapping: &Mapping, object: &str, evidence: &mut Evidence) -> Result<()> {
    mapping.store_bytes(0, b"parent")?;
    evidence.note(format!("{object}.parent-stored"), &b"parent"[..]);
    evidence.note(
        format!("{object}.parent-pfn"),
        Value::Pfn(procfs::page(mapping.addr())?.pfn),
    );
    let mut child = Actor::fork("the child", mapping)?;
    evidence.note(format!("{object}.child-pfn"), Value::Pfn(child.page()?.pfn));
    let loaded = child.load(0, 6)?;
    evidence.note(format!("{object}.child-seen"), loaded.bytes);
    evidence.note(format!("{object}.child-faults"), loaded.faults);
    child.store(0, b"child!")?;
    evidence.note(format!("{object}.child-stored"), &b"child!"[..]);
    evidence.note(format!("{object}.parent-seen"), mapping.load_bytes(0, 6)?);
    Ok(())
}

fn anonymous_relations(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    evidence.note("original.byte", vec![0]);
    evidence.note("child.stored", &b"I"[..]);
    let kinds = [("shared", libc::MAP_SHARED), ("private", libc::MAP_PRIVATE)];
    for (kind, sharing) in kinds {
        let mapping = Request::anonymous(sharing).map()?;
        // Written to before the fork, so that there is one page to share or to copy.
        mapping.store(0, 0)?;
        let mut child = Actor::fork("the child", &mapping)?;
        child.store(0, b"I")?;
        evidence.note(format!("{kind}.child-sees"), child.load(0, 1)?.bytes);
        evidence.note(format!("{kind}.parent-sees"), mapping.load_bytes(0, 1)?);
    }
    let (mut a, mut b) = (fixture.actor("A")?, fixture.actor("B")?);
    for stranger in [&mut a, &mut b] {
        stranger.map(&Request::anonymous(libc::MAP_SHARED))?;
    }
    a.store(0, b"A")?;
    evidence.note("stranger.stored", &b"A"[..]);
    evidence.note("stranger.sees", b.load(0, 1)?.bytes);
    let file = MemFile::new(PAGE_SIZE)?;
    for stranger in [&mut a, &mut b] {
        stranger.map(&Request::shared(file.path()))?;
    }
    a.store(0, b"A")?;
    evidence.note("named.stranger-sees", b.load(0, 1)?.bytes);
    Ok(evidence)
}
