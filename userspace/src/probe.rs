//! Probe: touches an address in a forked child, which reports how that ended.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::mman::ProtFlags;
use nix::unistd::pipe2;

use crate::error::{Error, Result};
use crate::evidence::{CallEnd, Fault, Touch};
use crate::process::{End, Process, readable};
use crate::sys::{FAULTED, REPORT_LEN, Sacrifice};
use crate::turn::TURN;

/// The machine code of a function that returns 42: `mov eax, 42; ret`.
pub const RETURN_42: [u8; 6] = [0xb8, 42, 0, 0, 0, 0xc3];

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
    let what = format!("it reported {access:?} at {addr:#x}");
    attempt(&what, |sacrifice| match access {
        Access::Load => sacrifice.load(addr),
        Access::Store(value) => sacrifice.store(addr, value),
        Access::Call => sacrifice.call(addr),
    })
}

/// Has a child do `body`, whose last act is a touch, and reports how that ended; `what` it owes, for messages.
///
/// # Errors
///
/// If the child cannot be made or ends without a report.
pub fn attempt(what: &str, body: impl FnOnce(Sacrifice) -> i32) -> Result<Touch> {
    let (hear, say) = pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe2()", "a probe"))?;
    let child = Process::sacrifice("the probe", say, body)?;
    let report = read_report(hear)?;
    let end = child.wait(TURN)?;
    match (end, report) {
        (End::Exited(0), Some((_, _, value))) => Ok(Touch::Completed(value)),
        (End::Exited(FAULTED), Some((signo, code, addr))) => {
            Ok(Touch::Faulted(Fault::from_raw(signo, code, addr)))
        }
        (end, _) => Err(Error::Gone {
            who: format!("the probe ({end:?})"),
            what: what.to_owned(),
        }),
    }
}

/// A call about any addresses, which a child can make on its own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `munmap(2)`.
    Unmap,
    /// `mprotect(2)`.
    Protect(ProtFlags),
}

/// Makes the call on `len` bytes from `addr` on in a child that has this process's memory, and reports how
/// that ended. This process's memory stays as it is.
///
/// # Errors
///
/// If the child cannot be made or ends without a report.
pub fn call(addr: usize, len: usize, call: Call) -> Result<CallEnd> {
    let what = format!("it reported {call:?} of {len} bytes at {addr:#x}");
    let ended = attempt(&what, |sacrifice| match call {
        Call::Unmap => sacrifice.unmap(addr, len),
        Call::Protect(prot) => sacrifice.protect(addr, len, prot),
    })?;
    match ended {
        Touch::Completed(0) => Ok(CallEnd::Ok),
        Touch::Completed(errno) => {
            let errno = i32::try_from(errno).map_or(Errno::UnknownErrno, Errno::from_raw);
            Ok(CallEnd::from(Err::<(), _>(errno)))
        }
        Touch::Faulted(fault) => Err(Error::Gone {
            who: format!("the probe ({fault:?})"),
            what,
        }),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Request;
    use crate::sys::PAGE_SIZE;

    #[test]
    fn address_0_can_be_tried_in_every_way() {
        for access in [Access::Load, Access::Store(1), Access::Call] {
            match touch(0, access).unwrap() {
                Touch::Faulted(fault) => assert_eq!(
                    (fault.signal.as_str(), fault.addr),
                    ("SIGSEGV", 0),
                    "{access:?}"
                ),
                Touch::Completed(value) => panic!("{access:?} gave {value}"),
            }
        }
    }

    #[test]
    fn a_call_on_pages_that_are_not_there_says_so_and_spares_its_caller() {
        let mut mapping = Request::anonymous(libc::MAP_PRIVATE)
            .len(2 * PAGE_SIZE)
            .map()
            .unwrap();
        let addr = mapping.addr();
        mapping.split_off(PAGE_SIZE).unwrap().unmap().unwrap();
        let both = 2 * PAGE_SIZE;
        let refused = |errno: &str| CallEnd::Refused(errno.to_owned());
        let protected = call(addr, both, Call::Protect(ProtFlags::PROT_NONE));
        assert_eq!(protected.unwrap(), refused("ENOMEM"));
        assert_eq!(call(addr, both, Call::Unmap).unwrap(), CallEnd::Ok);
        assert_eq!(
            call(addr + 1, both, Call::Unmap).unwrap(),
            refused("EINVAL")
        );
        assert_eq!(mapping.load(0).unwrap(), 0);
    }

    #[test]
    fn what_is_stored_in_a_sacrifice_stays_there() {
        let byte = Box::new(7_u8);
        let addr = (&raw const *byte).expose_provenance();
        assert!(matches!(
            touch(addr, Access::Load).unwrap(),
            Touch::Completed(7)
        ));
        assert!(matches!(
            touch(addr, Access::Store(8)).unwrap(),
            Touch::Completed(8)
        ));
        assert_eq!(*byte, 7);
    }
}
