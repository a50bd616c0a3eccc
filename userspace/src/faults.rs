//! Faults: how many page faults an access takes, counted warm.

use nix::sys::resource::{UsageWho, getrusage};

use crate::error::{Error, Result};
use crate::object::Request;
use crate::sys::Mapping;

/// Runs `touch` on the mapping and counts the page faults that this process takes meanwhile.
///
/// The code, the stack and the heap that `touch` uses would fault themselves when they are used for the
/// first time, above all after fork(2). So it runs on scratch memory first, which is already populated.
///
/// # Errors
///
/// If `touch` fails or the faults cannot be counted.
pub fn count<T>(mapping: &Mapping, touch: impl Fn(&Mapping) -> Result<T>) -> Result<(T, u64)> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    let scratch = Request::anonymous(0)
        .flags(flags)
        .len(mapping.len())
        .map()?;
    measure(&scratch, &touch)?;
    measure(&scratch, &touch)?;
    measure(mapping, &touch)
}

#[inline(never)]
fn measure<T>(mapping: &Mapping, touch: &impl Fn(&Mapping) -> Result<T>) -> Result<(T, u64)> {
    let before = total()?;
    let touched = touch(mapping)?;
    let after = total()?;
    Ok((touched, after - before))
}

/// All page faults of this process so far, minor and major.
fn total() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(Error::call("getrusage()", "self"))?;
    Ok((usage.minor_page_faults() + usage.major_page_faults()).unsigned_abs())
}
