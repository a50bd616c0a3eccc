//! System calls: how many a child makes, counted by a tracer, see `ptrace(2)`.

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, alarm};

use crate::error::{Error, Result};
use crate::process::{End, Process};
use crate::turn::TURN;

/// Counts the system calls of `body`, which a forked child does.
///
/// # Errors
///
/// If the child cannot be made or traced, or if `body` fails.
pub fn count(name: &str, body: impl FnOnce() -> Result<()>) -> Result<u64> {
    // What the marks themselves take is the same each time.
    let marks = stops(name, || Ok(()))?;
    let all = stops(name, body)?;
    // One stop when a call begins, and one when it ends.
    Ok(all.saturating_sub(marks) / 2)
}

/// How often the child stops between its two marks, which are stops of another kind.
fn stops(name: &str, body: impl FnOnce() -> Result<()>) -> Result<u64> {
    let child = Process::fork(name, || match between_marks(body) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{name}: {error}");
            1
        }
    })?;
    let failed = |call: &'static str| Error::call(call, name);
    let pid = child.pid();
    await_mark(name, pid, |_| Ok(()))?;
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(pid, options).map_err(failed("ptrace(SETOPTIONS)"))?;
    let go_on = || ptrace::syscall(pid, None).map_err(failed("ptrace(SYSCALL)"));
    let mut stops = 0;
    go_on()?;
    await_mark(name, pid, |status| match status {
        WaitStatus::PtraceSyscall(_) => {
            stops += 1;
            go_on()
        }
        other => Err(unexpected(name, other)),
    })?;
    ptrace::detach(pid, None).map_err(failed("ptrace(DETACH)"))?;
    match child.wait(TURN)? {
        End::Exited(0) => Ok(stops),
        end => Err(Error::Gone {
            who: format!("{name} ({end:?})"),
            what: "it had made its calls".to_owned(),
        }),
    }
}

fn between_marks(body: impl FnOnce() -> Result<()>) -> Result<()> {
    let mark = || raise(Signal::SIGSTOP).map_err(Error::call("raise(SIGSTOP)", "self"));
    ptrace::traceme().map_err(Error::call("ptrace(TRACEME)", "self"))?;
    // Its parent waits without a limit: so this ends it, if it hangs.
    alarm::set(u32::try_from(TURN.as_secs()).unwrap_or(u32::MAX));
    mark()?;
    body()?;
    mark()
}

/// Waits for the next mark and hands every other stop to `stopped`.
fn await_mark(
    name: &str,
    pid: Pid,
    mut stopped: impl FnMut(WaitStatus) -> Result<()>,
) -> Result<()> {
    loop {
        match waitpid(pid, None).map_err(Error::call("waitpid()", name))? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => return Ok(()),
            status => stopped(status)?,
        }
    }
}

fn unexpected(name: &str, status: WaitStatus) -> Error {
    Error::Garbled {
        what: format!("the trace of {name}"),
        detail: format!("{status:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_and_nothing_else() {
        let calls = count("three calls", || {
            for _ in 0..3 {
                nix::unistd::getppid();
            }
            Ok(())
        });
        assert_eq!(calls.unwrap(), 3);
        assert_eq!(count("no calls", || Ok(())).unwrap(), 0);
    }

    #[test]
    fn a_child_that_fails_is_an_error() {
        let refused = || Err(Error::call("mmap()", "nothing")(nix::errno::Errno::ENODEV));
        assert!(count("on purpose", refused).is_err());
    }
}
