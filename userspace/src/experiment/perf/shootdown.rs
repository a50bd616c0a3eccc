//! Shootdown: when a CPU is interrupted to forget translations, told by `/proc/interrupts`.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use nix::sys::mman::ProtFlags;

use crate::cpu;
use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::sys::Mapping;
use crate::turn::TURN;

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "shootdowns",
    summary: "A process has a thread that spins on a CPU of its own. The other one, on another CPU, maps the \
              device 20 times, touches, protects and unmaps it, and stores to private mappings of it; the \
              interrupts for TLB shootdowns are counted.",
    run: shootdowns,
}];

const ROUNDS: usize = 20;
const INTERRUPTS: &str = "/proc/interrupts";

/// What was done, and how many shootdowns that took.
type Counts = Vec<(String, u64)>;

fn shootdowns(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    evidence.note("rounds.number", ROUNDS as u64);
    // Other work of the system sends one now and then.
    evidence.note("rounds.half", ROUNDS as u64 / 2);
    for (label, count) in errand::run("the mapper", || beside_a_thread(fixture))? {
        evidence.note(label, count);
    }
    Ok(evidence)
}

/// A thread that keeps another CPU from being idle, as this process sees it.
#[derive(Debug, Default)]
struct Spinner {
    turns: AtomicU64,
    done: AtomicBool,
}

impl Spinner {
    fn spin(&self, cpu: usize) -> Result<()> {
        let pinned = cpu::pin(cpu);
        while !self.done.load(Ordering::Acquire) {
            self.turns.fetch_add(1, Ordering::Release);
            std::hint::spin_loop();
        }
        pinned
    }

    /// Waits until it is seen to run: a CPU that has gone on to something else needs no interrupt.
    fn wait(&self) -> Result<()> {
        let (before, deadline) = (self.turns.load(Ordering::Acquire), Instant::now() + TURN);
        while self.turns.load(Ordering::Acquire) == before {
            if Instant::now() > deadline {
                let (what, timeout) = ("the spinning thread".to_owned(), TURN);
                return Err(Error::Deadline { what, timeout });
            }
            std::hint::spin_loop();
        }
        Ok(())
    }
}

/// Does it all while a thread of this process runs on another CPU.
fn beside_a_thread(fixture: &Fixture) -> Result<Counts> {
    let spinner = Spinner::default();
    let [first, second, ..] = fixture.cpus.as_slice() else {
        return Ok(Vec::new());
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| spinner.spin(*second));
        let counts = cpu::pin(*first).and_then(|()| all_kinds(fixture, &spinner));
        spinner.done.store(true, Ordering::Release);
        let spun = thread.join().map_err(|_| Error::Gone {
            who: "the spinning thread".to_owned(),
            what: "it was told to stop".to_owned(),
        })?;
        spun.and(counts)
    })
}

fn all_kinds(fixture: &Fixture, spinner: &Spinner) -> Result<Counts> {
    let shared = Request::shared(fixture.device.node());
    let private = Request::private(fixture.device.node());
    let (mut touched, mut copied) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    let mut counts = Counts::new();
    let mut count = |what: &str, work: &mut dyn FnMut(usize) -> Result<()>| {
        let before = shot_down()?;
        for round in 0..ROUNDS {
            spinner.wait()?;
            work(round)?;
        }
        counts.push((format!("{what}.shootdowns"), shot_down()? - before));
        Ok::<_, Error>(())
    };
    count("mmap", &mut |_| {
        touched.push(shared.map()?);
        Ok(())
    })?;
    count("first-load", &mut |round| {
        on(&touched, round, |it| it.load(0).map(drop))
    })?;
    count("mprotect", &mut |round| {
        let read = touched
            .get_mut(round)
            .map(|it| it.protect(ProtFlags::PROT_READ));
        read.transpose()
            .map(drop)
            .map_err(Error::call("mprotect(PROT_READ)", "the device"))
    })?;
    count("munmap", &mut |_| {
        drop(touched.pop());
        Ok(())
    })?;
    for _ in 0..ROUNDS {
        let mapping = private.map()?;
        mapping.load(0)?;
        copied.push(mapping);
    }
    count("copy-on-write", &mut |round| {
        on(&copied, round, |it| it.store(0, 1))
    })?;
    Ok(counts)
}

fn on(mappings: &[Mapping], round: usize, work: impl FnOnce(&Mapping) -> Result<()>) -> Result<()> {
    mappings.get(round).map_or(Ok(()), work)
}

/// How many interrupts for shootdowns all CPUs have had so far.
fn shot_down() -> Result<u64> {
    let text = fs::read_to_string(INTERRUPTS).map_err(Error::file("read", INTERRUPTS))?;
    sum_of_row(&text, "TLB:").ok_or_else(|| Error::Garbled {
        what: INTERRUPTS.to_owned(),
        detail: "no row TLB".to_owned(),
    })
}

/// The numbers of a row, one for each CPU, added up.
fn sum_of_row(text: &str, name: &str) -> Option<u64> {
    let row = |line: &str| Some(line.trim_start().strip_prefix(name)?.to_owned());
    let row = text.lines().find_map(row)?;
    let numbers = row
        .split_whitespace()
        .map_while(|word| word.parse::<u64>().ok());
    Some(numbers.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_and_added_up() {
        let text = "           CPU0       CPU1\n CAL:          9          8   Function call interrupts\n \
                    TLB:         12         30   TLB shootdowns\n";
        assert_eq!(sum_of_row(text, "TLB:"), Some(42));
        assert_eq!(sum_of_row(text, "NMI:"), None);
    }
}
