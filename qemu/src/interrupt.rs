//! SIGINT, SIGTERM and SIGHUP as a descriptor that a wait can listen to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// What the second signal ends the lab with: 128 + SIGINT, as a shell says it.
const SECOND_SIGNAL_STATUS: i32 = 130;

static REQUEST: LazyLock<Request> = LazyLock::new(|| {
    Request::new().unwrap_or_else(|error| {
        // Not even two descriptors are left: nothing could be run, and nobody could be told to stop.
        eprintln!("failed to make the pipe that signals are noticed by: {error}");
        process::abort()
    })
});

struct Request {
    made: Arc<AtomicBool>,
    listen: UnixStream,
    tell: UnixStream,
}

impl Request {
    fn new() -> io::Result<Self> {
        let (listen, tell) = UnixStream::pair()?;
        tell.set_nonblocking(true)?;
        Ok(Self {
            made: Arc::default(),
            listen,
            tell,
        })
    }
}

/// For how long after the first signal another one is taken for the same. timeout(1) sends two: to the
/// program, then to its process group.
const SAME_REQUEST: Duration = Duration::from_millis(500);

/// Takes over the three signals. The first is a request, which [`fd`] and [`requested`] show; a later
/// one ends the process at once, for whoever cannot wait (what the lab started dies with it).
///
/// # Errors
///
/// When the kernel refuses a handler, a descriptor or a thread.
pub fn install() -> io::Result<()> {
    let impatient = Arc::<AtomicBool>::default();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register_conditional_shutdown(signal, SECOND_SIGNAL_STATUS, Arc::clone(&impatient))?;
        flag::register(signal, Arc::clone(&REQUEST.made))?;
        low_level::pipe::register(signal, REQUEST.tell.try_clone()?)?;
    }
    thread::Builder::new()
        .name("interrupt".into())
        .spawn(move || {
            let mut fds = [PollFd::new(fd(), PollFlags::POLLIN)];
            while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
            thread::sleep(SAME_REQUEST);
            impatient.store(true, Ordering::Relaxed);
        })?;
    Ok(())
}

/// Whether a signal has asked the lab to stop.
#[must_use]
pub fn requested() -> bool {
    REQUEST.made.load(Ordering::Relaxed)
}

/// Readable as soon as a signal arrived, and for ever after; never read from it.
#[must_use]
pub fn fd() -> BorrowedFd<'static> {
    REQUEST.listen.as_fd()
}
