//! Child: a forked process that may crash, and how it ends.

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

use crate::error::{Error, Result};
use crate::process::{End, Process};
use crate::sys::Mapping;
use crate::turn::TURN;

/// Has a forked child do `body` and waits for its end: status 0 if all went well, 1 if not, or a signal.
///
/// # Errors
///
/// If it cannot be made, or does not end.
pub(super) fn end(name: &str, body: impl FnOnce() -> Result<()>) -> Result<End> {
    let child = Process::fork(name, || match without_core().and_then(|()| body()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{name}: {error}");
            1
        }
    })?;
    child.wait(TURN)
}

/// Whoever dies here was meant to: nobody needs a dump of it.
fn without_core() -> Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(Error::call("setrlimit()", "RLIMIT_CORE"))
}

/// The same where nothing can go wrong.
///
/// # Errors
///
/// Also if it ends otherwise than with status 0.
pub(super) fn done(name: &str, body: impl FnOnce() -> Result<()>) -> Result<()> {
    match end(name, body)? {
        End::Exited(0) => Ok(()),
        end => Err(Error::Gone {
            who: format!("{name} ({end:?})"),
            what: "it was done".to_owned(),
        }),
    }
}

/// Whether this signal ended it.
pub(super) fn killed_by(end: End, signal: Signal) -> bool {
    end == End::Killed(signal)
}

/// The text at the begin of a mapping, up to but without the first zero, as `%s` would print it.
///
/// # Errors
///
/// If there is no zero up to its end.
pub(super) fn text(mapping: &Mapping) -> Result<String> {
    let mut bytes = Vec::new();
    loop {
        match mapping.load(bytes.len())? {
            0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            byte => bytes.push(byte),
        }
    }
}
