//! The guest's processes, all of which are in the end children of PID 1.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid as KillPid;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use signal_hook::consts::{SIGCHLD, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::low_level::pipe;

use crate::job::{Command, Event};
use crate::ports::Control;

/// The listener to SIGCHLD.
#[derive(Debug)]
pub(crate) struct Children {
    died: UnixStream,
    /// busybox's `halt`, `poweroff` and `reboot` send PID 1 these signals.
    power_off: UnixStream,
}

/// Why a wait for a child ended.
#[derive(Debug)]
pub(crate) enum Wake {
    /// The child is gone.
    Ended(WaitStatus),
    /// Somebody called `poweroff`, `halt` or `reboot`.
    PowerOff,
    /// The host said something.
    Command(Command),
}

impl Children {
    /// Begins to listen.
    pub(crate) fn adopt() -> Result<Self> {
        let listen = |signals: &[i32]| {
            let (listen, tell) = UnixStream::pair()?;
            for pair in [&listen, &tell] {
                pair.set_nonblocking(true)?;
            }
            for signal in signals {
                pipe::register(*signal, tell.try_clone()?)?;
            }
            Ok::<_, io::Error>(listen)
        };
        let died = listen(&[SIGCHLD]).context("failed to listen to SIGCHLD")?;
        let power_off = listen(&[SIGUSR1, SIGUSR2, SIGTERM])
            .context("failed to listen to the signals of poweroff(8)")?;
        Ok(Self { died, power_off })
    }

    /// Waits for the child `pid`, and reaps every orphan that dies meanwhile.
    pub(crate) fn wait_for(&self, pid: Pid, control: &mut Control) -> Result<Wake> {
        loop {
            while let Some((reaped, status)) = wait(WaitOptions::NOHANG).or_else(none_left)? {
                if reaped == pid {
                    return Ok(Wake::Ended(status));
                }
            }
            if let Some(command) = control.take_command()? {
                return Ok(Wake::Command(command));
            }
            let mut fds = [self.died.as_fd(), self.power_off.as_fd(), control.fd()]
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("failed to wait for a program"),
            }
            let [_, power_off, command] = fds.map(|fd| fd.any().unwrap_or(false));
            drain(&self.died)?;
            if power_off {
                drain(&self.power_off)?;
                return Ok(Wake::PowerOff);
            }
            if command {
                control.listen()?;
            }
        }
    }

    /// Kills whatever still runs, and waits until it is gone: the next program finds no other.
    pub(crate) fn kill_leftovers(&self, control: &mut Control) -> Result<()> {
        let count = self.kill_all()?;
        if count > 0 {
            control.say(&Event::Leftovers { count })?;
        }
        Ok(())
    }

    /// Kills every other process, waits until it is gone, and returns how many there were.
    pub(crate) fn kill_all(&self) -> Result<usize> {
        // From PID 1, "every process" is every other one (kill(2)).
        match kill(KillPid::from_raw(-1), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno).context("failed to kill what still runs"),
        }
        let mut count = 0;
        while wait(WaitOptions::empty()).or_else(none_left)?.is_some() {
            count += 1;
        }
        drain(&self.died)?;
        Ok(count)
    }
}

/// To have no children is nothing special for PID 1.
fn none_left(errno: rustix::io::Errno) -> rustix::io::Result<Option<(Pid, WaitStatus)>> {
    match errno {
        rustix::io::Errno::CHILD => Ok(None),
        errno => Err(errno),
    }
}

fn drain(mut signals: &UnixStream) -> Result<()> {
    let mut chunk = [0; 64];
    loop {
        match signals.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("failed to read the pipe of a signal"),
        }
    }
}
