//! Races: what becomes of two processes' stores when nobody takes turns.

use super::stage::{Act, Stage};
use super::{MAIN, Scenario, observe};
use crate::actor::Actor;
use crate::error::Result;
use crate::evidence::{Evidence, Value};
use crate::fixture::Fixture;
use crate::need::Need;
use crate::object::Request;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "lost-updates",
        title: "Lost updates",
        question: "A and B each add 1 to a word that both have mapped. Is the sum 2?",
        claims: &[
            "shared-overwrite-loses-update",
            "shared-unordered-writes-mix",
            "sync-atomics-prevent-races",
        ],
        needs: RACE,
        boots: MAIN,
        play: lost_updates,
    },
    Scenario {
        name: "store-buffering",
        title: "Store buffering",
        question: "A stores to x and loads y, B stores to y and loads x, at the same time. Can both load what was there before?",
        claims: &["sync-memory-barrier-orders-cpu"],
        needs: RACE,
        boots: MAIN,
        play: store_buffering,
    },
];

const RACE: &[Need] = &[
    Need::Device,
    Need::Pagemap,
    Need::Root,
    Need::Btf,
    Need::TwoCpus,
];

/// One number of some evidence; 0 if it is not there.
fn count(evidence: &Evidence, label: &str) -> u64 {
    match evidence.get(label) {
        Some(Value::Count(count)) => count,
        _ => 0,
    }
}

fn lost_updates(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    fixture.device.fill(0)?;
    stage.show_the_drivers_frame()?;
    let request = Request::shared(fixture.device.node());
    let (mut a, mut b) = (Actor::start("A")?, Actor::start("B")?);
    for (name, actor) in [("A", &mut a), ("B", &mut b)] {
        actor.map(&request)?;
        stage.watch_actor(name, actor)?;
    }
    let act = Act::new("A and B", "map the device, shared; its first byte is 0");
    stage.record(act.call(request.to_string()))?;
    let mut sums = Vec::new();
    for (name, actor) in [("A", &mut a), ("B", &mut b)] {
        let loaded = actor.load(0, 1)?.bytes;
        let act = Act::new(name, "loads the byte, to add 1 to it");
        stage.record(act.result(loaded.as_slice()))?;
        sums.push(loaded.first().copied().unwrap_or(0).wrapping_add(1));
    }
    for (sum, (name, actor)) in sums.iter().zip([("A", &mut a), ("B", &mut b)]) {
        actor.store(0, &[*sum])?;
        stage.record(Act::new(name, format!("stores the sum, {sum}")))?;
    }
    let total = fixture.device.read(0, 1)?;
    stage.finding(
        "Two additions, and the sum is 1: one is lost.",
        total == [1],
        "Each added to what it had loaded. The memory cannot know that the two loads belonged to additions.",
    );
    drop((a, b));
    at_full_speed(fixture, stage)
}

fn at_full_speed(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    let seen = observe(fixture, "lost-updates", "")?;
    let of = |kind: &str| {
        let mut part = Evidence::new();
        for observation in seen.iter().filter(|it| it.label.starts_with(kind)) {
            part.note(observation.label.clone(), observation.value.clone());
        }
        part
    };
    for name in ["A", "B"] {
        stage.ended(name);
    }
    let act = Act::new(
        "two processes",
        "add 1 to the same word again and again, on two CPUs, by a load and a store",
    );
    stage.record(act.facts(of("plain.")))?;
    stage.finding(
        "The sum is less than what was added.",
        count(&seen, "plain.total") < count(&seen, "plain.added"),
        "",
    );
    let act = Act::new("two processes", "do the same by an atomic addition");
    stage.record(act.facts(of("atomic.")))?;
    let added = count(&seen, "atomic.added");
    stage.finding(
        "Nothing is lost.",
        added > 0 && count(&seen, "atomic.total") == added,
        "The CPU keeps the cache line for as long as it takes to load, to add and to store.",
    );
    let act = Act::new(
        "two processes",
        "store records to the same place at once, byte by byte; then 4 bytes in one store",
    );
    let mixed = observe(fixture, "mixed-records", "")?;
    stage.record(act.facts(mixed.clone()))?;
    stage.finding(
        "Bytes of both are found mixed; of a single store never.",
        count(&mixed, "bytewise.mixed") > 0 && count(&mixed, "word.mixed") == 0,
        "",
    );
    Ok(())
}

fn store_buffering(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    stage.show_the_drivers_frame()?;
    let seen = observe(fixture, "store-buffering", "")?;
    for (kind, how) in [
        ("unfenced", "with nothing between the two"),
        ("fenced", "with a full fence between the two"),
    ] {
        let (rounds, both_old) = (format!("{kind}.rounds"), format!("{kind}.both-old"));
        let odd = count(&seen, &both_old);
        let act = Act::new(
            "A and B",
            format!("store 1 to a word of the device and load the other's word, at once, {how}"),
        );
        stage.record(
            act.fact(rounds.as_str(), count(&seen, &rounds))
                .fact(both_old, odd),
        )?;
        if kind == "unfenced" {
            stage.finding(
                "It happens that both load 0: as if both loads had come before both stores.",
                odd > 0,
                "A CPU keeps its stores in a buffer for a while, and goes on to the next load meanwhile.",
            );
        } else {
            stage.finding(
                "It never happens.",
                odd == 0 && count(&seen, &rounds) > 0,
                "The fence waits until the buffer is empty.",
            );
        }
    }
    Ok(())
}
