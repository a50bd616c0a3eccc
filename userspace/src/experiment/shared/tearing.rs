//! Tearing: what a reader sees of a store that is still going on.

use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use crate::error::Result;
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::race::{self, Lane};
use crate::sys::Mapping;

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "half-written",
    summary: "On two CPUs, a writer changes a value between all zeros and all ones while a reader takes snapshots: \
              an aligned 64-bit word, one that straddles two cache lines, a record of 256 bytes, and that record \
              under a sequence counter.",
    run: half_written,
}];

/// Torn snapshots after which there is no need to go on.
const ENOUGH: u64 = 10;
/// Snapshots after which what was never seen is taken not to happen.
const SNAPSHOTS: u64 = 100_000;
/// Hardly ever needed: other load on the machine can keep two CPUs of a guest from running at the same time.
const LIMIT: Duration = Duration::from_secs(20);

// Counters.
const TAKEN: usize = 0;
const TORN: usize = 1;
const ONES: usize = 2;
const ZEROS: usize = 3;

/// A cache line boundary of the page, and a word across it.
const STRADDLING: usize = 64 - 4;
const RECORD: usize = 512;
const RECORD_LEN: usize = 256;
const SEQUENCE: usize = 128;

/// One way to store a value and one to take a snapshot of it.
struct Medium {
    name: &'static str,
    snapshots: u64,
    store: fn(&Mapping, u8) -> Result<()>,
    /// `None` if the snapshot was taken back.
    snapshot: fn(&Mapping) -> Result<Option<Vec<u8>>>,
}

const MEDIA: [Medium; 4] = [
    Medium {
        name: "aligned",
        snapshots: SNAPSHOTS,
        store: |mapping, value| {
            mapping
                .long(0)?
                .store(u64::from_ne_bytes([value; 8]), Ordering::Relaxed);
            Ok(())
        },
        snapshot: |mapping| {
            Ok(Some(
                mapping
                    .long(0)?
                    .load(Ordering::Relaxed)
                    .to_ne_bytes()
                    .to_vec(),
            ))
        },
    },
    Medium {
        name: "straddling",
        snapshots: u64::MAX,
        store: |mapping, value| mapping.store_unaligned(STRADDLING, u64::from_ne_bytes([value; 8])),
        snapshot: |mapping| {
            Ok(Some(
                mapping.load_unaligned(STRADDLING)?.to_ne_bytes().to_vec(),
            ))
        },
    },
    Medium {
        name: "record",
        snapshots: u64::MAX,
        store: |mapping, value| mapping.store_bytes(RECORD, &[value; RECORD_LEN]),
        snapshot: |mapping| mapping.load_bytes(RECORD, RECORD_LEN).map(Some),
    },
    Medium {
        name: "sequenced",
        snapshots: SNAPSHOTS / 100,
        store: store_sequenced,
        snapshot: snapshot_sequenced,
    },
];

fn half_written(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    for medium in &MEDIA {
        fixture.device.fill(0)?;
        let tally = race::run(fixture, 2, LIMIT, |lane| {
            let mapping = fixture.device.map_shared()?;
            lane.meet()?;
            match lane.index {
                0 => write(lane, &mapping, medium),
                _ => read(lane, &mapping, medium),
            }
        })?;
        let name = medium.name;
        evidence.note(format!("{name}.snapshots"), tally.get(TAKEN)?);
        evidence.note(format!("{name}.torn"), tally.get(TORN)?);
        let both = tally.get(ONES)? > 0 && tally.get(ZEROS)? > 0;
        evidence.note(format!("{name}.both-values-seen"), both);
    }
    Ok(evidence)
}

/// Looking at the clock takes longer than a store, so it is done rarely.
const STORES_A_LOOK: usize = 64;

fn write(lane: &Lane<'_>, mapping: &Mapping, medium: &Medium) -> Result<()> {
    while !lane.stopped()? {
        for _ in 0..STORES_A_LOOK {
            (medium.store)(mapping, 0xff)?;
            (medium.store)(mapping, 0)?;
        }
    }
    Ok(())
}

/// Reads until it has seen enough, which also stops the writer.
fn read(lane: &Lane<'_>, mapping: &Mapping, medium: &Medium) -> Result<()> {
    let (mut taken, mut torn, mut ones, mut zeros) = (0, 0, 0, 0);
    while torn < ENOUGH && (taken < medium.snapshots || ones == 0 || zeros == 0) {
        if taken % STORES_A_LOOK as u64 == 0 && lane.stopped()? {
            break;
        }
        let Some(snapshot) = (medium.snapshot)(mapping)? else {
            if lane.stopped()? {
                break;
            }
            continue;
        };
        taken += 1;
        let all = |value: u8| snapshot.iter().all(|byte| *byte == value);
        match (all(0), all(0xff)) {
            (true, _) => zeros += 1,
            (_, true) => ones += 1,
            _ => torn += 1,
        }
    }
    for (counter, value) in [(TAKEN, taken), (TORN, torn), (ONES, ones), (ZEROS, zeros)] {
        lane.count(counter, value)?;
    }
    lane.stop()
}

/// Odd while the record is being written, as `Documentation/locking/seqlock.rst` describes.
fn store_sequenced(mapping: &Mapping, value: u8) -> Result<()> {
    let sequence = mapping.long(SEQUENCE)?;
    let before = sequence.load(Ordering::Relaxed);
    sequence.store(before + 1, Ordering::Relaxed);
    fence(Ordering::Release);
    mapping.store_bytes(RECORD, &[value; RECORD_LEN])?;
    sequence.store(before + 2, Ordering::Release);
    // Readers who are never left alone for the time of a snapshot never get one.
    for _ in 0..4 {
        mapping.load_bytes(RECORD, RECORD_LEN)?;
    }
    Ok(())
}

fn snapshot_sequenced(mapping: &Mapping) -> Result<Option<Vec<u8>>> {
    let sequence = mapping.long(SEQUENCE)?;
    let before = sequence.load(Ordering::Acquire);
    let record = mapping.load_bytes(RECORD, RECORD_LEN)?;
    fence(Ordering::Acquire);
    let unchanged = sequence.load(Ordering::Relaxed) == before && before % 2 == 0;
    Ok(unchanged.then_some(record))
}
