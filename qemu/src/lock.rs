//! Locks between runs of the lab, by flock(2): gone with the process, however it ends.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use crate::failure::Failure;
use crate::interrupt;
use crate::progress::Progress;

/// Holding this means that no other run of the lab touches what the lock file stands for.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its Drop")] Flock<File>);

impl Lock {
    /// Takes the lock at `path`; `what` says what another run that holds it is doing.
    ///
    /// # Errors
    ///
    /// When the lock file cannot be made, or the lab is asked to stop while it waits.
    pub fn take(path: &Path, what: &str, progress: &Progress) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(|| format!("failed to open the lock file {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self(lock)),
            Err((file, Errno::EWOULDBLOCK)) => {
                progress.note(&format!(
                    "  waiting for another run of the lab, which is about to {what}"
                ));
                wait_for(file, path)
            }
            Err((_, errno)) => {
                Err(errno).with_context(|| format!("failed to lock {}", path.display()))
            }
        }
    }
}

/// Waits for the lock in a thread of its own, because flock(2) cannot wait for a lock and for Ctrl-C at
/// once. When the lab is stopped, the thread goes with the process.
fn wait_for(file: File, path: &Path) -> Result<Lock> {
    let context = || format!("failed to wait for the lock {}", path.display());
    let (listen, tell) = pipe2(OFlag::O_CLOEXEC).with_context(context)?;
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        // The receiver is gone only if the lab is about to end.
        let _ = send.send(Flock::lock(file, FlockArg::LockExclusive));
        drop(tell);
    });
    loop {
        let mut fds = [
            PollFd::new(interrupt::fd(), PollFlags::POLLIN),
            PollFd::new(listen.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).with_context(context),
        }
        if interrupt::requested() {
            return Err(
                Failure::Interrupted(format!("waiting for the lock {}", path.display())).into(),
            );
        }
        if fds[1].any() == Some(true) {
            let lock = receive.recv().with_context(context)?;
            return lock
                .map(Lock)
                .map_err(|(_, errno)| errno)
                .with_context(context);
        }
    }
}
