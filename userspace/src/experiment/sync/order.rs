//! Order: in which order another CPU sees stores, and what a spinning CPU costs.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::pipe;

use super::sum::{load_and_store, lose_some};
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::process::readable;
use crate::race::{self, Lane, Tally};
use crate::sys::Mapping;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "store-buffering",
        summary: "On two CPUs, one process stores to x and loads y, the other stores to y and loads x, both at once, \
                  without and with a fence between store and load. Counts how often both load what was there before. \
                  Then both add to one word, by a load and a store between fences.",
        run: store_buffering,
    },
    Experiment {
        name: "published-messages",
        summary: "A writer stores 128 numbers and then, in a seq_cst store, the message's number; a reader that sees \
                  the number compares them all. Then the writer publishes first and stores afterwards.",
        run: published_messages,
    },
    Experiment {
        name: "spin-hint",
        summary: "Two processes hand a word back and forth, spinning with the PAUSE instruction and without. One process \
                  polls for a while in both ways, then sleeps: polls, and the share of the time in which it had a CPU.",
        run: spin_hint,
    },
];

/// Sightings after which there is no need to go on.
const ENOUGH: u64 = 2;
/// Rounds after which what was never seen is taken not to happen.
const ROUNDS: u64 = 10_000;
/// Hardly ever needed: other load on the machine can keep two CPUs of a guest from running at the same time.
const LIMIT: Duration = Duration::from_secs(20);
/// Looking at the clock takes longer than a load, so it is done rarely.
const SPINS_A_LOOK: u32 = 4096;

// Counters.
const DONE: usize = 0;
const ODD: usize = 1;

/// What to do between two looks at a word.
type Hint = fn();
/// Leaves the CPU to others for a moment; an emulated one stops, and takes microseconds to go on.
const PAUSED: Hint = std::hint::spin_loop;
/// Goes on at once.
const PLAIN: Hint = || ();

/// Spins until the word has this value, or has gone on from there; `false` if the race was stopped before.
fn await_word(lane: &Lane<'_>, word: &AtomicU32, value: u32, hint: Hint) -> Result<bool> {
    for spins in 1_u32.. {
        if word.load(Ordering::Acquire) >= value {
            return Ok(true);
        }
        if spins % SPINS_A_LOOK == 0 && lane.stopped()? {
            return Ok(false);
        }
        hint();
    }
    Ok(false)
}

// Each in a cache line of its own.
const X: usize = 0;
const Y: usize = 64;
const ARRIVED: [usize; 2] = [128, 192];
const SEEN: [usize; 2] = [1024, 2048];
/// Who arrives last leaves first, by as long as it takes the other to see that. So each of the two waits for 0 to 15 turns
/// of an empty loop before it leaves: among these are some that make up for it, on fast hosts and on slow ones.
const NR_DELAYS: u32 = 16;
/// Rounds between two meetings: all pairs of delays.
const BATCH: u32 = NR_DELAYS * NR_DELAYS;

fn store_buffering(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    for (name, fenced, rounds) in [("unfenced", false, u64::MAX), ("fenced", true, ROUNDS)] {
        let tally = buffering_race(fixture, fenced, rounds)?;
        evidence.note(format!("{name}.rounds"), tally.get(DONE)?);
        evidence.note(format!("{name}.both-old"), tally.get(ODD)?);
    }
    let add_between_fences = |word: &AtomicU64| {
        fence(Ordering::SeqCst);
        load_and_store(word);
        fence(Ordering::SeqCst);
    };
    lose_some(fixture, "fenced-sum", add_between_fences, &mut evidence)?;
    Ok(evidence)
}

fn buffering_race(fixture: &Fixture, fenced: bool, rounds: u64) -> Result<Tally> {
    fixture.device.fill(0)?;
    race::run(fixture, 2, LIMIT, |lane| {
        let mapping = fixture.device.map_shared()?;
        let first = lane.index == 0;
        let mut round = 0;
        while lane.meet()? {
            for slot in 0..BATCH {
                round += 1;
                if !one_round(lane, &mapping, round, slot, fenced)? {
                    return Ok(());
                }
            }
            if lane.meet()? && first {
                let mut both_old = 0;
                for slot in 0..BATCH as usize {
                    let old = |seen: usize| Ok(mapping.load(seen + slot)? == 0);
                    both_old += u64::from(old(SEEN[0])? && old(SEEN[1])?);
                }
                let odd = lane.count(ODD, both_old)?;
                if lane.count(DONE, BATCH.into())? >= rounds || odd >= ENOUGH {
                    lane.stop()?;
                }
            }
        }
        Ok(())
    })
}

/// Sets both words to 0, waits for the other, stores to one and loads the other; `false` if the race is over.
fn one_round(
    lane: &Lane<'_>,
    mapping: &Mapping,
    round: u32,
    slot: u32,
    fenced: bool,
) -> Result<bool> {
    let ([own, other], [to, from], seen, delay) = match lane.index {
        0 => (ARRIVED, [X, Y], SEEN[0], slot % NR_DELAYS),
        _ => ([ARRIVED[1], ARRIVED[0]], [Y, X], SEEN[1], slot / NR_DELAYS),
    };
    let (to, from) = (mapping.word(to)?, mapping.word(from)?);
    let (own, other) = (mapping.word(own)?, mapping.word(other)?);
    to.store(0, Ordering::Relaxed);
    own.store(2 * round - 1, Ordering::Release);
    // Both have to leave within nanoseconds.
    if !await_word(lane, other, 2 * round - 1, PLAIN)? {
        return Ok(false);
    }
    for turn in 0..delay {
        std::hint::black_box(turn);
    }
    to.store(1, Ordering::Relaxed);
    if fenced {
        fence(Ordering::SeqCst);
    }
    let loaded = from.load(Ordering::Relaxed);
    mapping.store(seen + slot as usize, u8::from(loaded != 0))?;
    own.store(2 * round, Ordering::Release);
    await_word(lane, other, 2 * round, PLAIN)
}

const FLAG: usize = 0;
const TAKEN: usize = 64;
const MESSAGE: usize = 256;
/// So many that storing them takes a while, in which a flag set too early can be seen.
const NUMBERS: u64 = 128;

fn published_messages(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    for (name, publish_first, messages) in [("after", false, ROUNDS), ("before", true, u64::MAX)] {
        fixture.device.fill(0)?;
        let tally = race::run(fixture, 2, LIMIT, |lane| {
            let mapping = fixture.device.map_shared()?;
            lane.meet()?;
            match lane.index {
                0 => write_messages(lane, &mapping, publish_first),
                _ => read_messages(lane, &mapping, messages),
            }
        })?;
        evidence.note(format!("{name}.messages"), tally.get(DONE)?);
        evidence.note(format!("{name}.wrong"), tally.get(ODD)?);
    }
    Ok(evidence)
}

/// The numbers of a message, with their places; none is in two messages.
fn numbers(message: u32) -> impl Iterator<Item = (usize, u64)> {
    let places = (MESSAGE..).step_by(size_of::<u64>());
    let first = u64::from(message) * NUMBERS;
    places.zip(first..first + NUMBERS)
}

fn write_messages(lane: &Lane<'_>, mapping: &Mapping, publish_first: bool) -> Result<()> {
    for message in 1_u32.. {
        let publish = || {
            let flag = mapping.word(FLAG)?;
            flag.store(message, Ordering::SeqCst);
            Ok::<_, Error>(())
        };
        if publish_first {
            publish()?;
        }
        for (offset, number) in numbers(message) {
            mapping.long(offset)?.store(number, Ordering::Relaxed);
        }
        if !publish_first {
            publish()?;
        }
        if !await_word(lane, mapping.word(TAKEN)?, message, PAUSED)? {
            break;
        }
    }
    Ok(())
}

fn read_messages(lane: &Lane<'_>, mapping: &Mapping, messages: u64) -> Result<()> {
    let (mut read, mut wrong) = (0, 0);
    let flag = mapping.word(FLAG)?;
    for message in 1_u32.. {
        if read >= messages || wrong >= ENOUGH || !await_word(lane, flag, message, PAUSED)? {
            break;
        }
        let mut right = true;
        for (offset, number) in numbers(message) {
            right &= mapping.long(offset)?.load(Ordering::Relaxed) == number;
        }
        read += 1;
        wrong += u64::from(!right);
        mapping.word(TAKEN)?.store(message, Ordering::Release);
    }
    lane.count(DONE, read)?;
    lane.count(ODD, wrong)?;
    lane.stop()
}

const HINTS: [(&str, Hint); 2] = [("paused", PAUSED), ("plain", PLAIN)];

fn spin_hint(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    for (name, hint) in HINTS {
        evidence.note(format!("{name}.handovers"), hand_over(fixture, hint)?);
    }
    let mapping = Request::shared(fixture.device.node()).map()?;
    let word = mapping.word(0)?;
    let mut best = [0; HINTS.len()];
    // Other load on the machine takes polls away, never adds any: the best of several short times counts.
    let spinning = share_of_a_cpu(|| {
        for _ in 0..TIMES {
            for (best, (_, hint)) in best.iter_mut().zip(HINTS) {
                *best = polls(word, hint).max(*best);
            }
        }
        Ok(())
    })?;
    for ((name, _), polls) in HINTS.iter().zip(best) {
        evidence.note(format!("{name}.polls"), polls);
    }
    evidence.note("spinning.percent-of-a-cpu", spinning);
    let (never_readable, _writer) = pipe().map_err(Error::call("pipe()", "nobody"))?;
    let asleep = share_of_a_cpu(|| readable(&never_readable, TIMES * A_WHILE, "nothing"))?;
    evidence.note("asleep.percent-of-a-cpu", asleep);
    Ok(evidence)
}

const A_WHILE: Duration = Duration::from_millis(1);
const TIMES: u32 = 10;

/// How often the word can be looked at in a while.
fn polls(word: &AtomicU32, hint: Hint) -> u64 {
    const POLLS_A_LOOK: u64 = 100;
    let until = Instant::now() + A_WHILE;
    let mut polls = 0;
    while Instant::now() < until {
        for _ in 0..POLLS_A_LOOK {
            std::hint::black_box(word.load(Ordering::Relaxed));
            hint();
        }
        polls += POLLS_A_LOOK;
    }
    polls
}

/// How often two processes hand a word back and forth in a fixed number of rounds.
fn hand_over(fixture: &Fixture, hint: Hint) -> Result<u64> {
    const HANDOVERS: u32 = 2_000;
    fixture.device.fill(0)?;
    let tally = race::run(fixture, 2, LIMIT, |lane| {
        let mapping = fixture.device.map_shared()?;
        let word = mapping.word(0)?;
        let turn = u32::from(lane.index != 0);
        lane.meet()?;
        let mut spins = 0_u32;
        while word.load(Ordering::Acquire) < HANDOVERS {
            let value = word.load(Ordering::Acquire);
            if value % 2 == turn && value < HANDOVERS {
                word.store(value + 1, Ordering::Release);
                lane.count(DONE, 1)?;
            }
            spins = spins.wrapping_add(1);
            if spins % SPINS_A_LOOK == 0 && lane.stopped()? {
                break;
            }
            hint();
        }
        Ok(())
    })?;
    tally.get(DONE)
}

/// The percentage of the time that something takes in which this process has a CPU.
fn share_of_a_cpu<T>(what: impl FnOnce() -> Result<T>) -> Result<u64> {
    let (before, start) = (cpu_time()?, Instant::now());
    what()?;
    let passed = start.elapsed().as_micros().max(1);
    let used = cpu_time()?.saturating_sub(before).as_micros();
    Ok(u64::try_from(used * 100 / passed).unwrap_or(u64::MAX))
}

/// The CPU time that this process has used, in the kernel and outside.
fn cpu_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(Error::call("getrusage()", "self"))?;
    let micros = |time: nix::sys::time::TimeVal| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds * 1_000_000 + u64::try_from(time.tv_usec()).unwrap_or(0)
    };
    let total = micros(usage.user_time()) + micros(usage.system_time());
    Ok(Duration::from_micros(total))
}
