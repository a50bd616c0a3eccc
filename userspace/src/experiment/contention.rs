//! Contention: what happens when nobody takes turns.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Experiment;
use crate::error::Result;
use crate::evidence::Evidence;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::race::{self, Lane, Tally};
use crate::sys::Mapping;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "mixed-records",
        summary: "Two processes on two CPUs meet, then store AAA and BBB to the same three bytes, one byte at a \
                  time, round after round; then the same with one aligned 32-bit store each.",
        run: mixed_records,
    },
    Experiment {
        name: "private-records",
        summary: "Two processes on two CPUs meet, then store AAA and BBB one byte at a time, each to its own \
                  private mapping of the device, and check what they have.",
        run: private_records,
    },
    Experiment {
        name: "lost-updates",
        summary: "Two processes on two CPUs add 1 to the same 64-bit word again and again: by a load and a \
                  store, then by an atomic addition.",
        run: lost_updates,
    },
    Experiment {
        name: "adjacent-bytes",
        summary: "Four processes store to four neighbouring bytes of one cache line at the same time; each checks \
                  its own byte after every store.",
        run: adjacent_bytes,
    },
];

/// Enough rounds, or enough sightings, to stop early.
const ENOUGH: u64 = 10;
const ROUNDS: u64 = 20_000;
/// A race that shows nothing in this time is left open.
const LIMIT: Duration = Duration::from_secs(4);

// Counters of the races for records.
const DONE: usize = 0;
const MIXED: usize = 1;

const LETTERS: [u8; 2] = *b"AB";

fn mixed_records(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let bytewise = record_race(fixture, |mapping, letter| {
        mapping.store_bytes(0, &[letter; 3])
    })?;
    evidence.note("bytewise.rounds", bytewise.get(DONE)?);
    evidence.note("bytewise.mixed", bytewise.get(MIXED)?);
    let whole = record_race(fixture, |mapping, letter| {
        let record = u32::from_ne_bytes([letter; 4]);
        mapping.word(0)?.store(record, Ordering::Relaxed);
        Ok(())
    })?;
    evidence.note("word.rounds", whole.get(DONE)?);
    evidence.note("word.mixed", whole.get(MIXED)?);
    Ok(evidence)
}

/// Both store a record at once, then the first looks at the three bytes that came of it.
fn record_race(fixture: &Fixture, store: impl Fn(&Mapping, u8) -> Result<()>) -> Result<Tally> {
    race::run(fixture, LETTERS.len(), LIMIT, |lane| {
        let mapping = fixture.device.map_shared()?;
        let letter = LETTERS[lane.index % LETTERS.len()];
        while lane.meet()? {
            store(&mapping, letter)?;
            if !lane.meet()? {
                break;
            }
            if lane.index == 0 {
                judge_record(lane, &mapping.load_bytes(0, 3)?)?;
            }
        }
        Ok(())
    })
}

fn judge_record(lane: &Lane<'_>, record: &[u8]) -> Result<()> {
    let whole = LETTERS
        .iter()
        .any(|letter| record.iter().all(|byte| byte == letter));
    let mixed = lane.count(MIXED, u64::from(!whole))?;
    if lane.count(DONE, 1)? >= ROUNDS || mixed >= ENOUGH {
        lane.stop()?;
    }
    Ok(())
}

fn private_records(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(b'-')?;
    evidence.note("kernel.before", fixture.device.read(0, 3)?);
    let tally = race::run(fixture, LETTERS.len(), LIMIT, |lane| {
        let mapping = Request::private(fixture.device.node()).map()?;
        let letter = LETTERS[lane.index % LETTERS.len()];
        while lane.meet()? {
            mapping.store_bytes(0, &[letter; 3])?;
            let own = mapping.load_bytes(0, 3)? == [letter; 3];
            lane.count(MIXED, u64::from(!own))?;
            if lane.count(DONE, 1)? >= ROUNDS {
                lane.stop()?;
            }
        }
        Ok(())
    })?;
    evidence.note("private.records", tally.get(DONE)?);
    evidence.note("private.mixed", tally.get(MIXED)?);
    evidence.note("kernel.after", fixture.device.read(0, 3)?);
    Ok(evidence)
}

fn lost_updates(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let plain = addition_race(fixture, |mapping| {
        let word = mapping.long(0)?;
        word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Ok(())
    })?;
    evidence.note("plain.added", plain.0);
    evidence.note("plain.total", plain.1);
    let atomic = addition_race(fixture, |mapping| {
        mapping.long(0)?.fetch_add(1, Ordering::Relaxed);
        Ok(())
    })?;
    evidence.note("atomic.added", atomic.0);
    evidence.note("atomic.total", atomic.1);
    Ok(evidence)
}

/// Returns how often 1 was added and what that made.
fn addition_race(fixture: &Fixture, add: impl Fn(&Mapping) -> Result<()>) -> Result<(u64, u64)> {
    const BATCH: u64 = 10_000;
    const BATCHES: u64 = 6;
    fixture.device.fill(0)?;
    let tally = race::run(fixture, 2, LIMIT, |lane| {
        let mapping = fixture.device.map_shared()?;
        while lane.meet()? {
            for _ in 0..BATCH {
                add(&mapping)?;
            }
            if lane.count(DONE, BATCH)? >= BATCH * BATCHES {
                lane.stop()?;
            }
        }
        Ok(())
    })?;
    let total = fixture
        .device
        .map_shared()?
        .long(0)?
        .load(Ordering::Acquire);
    Ok((tally.get(DONE)?, total))
}

fn adjacent_bytes(fixture: &Fixture) -> Result<Evidence> {
    const WRITERS: usize = 4;
    const STORES: u32 = 20_000;
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let tally = race::run(fixture, WRITERS, LIMIT, |lane| {
        let mapping = fixture.device.map_shared()?;
        lane.meet()?;
        for round in 0..STORES {
            let [value, ..] = round.to_ne_bytes();
            mapping.store(lane.index, value)?;
            let foreign = mapping.load(lane.index)? != value;
            if foreign {
                lane.count(MIXED, 1)?;
            }
        }
        lane.count(DONE, STORES.into())?;
        Ok(())
    })?;
    evidence.note("adjacent.writers", WRITERS as u64);
    evidence.note("adjacent.stores", tally.get(DONE)?);
    evidence.note("adjacent.disturbed", tally.get(MIXED)?);
    let [last, ..] = (STORES - 1).to_ne_bytes();
    evidence.note("last.stored", vec![last; WRITERS]);
    evidence.note("last.seen", fixture.device.read(0, WRITERS)?);
    Ok(evidence)
}
