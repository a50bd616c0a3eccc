//! Waiting: who reads too early, by a pipe and by a mapping.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, read};

use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::process::{End, Process, readable};
use crate::procfs;
use crate::turn::TURN;

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "reading-too-early",
    summary: "A child reads an empty pipe and is seen asleep until something is written; the same pipe is read \
              with O_NONBLOCK. A byte of the device that nobody has written is loaded from a mapping, and \
              read(2) through a descriptor.",
    run: reading_too_early,
}];

fn reading_too_early(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let (hear, say) = pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe2()", "a channel"))?;
    evidence.note(
        "pipe.ready",
        readable(&hear, Duration::ZERO, "an empty pipe")?,
    );
    let child = Process::fork("the reader", || {
        read(&hear, &mut [0]).map_or(1, |len| i32::from(len != 1))
    })?;
    evidence.note(
        "pipe.reader-sleeps",
        procfs::falls_asleep(child.pid(), TURN)?,
    );
    let wrote = nix::unistd::write(&say, b"x");
    wrote.map_err(Error::call("write()", "a pipe"))?;
    evidence.note("pipe.reader-wakes", child.wait(TURN)? == End::Exited(0));

    let flags = fcntl(&hear, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    flags.map_err(Error::call("fcntl(O_NONBLOCK)", "a pipe"))?;
    let early: Result<_, Errno> = read(hear.as_fd(), &mut [0]);
    evidence.note("nonblocking.read", early);

    let mapping = fixture.device.map_shared()?;
    evidence.note("mapping.byte", mapping.load_bytes(0, 1)?);
    evidence.note("unwritten.byte", vec![0]);
    let mut byte = [1];
    let descriptor = fixture.device.open()?.read_exact_at(&mut byte, 0);
    descriptor.map_err(Error::file("read", fixture.device.node()))?;
    evidence.note("descriptor.byte", &byte[..]);
    Ok(evidence)
}
