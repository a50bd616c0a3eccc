//! A request to stop, which every wait of the lab listens to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::unistd::{pipe2, write};

/// A request that cannot be taken back: once made, [`Stop::fd`] stays readable.
///
/// The set-up runs several jobs at once; when one of them fails, the others are told through this.
/// (A signal to the lab itself is [`crate::interrupt`].)
#[derive(Debug)]
pub struct Stop {
    listen: OwnedFd,
    tell: OwnedFd,
}

impl Stop {
    /// A request that nobody has made yet.
    ///
    /// # Errors
    ///
    /// When no pipe can be had (`EMFILE`, `ENFILE`).
    pub fn new() -> io::Result<Self> {
        let (listen, tell) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self { listen, tell })
    }

    /// Makes the request; more than once is fine.
    pub fn request(&self) {
        // A full pipe means that the request was made already.
        let _ = write(&self.tell, b"!");
    }

    /// Readable as soon as the request was made; never read from it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.listen.as_fd()
    }
}
