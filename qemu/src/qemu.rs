//! A QEMU process that is owned: it ends when its owner does, or when the lab does.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Sender};
use std::thread;

use anyhow::{Context, Result};
use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::machine::QemuProgram;

/// Starts QEMU only if the lab is still there: `setpriv` asks for SIGKILL at the parent's death, and this
/// covers a parent that died before that.
const UNLESS_ORPHANED: &str = r#"[ "$PPID" = "$1" ] || exit 1; shift; exec "$@""#;

/// The thread that starts every QEMU: the kernel sends the death signal when the *thread* that started a
/// process ends (`PR_SET_PDEATHSIG`, prctl(2)), and this one ends with the lab.
static STARTER: LazyLock<Sender<Order>> = LazyLock::new(|| {
    let (orders, receive) = mpsc::channel::<Order>();
    thread::spawn(move || {
        for (mut command, reply) in receive {
            let child = command.spawn();
            // It holds QEMU's ends of the channels; they must close when QEMU does.
            drop(command);
            // Whoever asked waits for this.
            let _ = reply.send(child);
        }
    });
    orders
});

/// A command to run, and where the child goes.
type Order = (Command, Sender<io::Result<Child>>);

fn spawn(command: Command) -> io::Result<Child> {
    let (reply, child) = mpsc::channel();
    let ended = |_| io::Error::other("the thread that starts QEMU has ended");
    STARTER
        .send((command, reply))
        .map_err(|error| ended(error.to_string()))?;
    child.recv().map_err(|error| ended(error.to_string()))?
}

/// A QEMU process. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    exited: OwnedFd,
    stderr: UnixStream,
}

impl Qemu {
    /// Starts QEMU with inherited descriptors.
    ///
    /// # Errors
    ///
    /// When the process cannot be made. What QEMU itself does not like shows later.
    pub fn start(program: &QemuProgram, args: Vec<OsString>, fds: Vec<FdMapping>) -> Result<Self> {
        let (stderr, qemu_stderr) =
            UnixStream::pair().context("failed to make a channel to QEMU")?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.args(["sh", "-c", UNLESS_ORPHANED, "sh"]);
        command.arg(std::process::id().to_string());
        command.args(&program.argv_prefix).args(args);
        command.envs(program.env.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(OwnedFd::from(qemu_stderr));
        command
            .fd_mappings(fds)
            .context("failed to pass descriptors to QEMU")?;
        let mut child = spawn(command).context("failed to run setpriv, which starts QEMU")?;
        match open_pidfd(&child) {
            Ok(exited) => Ok(Self {
                child,
                exited,
                stderr,
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error).context("failed to watch QEMU")
            }
        }
    }

    /// Readable once QEMU has ended.
    #[must_use]
    pub fn exited(&self) -> BorrowedFd<'_> {
        self.exited.as_fd()
    }

    /// What QEMU complains about.
    #[must_use]
    pub fn stderr(&self) -> &UnixStream {
        &self.stderr
    }

    /// Waits for QEMU's end, and reaps it.
    ///
    /// # Errors
    ///
    /// When wait(2) fails.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Ends QEMU at once; a second time does nothing.
    ///
    /// # Errors
    ///
    /// When kill(2) or wait(2) fails.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Nobody to tell: the run has its result by now. A child that was reaped is not killed again.
        let _ = self.kill();
    }
}

/// How QEMU ended, in words that follow "QEMU"; nothing if all was well.
#[must_use]
pub fn describe(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("gave up with status {code}")),
        (None, Some(signal)) => Some(format!("was killed by signal {signal}")),
        (None, None) => Some(format!("ended strangely ({status})")),
    }
}

fn open_pidfd(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}
