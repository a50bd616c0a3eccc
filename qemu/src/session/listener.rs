//! A running machine, and an ear on each of its channels that is no program's.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::heard::{Heard, Source};
use crate::interrupt;
use crate::job::Command;
use crate::machine::Channel;
use crate::outcome::End;
use crate::qemu;
use crate::vm::Vm;

/// The machine, and what it said so far.
pub(super) struct Listener {
    pub(super) vm: Vm,
    pub(super) heard: Heard,
    inlets: Vec<Inlet>,
}

/// The host's end of a channel, until it ends.
struct Inlet {
    source: Source,
    stream: File,
    open: bool,
}

impl Listener {
    /// Begins to listen to a machine that was just started; `mark` is that of its order.
    pub(super) fn new(vm: Vm, mark: &str) -> Result<Self> {
        let inlets = open_inlets(&vm).context("failed to watch QEMU's channels")?;
        Ok(Self {
            vm,
            heard: Heard::nothing(mark),
            inlets,
        })
    }

    /// The channels that have not ended, by their indices, for poll(2).
    pub(super) fn open(&self) -> Vec<(usize, BorrowedFd<'_>)> {
        let inlets = self.inlets.iter().enumerate();
        inlets
            .filter(|(_, inlet)| inlet.open)
            .map(|(index, inlet)| (index, inlet.stream.as_fd()))
            .collect()
    }

    /// Reads once from a channel that is ready.
    pub(super) fn read(&mut self, index: usize) {
        let mut chunk = [0; 16 * 1024];
        let inlet = &mut self.inlets[index];
        let len = match inlet.stream.read(&mut chunk) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            // A reset is how the channels of a killed QEMU end.
            Err(_) => 0,
        };
        inlet.open = len > 0;
        self.heard.take(inlet.source, &chunk[..len]);
    }

    /// Tells `init` something.
    pub(super) fn tell(&self, command: &Command) {
        let Ok(mut line) = serde_json::to_vec(command) else {
            return;
        };
        line.push(b'\n');
        // A guest that does not listen any more is noticed by its deadline or its end.
        let _ = self.vm.channel(Channel::Control).write_all(&line);
    }

    /// Tells QEMU something, or asks it.
    pub(super) fn tell_qemu(&self, command: &[u8]) {
        // A QEMU that does not listen any more has ended, which is noticed.
        let _ = self.vm.channel(Channel::Monitor).write_all(command);
    }

    /// Listens until `happened`, and then returns nothing; or until the machine or the wait for it ends.
    pub(super) fn listen_until(
        &mut self,
        happened: impl Fn(&Heard) -> bool,
        timeout: Duration,
    ) -> Result<Option<End>> {
        let deadline = Instant::now() + timeout;
        while !happened(&self.heard) {
            let open = self.open();
            let mut fds: Vec<_> = [interrupt::fd(), self.vm.qemu.exited()]
                .into_iter()
                .chain(open.iter().map(|(_, fd)| *fd))
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            match poll(&mut fds, poll_timeout(Some(deadline))) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("failed to wait for the guest"),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            let indices: Vec<usize> = open.iter().map(|(index, _)| *index).collect();
            for (index, _) in indices.into_iter().zip(&ready[2..]).filter(|(_, it)| **it) {
                self.read(index);
            }
            let end = match (ready[0], ready[1]) {
                (true, _) => Some(End::Interrupted),
                (_, true) => Some(End::QemuExited {
                    failure: None,
                    reason: None,
                }),
                _ if self.heard.console.death().is_some() => Some(End::Dead),
                _ if Instant::now() >= deadline => Some(End::TimedOut),
                _ => None,
            };
            if end.is_some() && !happened(&self.heard) {
                return Ok(end);
            }
        }
        Ok(None)
    }

    /// Ends the machine, if it has not ended by itself, and reads what it left behind.
    pub(super) fn close(&mut self, end: &mut End) -> Result<ExitStatus> {
        let status = match end {
            End::QemuExited { .. } => self.vm.qemu.wait(),
            _ => self.vm.qemu.kill(),
        };
        let status = status.context("failed to wait for QEMU's end")?;
        for inlet in self.inlets.iter_mut().filter(|inlet| inlet.open) {
            let mut rest = Vec::new();
            // Whatever arrived before a reset is in `rest`.
            let _ = inlet.stream.read_to_end(&mut rest);
            self.heard.take(inlet.source, &rest);
        }
        if let End::QemuExited { failure, reason } = end {
            *failure = qemu::describe(status);
            *reason = self.heard.monitor.shutdown().map(str::to_owned);
        }
        Ok(status)
    }
}

/// How long poll(2) may wait.
pub(super) fn poll_timeout(deadline: Option<Instant>) -> PollTimeout {
    deadline.map_or(PollTimeout::NONE, |deadline| {
        // A millisecond more, as poll(2) counts in those: waking before the deadline is of no use.
        let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    })
}

fn open_inlets(vm: &Vm) -> io::Result<Vec<Inlet>> {
    let inlet = |source, stream: OwnedFd| Inlet {
        source,
        stream: stream.into(),
        open: true,
    };
    let channel = |channel| Ok::<_, io::Error>(vm.channel(channel).try_clone()?.into());
    Ok(vec![
        inlet(Source::Monitor, channel(Channel::Monitor)?),
        inlet(Source::Console, vm.console.try_clone()?.into()),
        inlet(Source::Control, channel(Channel::Control)?),
        inlet(Source::Ktap, channel(Channel::Ktap)?),
        inlet(Source::QemuStderr, vm.qemu.stderr().try_clone()?.into()),
    ])
}
