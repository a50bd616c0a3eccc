//! Lifetime: processes that start separately, come and go, and what stays.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::process::{Process, THIS_PROGRAM, start};
use crate::sys::PAGE_SIZE;
use crate::turn::TURN;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "writer-and-reader",
        summary: "Starts the programs `mmapdemo reader` and `mmapdemo writer`, each by execve, each with an open \
                  and a mapping of its own. The writer leaves a text and waits until the reader has taken it.",
        run: writer_and_reader,
    },
    Experiment {
        name: "writer-gone",
        summary: "Runs `mmapdemo writer` to its end and only then `mmapdemo reader`. Then kills a process right \
                  after it stored, and has a new one load.",
        run: writer_gone,
    },
    Experiment {
        name: "eight-sharers",
        summary: "Eight separately started processes map the device shared; each stores its number, then each \
                  loads all eight numbers.",
        run: eight_sharers,
    },
];

const TEXT: &str = "hello from another process";
const SECONDS: &str = "8";

fn writer_and_reader(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let node = fixture.device.node().display().to_string();
    let reader = Program::start("reader", &["--device", &node, "--timeout", SECONDS])?;
    let args = ["--device", &node, "--timeout", SECONDS, "--wait", TEXT];
    let writer = Program::start("writer", &args)?;
    evidence.note("reader.pid", reader.pid());
    evidence.note("writer.pid", writer.pid());
    writer.finish("writer", &mut evidence)?;
    reader.finish("reader", &mut evidence)?;
    evidence.note("writer.text", format!("{TEXT}\n").as_bytes());
    Ok(evidence)
}

fn writer_gone(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let node = fixture.device.node().display().to_string();
    let writer = Program::start("writer", &["--device", &node, TEXT])?;
    writer.finish("writer", &mut evidence)?;
    let reader = Program::start("reader", &["--device", &node, "--timeout", SECONDS])?;
    reader.finish("reader", &mut evidence)?;
    evidence.note("writer.text", format!("{TEXT}\n").as_bytes());

    let mut victim = fixture.actor("the victim")?;
    victim.map(&Request::shared(&node))?;
    victim.store(PAGE_SIZE / 2, b"last words")?;
    evidence.note("victim.stored", &b"last words"[..]);
    evidence.note("victim.end", victim.kill()?);
    let mut heir = Actor::start("the heir")?;
    heir.map(&Request::shared(&node))?;
    evidence.note("heir.seen", heir.load(PAGE_SIZE / 2, 10)?.bytes);
    Ok(evidence)
}

/// A subcommand of this program, and what it prints.
struct Program {
    process: Process,
    out: OwnedFd,
}

impl Program {
    fn start(subcommand: &str, args: &[&str]) -> Result<Self> {
        let args: Vec<_> = [subcommand].iter().chain(args).copied().collect();
        // What they say about themselves on standard error is for people.
        let (process, out, _) = start(subcommand, THIS_PROGRAM, &args, Stdio::null())?;
        Ok(Self { process, out })
    }

    fn pid(&self) -> u64 {
        u64::from(self.process.pid().as_raw().unsigned_abs())
    }

    /// Waits for its end and notes how it ended and what it printed, which fits into a pipe.
    fn finish(self, name: &str, evidence: &mut Evidence) -> Result<()> {
        evidence.note(format!("{name}.end"), self.process.wait(TURN)?);
        let mut printed = Vec::new();
        let read = File::from(self.out).read_to_end(&mut printed);
        read.map_err(Error::file("read", "a pipe"))?;
        evidence.note(format!("{name}.printed"), Value::Bytes(printed));
        Ok(())
    }
}

fn eight_sharers(fixture: &Fixture) -> Result<Evidence> {
    const SHARERS: u8 = 8;
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let mut sharers = Vec::new();
    for number in 1..=SHARERS {
        let mut sharer = fixture.actor(&format!("sharer {number}"))?;
        sharer.map(&Request::shared(fixture.device.node()))?;
        sharers.push((number, sharer));
    }
    for (number, sharer) in &mut sharers {
        sharer.store(usize::from(*number - 1), &[*number])?;
    }
    let numbers: Vec<u8> = (1..=SHARERS).collect();
    let mut agreeing = 0;
    for (_, sharer) in &mut sharers {
        agreeing += u64::from(sharer.load(0, numbers.len())?.bytes == numbers);
    }
    evidence.note("sharers.at-once", sharers.len() as u64);
    evidence.note("sharers.agreeing", agreeing);
    evidence.note("sharers.stored", numbers);
    evidence.note("kernel.sees", fixture.device.read(0, usize::from(SHARERS))?);
    Ok(evidence)
}
