//! Probe: touches an address in a forked child, which reports how that ended.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::error::{Error, Result};
use crate::evidence::{Fault, Touch};
use crate::process::{End, Process, readable};
use crate::sys::{FAULTED, REPORT_LEN, Sacrifice};
use crate::turn::TURN;

/// How to touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read one byte.
    Load,
    /// Write one byte.
    Store(u8),
    /// Call it as a function without arguments.
    Call,
}

/// Touches `addr` in a child that has this process's memory, and reports how that ended.
///
/// # Errors
///
/// If the child cannot be made or ends without a report.
pub fn touch(addr: usize, access: Access) -> Result<Touch> {
    let (hear, say) = pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe2()", "a probe"))?;
    let child = Process::fork("the probe", || {
        be_sacrificed(&say, addr, access).unwrap_or(1)
    })?;
    drop(say);
    let report = read_report(hear)?;
    let end = child.wait(TURN)?;
    match (end, report) {
        (End::Exited(0), Some((_, _, value))) => Ok(Touch::Completed(value)),
        (End::Exited(FAULTED), Some((signo, code, addr))) => {
            Ok(Touch::Faulted(Fault::from_raw(signo, code, addr)))
        }
        (end, _) => Err(Error::Gone {
            who: format!("the probe ({end:?})"),
            what: format!("it reported {access:?} at {addr:#x}"),
        }),
    }
}

fn be_sacrificed(say: &OwnedFd, addr: usize, access: Access) -> Option<i32> {
    let sacrifice = Sacrifice::new(say.as_fd()).ok()?;
    let value = match access {
        Access::Load => u64::from(sacrifice.load(addr)),
        Access::Store(value) => {
            sacrifice.store(addr, value);
            u64::from(value)
        }
        Access::Call => u64::from(sacrifice.call(addr)),
    };
    let mut report = [0; REPORT_LEN];
    report[8..].copy_from_slice(&value.to_ne_bytes());
    let mut say = File::from(say.try_clone().ok()?);
    say.write_all(&report).ok()?;
    Some(0)
}

/// The three numbers of a report, in the order of [`REPORT_LEN`]; `None` if the child died silently.
fn read_report(hear: OwnedFd) -> Result<Option<(i32, i32, u64)>> {
    if !readable(&hear, TURN, "a probe's report")? {
        return Err(Error::Deadline {
            what: "a probe's report".to_owned(),
            timeout: TURN,
        });
    }
    let mut report = Vec::new();
    File::from(hear)
        .read_to_end(&mut report)
        .map_err(Error::file("read", "a probe's pipe"))?;
    let number = |at: usize| Some(i32::from_ne_bytes(report.get(at..at + 4)?.try_into().ok()?));
    let addr = report
        .get(8..REPORT_LEN)
        .and_then(|bytes| bytes.try_into().ok());
    Ok((|| {
        Some((number(0)?, number(4)?, u64::from_ne_bytes(addr?)))
    })())
}
