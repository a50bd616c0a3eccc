//! Carries the lab's standard input to the guest, live.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What arrives with one read(2) from a pipe.
const CHUNK_LEN: usize = 64 * 1024;

/// How the end of the input, and a wish to leave, are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Bytes are bytes, and the end is the end of file.
    Plain,
    /// Keys are bytes, but for [`LEAVE`]; the end is that of the terminal, which has its signal.
    Terminal,
}

/// Ctrl-], with which telnet and virsh are left, too.
pub const LEAVE: u8 = 0x1d;

/// Standard input on its way to the guest, in a thread of its own. Dropping it ends that.
#[derive(Debug)]
pub struct InputPump {
    target: UnixStream,
    cancel: UnixStream,
}

impl InputPump {
    /// Starts to carry from `source` to `target`. `leave` gets a byte if the person wants to leave.
    ///
    /// # Errors
    ///
    /// When a descriptor or the thread cannot be had.
    pub fn start(
        source: OwnedFd,
        target: &UnixStream,
        manner: Manner,
        leave: UnixStream,
    ) -> Result<Self> {
        let (cancel, cancelled) = UnixStream::pair()?;
        let carrier = Carrier {
            source: source.into(),
            target: target.try_clone()?,
            cancelled,
            manner,
            leave,
        };
        thread::Builder::new()
            .name("input".into())
            .spawn(move || {
                // That nobody reads on is no failure: a program may leave input unread, as in any pipeline.
                let _ = carrier.run();
            })
            .context("failed to start a thread for the guest's input")?;
        Ok(Self {
            target: target.try_clone()?,
            cancel,
        })
    }
}

impl Drop for InputPump {
    fn drop(&mut self) {
        // Wakes the thread wherever it waits: for its source, or for room in the socket.
        let _ = self.cancel.shutdown(Shutdown::Both);
        let _ = self.target.shutdown(Shutdown::Both);
    }
}

/// Tells the guest that there is no more input.
///
/// Only this half of the socket is closed: QEMU reacts to a full close at once, even with unread input.
pub fn end(target: &UnixStream) {
    let _ = target.shutdown(Shutdown::Write);
}

struct Carrier {
    source: File,
    target: UnixStream,
    cancelled: UnixStream,
    manner: Manner,
    leave: UnixStream,
}

impl Carrier {
    fn run(mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_LEN];
        while self.wait()? {
            match self.source.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(len) => self.pass_on(&chunk[..len])?,
            }
        }
        if self.manner == Manner::Plain {
            end(&self.target);
        }
        Ok(())
    }

    /// Waits for input; false if nobody wants it any more.
    fn wait(&self) -> io::Result<bool> {
        loop {
            let mut fds = [self.source.as_fd(), self.cancelled.as_fd()]
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(_) => return Ok(!fds[1].any().unwrap_or(false)),
            }
        }
    }

    fn pass_on(&mut self, bytes: &[u8]) -> io::Result<()> {
        let leave = match self.manner {
            Manner::Plain => None,
            Manner::Terminal => bytes.iter().position(|&byte| byte == LEAVE),
        };
        if leave.is_some() {
            // A full pipe says it as well.
            let _ = self.leave.write(b"!");
        }
        self.target
            .write_all(&bytes[..leave.unwrap_or(bytes.len())])
    }
}
