//! Process: a child that somebody owns: waited for with a deadline, killed and reaped when dropped.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::evidence::Value;
use crate::sys::{self, Sacrifice};

/// A child process.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    name: String,
    reaped: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By a signal.
    Killed(Signal),
}

impl From<End> for Value {
    fn from(end: End) -> Self {
        match end {
            End::Exited(status) => Self::Text(format!("exited-{status}")),
            End::Killed(signal) => Self::Text(signal.to_string()),
        }
    }
}

/// How long the kernel may take to end a process that was killed, with all its memory.
const DEATH: Duration = Duration::from_secs(60);

/// The path of this program, whatever its name is; see `proc_pid_exe(5)`.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// A program, started anew by `execve(2)`, so that nothing is mapped or inherited.
///
/// Returns what it prints and where it reads.
///
/// # Errors
///
/// If it cannot be started.
pub fn start(
    name: &str,
    program: impl AsRef<Path>,
    args: &[&str],
    stderr: Stdio,
) -> Result<(Process, OwnedFd, OwnedFd)> {
    let program = program.as_ref();
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr);
    let mut child = command.spawn().map_err(Error::file("run", program))?;
    let process = Process::adopt(name, &child)?;
    match (child.stdout.take(), child.stdin.take()) {
        (Some(out), Some(into)) => Ok((process, out.into(), into.into())),
        _ => Err(Error::Gone {
            who: name.to_owned(),
            what: "it had its pipes".to_owned(),
        }),
    }
}

/// Runs another program to its end and returns how it ended and what it printed.
///
/// # Errors
///
/// If it cannot be started, or does not end in time; then it is killed.
pub fn output(program: &str, args: &[&str], timeout: Duration) -> Result<(End, Vec<u8>)> {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().map_err(Error::file("run", program))?;
    let process = Process::adopt(program, &child)?;
    let mut printed = Vec::new();
    if let Some(out) = child.stdout.take() {
        read_until(
            &mut File::from(OwnedFd::from(out)),
            &mut printed,
            timeout,
            |_| false,
        )?;
    }
    Ok((process.wait(timeout)?, printed))
}

/// Reads until `enough` is true of what has been read, or until the other end is closed.
///
/// # Errors
///
/// If neither happens in time.
pub fn read_until(
    from: &mut File,
    read: &mut Vec<u8>,
    timeout: Duration,
    enough: impl Fn(&[u8]) -> bool,
) -> Result<()> {
    let deadline = Instant::now() + timeout;
    let what = "what a program prints".to_owned();
    let mut chunk = [0; 4096];
    while !enough(read) {
        let left = deadline.saturating_duration_since(Instant::now());
        if !readable(from, left, &what)? {
            return Err(Error::Deadline { what, timeout });
        }
        let len = from.read(&mut chunk);
        let len = len.map_err(Error::file("read", "a pipe"))?;
        match chunk.get(..len) {
            Some([]) | None => return Ok(()),
            Some(some) => read.extend_from_slice(some),
        }
    }
    Ok(())
}

impl Process {
    /// Forks; the child runs `body` and ends with the status it returns.
    ///
    /// # Errors
    ///
    /// If the process cannot be made.
    pub fn fork(name: impl Into<String>, body: impl FnOnce() -> i32) -> Result<Self> {
        let name = name.into();
        let parent = nix::unistd::getpid();
        let child = || if dies_with(parent) { body() } else { 1 };
        let pid = sys::fork(child).map_err(Error::call("fork()", &name))?;
        Self::own(pid, name)
    }

    /// Forks a child that may touch any address, and says on `report_to` how that ended.
    ///
    /// # Errors
    ///
    /// If the process cannot be made.
    pub fn sacrifice(
        name: impl Into<String>,
        report_to: OwnedFd,
        body: impl FnOnce(Sacrifice) -> i32,
    ) -> Result<Self> {
        let name = name.into();
        let parent = nix::unistd::getpid();
        let child = |sacrifice| {
            if dies_with(parent) {
                body(sacrifice)
            } else {
                1
            }
        };
        let pid = Sacrifice::fork(report_to, child).map_err(Error::call("fork()", &name))?;
        Self::own(pid, name)
    }

    /// Takes a process over from the standard library, whose handle does not kill what it drops.
    ///
    /// # Errors
    ///
    /// If it cannot be watched.
    pub fn adopt(name: impl Into<String>, child: &Child) -> Result<Self> {
        let pid = i32::try_from(child.id()).map_err(|_| Error::Garbled {
            what: "process id".to_owned(),
            detail: child.id().to_string(),
        })?;
        Self::own(Pid::from_raw(pid), name.into())
    }

    fn own(pid: Pid, name: String) -> Result<Self> {
        match sys::pidfd_open(pid) {
            Ok(pidfd) => Ok(Self {
                pid,
                pidfd,
                name,
                reaped: false,
            }),
            Err(errno) => {
                let _ = kill(pid, Signal::SIGKILL);
                let _ = waitpid(pid, None);
                Err(Error::call(format!("pidfd_open({pid})"), name)(errno))
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it ends in this time; it goes on in any case.
    ///
    /// # Errors
    ///
    /// If that cannot be told.
    pub fn ends_within(&self, time: Duration) -> Result<bool> {
        readable(&self.pidfd, time, &format!("the end of {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// If it does not end in time; then it is killed.
    pub fn wait(mut self, timeout: Duration) -> Result<End> {
        self.end_within(timeout)
    }

    /// Kills it by SIGKILL and waits for its end.
    ///
    /// # Errors
    ///
    /// If it has ended already, the signal cannot be sent, or the kernel does not end it.
    pub fn kill(&mut self) -> Result<End> {
        if self.reaped {
            // Its number may be another's by now.
            let (who, what) = (self.name.clone(), "it was killed".to_owned());
            return Err(Error::Gone { who, what });
        }
        kill(self.pid, Signal::SIGKILL).map_err(Error::call("kill(SIGKILL)", &self.name))?;
        self.end_within(DEATH)
    }

    fn end_within(&mut self, timeout: Duration) -> Result<End> {
        let what = format!("the end of {}", self.name);
        if !readable(&self.pidfd, timeout, &what)? {
            return Err(Error::Deadline { what, timeout });
        }
        self.reap()
    }

    /// Whether its end has been seen.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.reaped
    }

    fn reap(&mut self) -> Result<End> {
        let status = waitpid(self.pid, None).map_err(Error::call("waitpid()", &self.name))?;
        self.reaped = true;
        match status {
            WaitStatus::Exited(_, code) => Ok(End::Exited(code)),
            WaitStatus::Signaled(_, signal, _) => Ok(End::Killed(signal)),
            other => Err(Error::Garbled {
                what: format!("wait status of {}", self.name),
                detail: format!("{other:?}"),
            }),
        }
    }
}

/// Leaves out what nobody needs of a child that the C library aborts: a core file, and the reason on standard error.
///
/// # Errors
///
/// If that cannot be had.
pub fn be_quiet() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let nowhere = open("/dev/null", OFlag::O_WRONLY, Mode::empty())?;
    nix::unistd::dup2_stderr(nowhere)
}

/// Ties this child to its parent, which it must not outlive; `PR_SET_PDEATHSIG(2const)`.
fn dies_with(parent: Pid) -> bool {
    let armed = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    // Too late if the parent was gone before.
    armed.is_ok() && nix::unistd::getppid() == parent
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            // Nobody is left to report to.
            let _ = self.kill();
        }
    }
}

/// Waits until `fd` can be read or its other end is gone; `false` if that did not happen in time.
///
/// # Errors
///
/// If `poll(2)` fails.
pub fn readable(fd: &impl AsFd, timeout: Duration, what: &str) -> Result<bool> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], left) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::call("poll()", what)(errno)),
        }
    }
}
