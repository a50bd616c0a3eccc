//! Heap: where the C library's allocator takes memory from.

use crate::actor::Actor;
use crate::error::Result;
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "allocate",
    summary: "A process that has just begun allocates 127 KiB, 200 KiB (more than the heap ever has left), 200 KiB \
              again and 600 KiB, each block freed before the next, and looks up each in /proc.",
    run: allocate,
}];

const KIB: usize = 1024;

fn allocate(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let mut fresh = Actor::start("a fresh process")?;
    for (name, len) in [
        ("small", 127 * KIB),
        ("large", 200 * KIB),
        ("again", 200 * KIB),
        ("larger", 600 * KIB),
    ] {
        let area = fresh.allocate(len)?;
        evidence.note(format!("{name}.in-heap"), area.name == "[heap]");
        evidence.note(format!("{name}.in-file"), area.inode != 0);
        evidence.note(format!("{name}.mode"), area.mode.as_str());
        evidence.note(format!("{name}.area-kib"), (area.end - area.start) / 1024);
    }
    Ok(evidence)
}
