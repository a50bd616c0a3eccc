//! Sum: additions of several processes to one word of the device, and what keeps them from getting lost.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::race::{self, Lane};
use crate::sys::ioctl;
use crate::sys::lock::Semaphore;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "atomic-operations",
        summary: "Three processes add to one word at the same time, by an atomic addition, by compare-and-swap, and \
                  through the kernel; two exchange tokens by swap; and two add by a load and a store.",
        run: atomic_operations,
    },
    Experiment {
        name: "named-semaphore",
        summary: "Two processes open a semaphore by its name and add to a word of the device by a load and a store, \
                  first without waiting for the semaphore, then each time between wait and post.",
        run: named_semaphore,
    },
];

/// Hardly ever needed: other load on the machine can keep two CPUs of a guest from running at the same time.
const LIMIT: Duration = Duration::from_secs(20);
/// Additions between two looks at the sum.
const BATCH: u64 = 20_000;
/// The word.
const WORD: usize = 0;
// Counters.
const ADDED: usize = 0;
const TAKEN_OUT: usize = 1;
const PUT_IN: usize = 2;

/// An addition that can get lost.
pub(super) fn load_and_store(word: &AtomicU64) {
    let sum = word.load(Ordering::Relaxed);
    // Long enough for somebody else to come between.
    for _ in 0..10 {
        std::hint::black_box(sum);
    }
    word.store(sum + 1, Ordering::Relaxed);
}

/// Lets two processes add without any order until an addition is lost, and notes that.
pub(super) fn lose_some(
    fixture: &Fixture,
    name: &str,
    add: impl Fn(&AtomicU64),
    evidence: &mut Evidence,
) -> Result<()> {
    fixture.device.fill(0)?;
    let tally = race::run(fixture, 2, LIMIT, |lane| {
        let mapping = fixture.device.map_shared()?;
        let word = mapping.long(WORD)?;
        while lane.meet()? {
            (0..BATCH).for_each(|_| add(word));
            lane.count(ADDED, BATCH)?;
            let all_added = lane.meet()?;
            if all_added
                && lane.index == 0
                && word.load(Ordering::Relaxed) < lane.count(ADDED, 0)?
            {
                lane.stop()?;
            }
        }
        Ok(())
    })?;
    evidence.note(format!("{name}.added"), tally.get(ADDED)?);
    evidence.note(format!("{name}.total"), total(fixture)?);
    Ok(())
}

/// Lets two processes make `additions` each; `guard`, made in each of them, brings one about.
pub(super) fn add_guarded<G: FnMut(&dyn Fn()) -> Result<()>>(
    fixture: &Fixture,
    additions: u64,
    guard: impl Fn() -> Result<G>,
) -> Result<(u64, u64)> {
    fixture.device.fill(0)?;
    let tally = race::run(fixture, 2, LIMIT, |lane| {
        let mapping = fixture.device.map_shared()?;
        let word = mapping.long(WORD)?;
        let mut guard = guard()?;
        lane.meet()?;
        for _ in 0..additions {
            guard(&|| load_and_store(word))?;
        }
        lane.count(ADDED, additions).map(drop)
    })?;
    Ok((tally.get(ADDED)?, total(fixture)?))
}

fn total(fixture: &Fixture) -> Result<u64> {
    let mapping = fixture.device.map_shared()?;
    Ok(mapping.long(WORD)?.load(Ordering::Acquire))
}

fn atomic_operations(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    lose_some(fixture, "unguarded", load_and_store, &mut evidence)?;
    fixture.device.fill(0)?;
    let tally = race::run(fixture, 3, LIMIT, |lane| {
        lane.meet()?;
        let added = add_atomically(fixture, lane.index)?;
        lane.count(ADDED, added).map(drop)
    })?;
    evidence.note("atomic.added", tally.get(ADDED)?);
    evidence.note("atomic.total", total(fixture)?);

    fixture.device.fill(0)?;
    let tally = race::run(fixture, 2, LIMIT, |lane| exchange_tokens(fixture, lane))?;
    let left = total(fixture)?;
    evidence.note("tokens.put-in", tally.get(PUT_IN)?);
    evidence.note("tokens.taken-out", tally.get(TAKEN_OUT)?.wrapping_add(left));
    Ok(evidence)
}

/// Each adds in its own way.
fn add_atomically(fixture: &Fixture, way: usize) -> Result<u64> {
    const CALLS: u64 = 1_000;
    let device = fixture.device.open()?;
    let mapping = fixture.device.map_shared()?;
    let word = mapping.long(WORD)?;
    match way {
        0 => (0..BATCH).for_each(|_| {
            word.fetch_add(1, Ordering::Relaxed);
        }),
        1 => (0..BATCH).for_each(|_| {
            let add = |sum| Some(sum + 1);
            let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        }),
        _ => {
            let increment = || ioctl::increment(device.as_fd(), WORD as u64);
            let object = fixture.device.node().display().to_string();
            let done = (0..CALLS).try_for_each(|_| increment());
            done.map_err(Error::call("ioctl(INCREMENT)", object))?;
        }
    }
    Ok(if way < 2 { BATCH } else { CALLS })
}

/// Each token goes in once; whatever was there comes out, and must be somebody's token.
fn exchange_tokens(fixture: &Fixture, lane: &Lane<'_>) -> Result<()> {
    let mapping = fixture.device.map_shared()?;
    let word = mapping.long(WORD)?;
    let (mut put_in, mut taken_out) = (0_u64, 0_u64);
    lane.meet()?;
    for number in 1..=BATCH {
        let token = number * 2 + lane.index as u64;
        put_in = put_in.wrapping_add(token);
        taken_out = taken_out.wrapping_add(word.swap(token, Ordering::Relaxed));
    }
    lane.count(PUT_IN, put_in)?;
    lane.count(TAKEN_OUT, taken_out).map(drop)
}

fn named_semaphore(fixture: &Fixture) -> Result<Evidence> {
    const ADDITIONS: u64 = 3_000;
    let mut evidence = Evidence::new();
    lose_some(fixture, "unguarded", load_and_store, &mut evidence)?;
    let text = format!("/mmapdemo-{}", std::process::id());
    let name = CString::new(text.as_str()).unwrap_or_default();
    let failed = |call: &'static str| Error::call(call, text.clone());
    let _semaphore = Semaphore::create(&name, 1).map_err(failed("sem_open(O_CREAT)"))?;
    let added = add_guarded(fixture, ADDITIONS, || {
        let semaphore = Semaphore::open(&name).map_err(failed("sem_open()"))?;
        Ok(move |add: &dyn Fn()| {
            semaphore.wait().map_err(Error::call("sem_wait()", "it"))?;
            add();
            semaphore.post().map_err(Error::call("sem_post()", "it"))
        })
    });
    Semaphore::unlink(&name).map_err(failed("sem_unlink()"))?;
    let (added, total) = added?;
    evidence.note("guarded.added", added);
    evidence.note("guarded.total", total);
    Ok(evidence)
}
