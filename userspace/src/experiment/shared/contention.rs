//! Contention: what happens when nobody takes turns.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Result;
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::race::{self, Tally};
use crate::sys::Mapping;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "mixed-records",
        summary: "Two processes on two CPUs meet, then one stores 1024 times A and the other 1024 times B to the \
                  same place, byte by byte, round after round; then the same with 4 bytes in one aligned store.",
        run: mixed_records,
    },
    Experiment {
        name: "private-records",
        summary: "Two processes on two CPUs meet, then one stores 1024 times A and the other 1024 times B, byte by \
                  byte, each to its own private mapping of the device, and check what they have.",
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

/// Sightings after which there is no need to go on.
const ENOUGH: u64 = 5;
/// Rounds after which what was never seen is taken not to happen; mixed bytes show every 150 rounds or so.
const ROUNDS: u64 = 1_000;
/// A race that shows nothing in this time is left open. Other load on the machine can keep two CPUs of a guest
/// from ever running at the same time, so this is long; it is hardly ever needed.
const LIMIT: Duration = Duration::from_secs(20);

// Counters of the races for records.
const DONE: usize = 0;
const MIXED: usize = 1;

const LETTERS: [u8; 2] = *b"AB";
/// Long enough for two processes to be at it at the same time, whatever else the machine does.
const RECORD_LEN: usize = 1024;
const WORD_LEN: usize = size_of::<u32>();

fn mixed_records(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let bytes = |mapping: &Mapping, letter| mapping.store_bytes(0, &[letter; RECORD_LEN]);
    let bytewise = record_race(fixture, RECORD_LEN, u64::MAX, bytes)?;
    evidence.note("bytewise.rounds", bytewise.get(DONE)?);
    evidence.note("bytewise.mixed", bytewise.get(MIXED)?);
    let word = |mapping: &Mapping, letter| {
        let record = u32::from_ne_bytes([letter; WORD_LEN]);
        mapping.word(0)?.store(record, Ordering::Relaxed);
        Ok(())
    };
    let whole = record_race(fixture, WORD_LEN, ROUNDS, word)?;
    evidence.note("word.rounds", whole.get(DONE)?);
    evidence.note("word.mixed", whole.get(MIXED)?);
    Ok(evidence)
}

/// Both store a record at once, then the first looks at what came of it.
fn record_race(
    fixture: &Fixture,
    len: usize,
    rounds: u64,
    store: impl Fn(&Mapping, u8) -> Result<()>,
) -> Result<Tally> {
    race::run(fixture, LETTERS.len(), LIMIT, |lane| {
        let mapping = fixture.device.map_shared()?;
        let letter = LETTERS[lane.index % LETTERS.len()];
        while lane.meet()? {
            store(&mapping, letter)?;
            if !lane.meet()? {
                break;
            }
            if lane.index == 0 {
                let record = mapping.load_bytes(0, len)?;
                let of_one = |letter| record.iter().all(|byte| byte == letter);
                let mixed = lane.count(MIXED, u64::from(!LETTERS.iter().any(of_one)))?;
                if lane.count(DONE, 1)? >= rounds || mixed >= ENOUGH {
                    lane.stop()?;
                }
            }
        }
        Ok(())
    })
}

fn private_records(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(b'-')?;
    evidence.note("kernel.before", fixture.device.read(0, 3)?);
    let tally = race::run(fixture, LETTERS.len(), LIMIT, |lane| {
        let mapping = Request::private(fixture.device.node()).map()?;
        let letter = LETTERS[lane.index % LETTERS.len()];
        while lane.meet()? {
            mapping.store_bytes(0, &[letter; RECORD_LEN])?;
            let own = mapping.load_bytes(0, RECORD_LEN)? == [letter; RECORD_LEN];
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
    let load_and_store = |word: &AtomicU64| {
        let sum = word.load(Ordering::Relaxed).wrapping_add(1);
        word.store(sum, Ordering::Relaxed);
    };
    let plain = addition_race(fixture, |added, total| total < added, load_and_store)?;
    evidence.note("plain.added", plain.0);
    evidence.note("plain.total", plain.1);
    let add = |word: &AtomicU64| {
        word.fetch_add(1, Ordering::Relaxed);
    };
    let atomic = addition_race(fixture, |added, _| added >= 400_000, add)?;
    evidence.note("atomic.added", atomic.0);
    evidence.note("atomic.total", atomic.1);
    Ok(evidence)
}

/// Returns how often 1 was added and what that made; `enough` ends the race.
fn addition_race(
    fixture: &Fixture,
    enough: impl Fn(u64, u64) -> bool,
    add: impl Fn(&AtomicU64),
) -> Result<(u64, u64)> {
    const BATCH: u64 = 50_000;
    fixture.device.fill(0)?;
    let tally = race::run(fixture, 2, LIMIT, |lane| {
        let mapping = fixture.device.map_shared()?;
        let word = mapping.long(0)?;
        while lane.meet()? {
            for _ in 0..BATCH {
                add(word);
            }
            lane.count(DONE, BATCH)?;
            if lane.meet()? && lane.index == 0 {
                let added = lane.count(DONE, 0)?;
                if enough(added, word.load(Ordering::Relaxed)) {
                    lane.stop()?;
                }
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
