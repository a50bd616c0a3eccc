//! Look: what tools show of the mappings of another process.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use nix::sys::stat::{major, minor};

use crate::actor::Actor;
use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::process::{Process, output, read_until};
use crate::procfs;
use crate::turn::TURN;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "proc-maps",
        summary: "Looks for another process's mapping of the device in /proc/PID/maps and compares it with what the \
                  process and the node say; then looks again without any privilege.",
        run: proc_maps,
    },
    Experiment {
        name: "pmap",
        summary: "Runs pmap -x on a process that has the device mapped.",
        run: pmap,
    },
    Experiment {
        name: "strace",
        summary: "Attaches strace -e trace=mmap to a process before it maps the device.",
        run: strace,
    },
    Experiment {
        name: "everywhere",
        summary: "Runs a program that is linked dynamically and prints a line, under strace, counts its mmap \
                  calls by what they map, and looks where 64 MiB are that were allocated.",
        run: everywhere,
    },
];

/// Another process with the device mapped, and where it has it.
fn mapper(fixture: &Fixture) -> Result<(Actor, u64)> {
    let mut actor = Actor::start("the mapper")?;
    actor.map(&Request::shared(fixture.device.node()))?;
    actor.store(0, b"touched")?;
    let vma = actor.vma()?;
    let addr = vma.map_or(0, |vma| vma.start);
    Ok((actor, addr))
}

fn proc_maps(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let (actor, addr) = mapper(fixture)?;
    let node = fixture.device.node();
    let about = fs::metadata(node).map_err(Error::file("look at", node))?;
    evidence.note("mapper.addr", Value::Addr(addr));
    evidence.note("node.name", node.display().to_string().as_str());
    let device = about.dev();
    let device = format!("{:02x}:{:02x}", major(device), minor(device));
    evidence.note("node.filesystem", device.as_str());
    evidence.note("node.inode", about.ino());
    let vmas = procfs::vmas(actor.pid())?;
    let shown = vmas.iter().find(|vma| vma.start == addr);
    evidence.note("maps.has-it", shown.is_some());
    if let Some(vma) = shown {
        evidence.note("maps.mode", vma.mode.as_str());
        evidence.note("maps.len", vma.end - vma.start);
        evidence.note("maps.offset", vma.offset);
        evidence.note("maps.filesystem", vma.device.as_str());
        evidence.note("maps.inode", vma.inode);
        evidence.note("maps.name", vma.name.as_str());
    }
    let pid = actor.pid();
    let seen = errand::run_as_nobody("a stranger", || {
        let opened = fs::read(format!("/proc/{pid}/maps"));
        Ok(opened.is_ok_and(|text| !text.is_empty()))
    })?;
    evidence.note("stranger.sees-it", seen);
    Ok(evidence)
}

fn pmap(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let (actor, addr) = mapper(fixture)?;
    let (end, printed) = output("pmap", &["-x", &actor.pid().to_string()], TURN)?;
    evidence.note("pmap.end", end);
    let printed = String::from_utf8_lossy(&printed).into_owned();
    let address = format!("{addr:016x}");
    let line = printed.lines().find(|line| line.starts_with(&address));
    evidence.note("pmap.has-it", line.is_some());
    let columns: Vec<_> = line.unwrap_or_default().split_whitespace().collect();
    // Address, Kbytes, RSS, Dirty, Mode, Mapping: as the head of the table says.
    if let [_, kib, resident, _, mode, name] = columns[..] {
        evidence.note("pmap.kib", kib.parse().unwrap_or(0));
        evidence.note("pmap.resident-kib", resident.parse().unwrap_or(0));
        evidence.note("pmap.mode", mode);
        evidence.note("pmap.name", name);
    }
    let node = fixture.device.node().file_name();
    evidence.note(
        "node.name",
        node.unwrap_or_default().to_string_lossy().as_ref(),
    );
    Ok(evidence)
}

fn strace(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let mut actor = Actor::start("the traced")?;
    let log = std::env::temp_dir().join(format!("mmapdemo-strace-{}", std::process::id()));
    let (pid, to) = (actor.pid().to_string(), log.display().to_string());
    let mut command = Command::new("strace");
    command.args(["-e", "trace=mmap", "-o", &to, "-p", &pid]);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Error::file("run", "strace"))?;
    let tracer = Process::adopt("strace", &child)?;
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let mut stderr = File::from(OwnedFd::from(stderr));
        let attached = |said: &[u8]| String::from_utf8_lossy(said).contains("attached");
        read_until(&mut stderr, &mut said, TURN, attached)?;
    }
    actor.map(&Request::shared(fixture.device.node()))?;
    let vma = actor.vma()?;
    actor.kill()?;
    tracer.wait(TURN)?;
    let text = fs::read_to_string(&log).map_err(Error::file("read", &log))?;
    fs::remove_file(&log).map_err(Error::file("remove", &log))?;
    let result = format!("= {:#x}", vma.map_or(0, |vma| vma.start));
    let call = text.lines().find(|line| line.ends_with(&result));
    evidence.note("traced.has-it", call.is_some());
    let words = call
        .unwrap_or_default()
        .split(|c: char| "(), |".contains(c));
    let words = words.filter(|word| !word.is_empty()).map(str::to_owned);
    evidence.note("traced.words", words.collect::<Vec<_>>());
    Ok(evidence)
}

fn everywhere(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let log = std::env::temp_dir().join(format!("mmapdemo-everywhere-{}", std::process::id()));
    let to = log.display().to_string();
    // It is linked dynamically, and does nothing but print a line. Only the calls traced are stopped at.
    let trace = ["-f", "--seccomp-bpf", "-e", "trace=mmap", "-o", &to];
    let args = [&trace[..], &["pmap", "--version"]].concat();
    let (end, _) = output("strace", &args, TURN)?;
    evidence.note("program.end", end);
    let text = fs::read_to_string(&log).map_err(Error::file("read", &log))?;
    fs::remove_file(&log).map_err(Error::file("remove", &log))?;
    let count = |with: &[&str]| {
        let fits = |line: &&str| line.contains(" mmap(") && with.iter().all(|it| line.contains(it));
        text.lines().filter(fits).count() as u64
    };
    evidence.note("program.calls", count(&[]));
    evidence.note("program.code", count(&["PROT_EXEC"]));
    evidence.note("program.anonymous", count(&["MAP_ANONYMOUS"]));
    evidence.note("program.files", count(&[]) - count(&["MAP_ANONYMOUS"]));
    // More than malloc ever takes from the heap, mallopt(3), M_MMAP_THRESHOLD.
    let large = vec![0_u8; 64 << 20];
    let vma = procfs::vma(std::hint::black_box(&large).as_ptr().addr())?;
    evidence.note(
        "allocated.name",
        vma.map_or_else(String::new, |vma| vma.name).as_str(),
    );
    Ok(evidence)
}
