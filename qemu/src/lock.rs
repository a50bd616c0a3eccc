//! Locks between runs of the lab, by flock(2): gone with the process, however it ends.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::SystemTime;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use crate::failure::Failure;
use crate::interrupt;
use crate::progress::Progress;

/// A lock on what the lock file stands for; dropping it gives the lock back.
#[derive(Debug)]
pub struct Lock(Flock<File>);

impl Lock {
    /// Takes the lock at `path` for this run alone; `what` says what another run that holds it is doing.
    ///
    /// # Errors
    ///
    /// When the lock file cannot be made, or the lab is asked to stop while it waits.
    pub fn take(path: &Path, what: &str, progress: &Progress) -> Result<Self> {
        match try_lock(path, FlockArg::LockExclusiveNonblock)? {
            Ok(lock) => Ok(lock),
            Err(file) => {
                progress.note(&format!("  waiting for another run of the lab: {what}"));
                wait_for(file, FlockArg::LockExclusive, path)
            }
        }
    }

    /// Takes the lock at `path` together with other runs that do the same, and marks it as used now.
    ///
    /// # Errors
    ///
    /// As [`Self::take`].
    pub fn share(path: &Path) -> Result<Self> {
        let lock = match try_lock(path, FlockArg::LockSharedNonblock)? {
            Ok(lock) => lock,
            Err(file) => wait_for(file, FlockArg::LockShared, path)?,
        };
        lock.0
            .set_modified(SystemTime::now())
            .with_context(|| format!("failed to touch {}", path.display()))?;
        Ok(lock)
    }

    /// Takes the lock at `path` for this run alone, unless another run holds it.
    ///
    /// # Errors
    ///
    /// When the lock file cannot be made.
    pub fn take_if_free(path: &Path) -> Result<Option<Self>> {
        Ok(try_lock(path, FlockArg::LockExclusiveNonblock)?.ok())
    }
}

/// The lock, or the open file if somebody else has it.
fn try_lock(path: &Path, how: FlockArg) -> Result<Result<Lock, File>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("failed to open the lock file {}", path.display()))?;
    match Flock::lock(file, how) {
        Ok(lock) => Ok(Ok(Lock(lock))),
        Err((file, Errno::EWOULDBLOCK)) => Ok(Err(file)),
        Err((_, errno)) => Err(errno).with_context(|| format!("failed to lock {}", path.display())),
    }
}

/// Waits for the lock in a thread of its own, because flock(2) cannot wait for a lock and for Ctrl-C at
/// once. When the lab is stopped, the thread goes with the process.
fn wait_for(file: File, how: FlockArg, path: &Path) -> Result<Lock> {
    let context = || format!("failed to wait for the lock {}", path.display());
    let (listen, tell) = pipe2(OFlag::O_CLOEXEC).with_context(context)?;
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        // The receiver is gone only if the lab is about to end.
        let _ = send.send(Flock::lock(file, how));
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
