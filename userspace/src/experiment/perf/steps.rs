//! Steps: what each step of a mapping's life costs, in instructions.

use std::fs::File;
use std::os::fd::AsFd;

use crate::cost;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::object::Request;
use crate::sys::Mapping;

/// Each step with its cost.
type Life = Vec<(String, u64)>;

pub(super) fn note_costs(device: &Device, evidence: &mut Evidence) -> Result<()> {
    let mut lives = Vec::new();
    for _ in 0..cost::WARM_UP + cost::COUNTS {
        lives.push(one_life(device)?);
    }
    let counted = lives.split_off(cost::WARM_UP);
    for (nr, (step, _)) in counted.first().into_iter().flatten().enumerate() {
        let costs = counted.iter().filter_map(|life: &Life| life.get(nr));
        let costs = costs.map(|(_, cost)| *cost).collect();
        evidence.note(format!("step.{step}-instructions"), cost::median(costs));
    }
    Ok(())
}

/// Opens the device, maps it shared and then private, touches each mapping and takes it down.
fn one_life(device: &Device) -> Result<Life> {
    let mut life = Life::new();
    let mut note = |step: &str, cost| life.push((step.to_owned(), cost));
    // What all the others contain, too: two looks at the clock.
    note("nothing", cost::of(|| Ok(()))?.1);
    let mut how = File::options();
    how.read(true).write(true);
    let (file, cost) = cost::of(|| Ok(how.open(device.node())))?;
    let file = file.map_err(Error::file("open", device.node()))?;
    note("open", cost);
    for (kind, request) in [
        ("shared", Request::shared(device.node())),
        ("private", Request::private(device.node())),
    ] {
        let mut note = |step: &str, cost| note(&format!("{kind}-{step}"), cost);
        let call = request.call();
        let (mapped, cost) = cost::of(|| Ok(Mapping::new(call, Some(file.as_fd()))))?;
        let mapped = mapped.map_err(Error::call("mmap()", "the device"))?;
        note("map", cost);
        note("first-load", cost::of(|| mapped.load(0))?.1);
        for step in ["first-store", "next-store"] {
            note(step, cost::of(|| mapped.store(0, 1))?.1);
        }
        let (unmapped, cost) = cost::of(|| Ok(mapped.unmap()))?;
        unmapped.map_err(Error::call("munmap()", "the device"))?;
        note("unmap", cost);
    }
    Ok(life)
}
