//! A program that was started before its turn, and is ready when that comes.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::children::Children;
use crate::job::{Command, Program, STANDBY};
use crate::ports::{Control, Ports};
use crate::programs::{self, Outputs};

/// The program, which waits.
pub(crate) struct Early {
    program: Program,
    child: Child,
    /// Its standard input.
    socket: UnixStream,
}

/// What came of the start.
pub(crate) enum Start {
    /// It is ready, and writes there.
    Ready(Early, Outputs),
    /// It ended, or did not even begin.
    Failed,
    /// The host said something before it was ready; it has been ended.
    Interrupted(Command),
}

impl Early {
    /// Starts the program, and waits until it is ready or the host says something.
    pub(crate) fn start(
        program: Program,
        ports: &Ports,
        children: &Children,
        control: &mut Control,
    ) -> Result<Start> {
        let (socket, theirs) = UnixStream::pair().context("failed to make a socket")?;
        let outputs = Outputs::open(ports)?;
        let mut command = programs::command(&program)?;
        command.env(STANDBY, "1").stdin(OwnedFd::from(theirs));
        outputs.connect(&mut command)?;
        let child = command.spawn();
        drop(command); // and with it this process's end of its standard input
        let Ok(child) = child else {
            return Ok(Start::Failed);
        };
        let mut early = Self {
            program,
            child,
            socket,
        };
        if let Some(command) = early.wait(control)? {
            children.kill_all()?;
            return Ok(Start::Interrupted(command));
        }
        if early.socket.read_exact(&mut [0]).is_err() {
            children.kill_all()?;
            return Ok(Start::Failed);
        }
        Ok(Start::Ready(early, outputs))
    }

    /// Waits until it has said something, or has ended; or for the host's next command.
    fn wait(&self, control: &mut Control) -> Result<Option<Command>> {
        loop {
            if let Some(command) = control.take_command()? {
                return Ok(Some(command));
            }
            let mut fds =
                [self.socket.as_fd(), control.fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("failed to wait for a program"),
            }
            let [said, command] = fds.map(|fd| fd.any().unwrap_or(false));
            if command {
                control.listen()?;
            } else if said {
                return Ok(None);
            }
        }
    }

    /// Itself, if it is this program and still there; otherwise it is ended.
    pub(crate) fn for_program(
        mut self,
        program: &Program,
        children: &Children,
    ) -> Result<Option<Self>> {
        let is_there = matches!(self.child.try_wait(), Ok(None));
        if self.program == *program && is_there {
            return Ok(Some(self));
        }
        children.kill_all()?;
        Ok(None)
    }

    /// Has it begin. If it has just ended, its status says how.
    pub(crate) fn begin(mut self) -> Child {
        let _ = self.socket.write_all(b"\n");
        self.child
    }
}
