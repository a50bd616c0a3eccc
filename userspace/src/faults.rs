//! Faults: how many page faults an access takes, counted warm.

use nix::sys::resource::{UsageWho, getrusage};

use crate::error::{Error, Result};
use crate::object::Request;
use crate::sys::Mapping;

/// Runs `touch` on the mapping and counts the page faults that this process takes meanwhile.
///
/// # Errors
///
/// If `touch` fails or the faults cannot be counted.
pub fn count<T>(mapping: &Mapping, touch: impl Fn(&Mapping) -> Result<T>) -> Result<(T, u64)> {
    Counter::default().count(mapping, touch)
}

/// Counts faults again and again, in one process: a child does not inherit the entries of what is shared.
///
/// The code, the stack and the heap that an access uses would fault themselves when they are used for the
/// first time, above all after fork(2). So it is made in scratch memory first, which is already populated. To map
/// that takes more instructions than most accesses.
#[derive(Debug, Default)]
pub struct Counter {
    scratch: Option<Mapping>,
}

impl Counter {
    /// As [`count()`].
    ///
    /// # Errors
    ///
    /// As [`count()`].
    pub fn count<T>(
        &mut self,
        mapping: &Mapping,
        touch: impl Fn(&Mapping) -> Result<T>,
    ) -> Result<(T, u64)> {
        let is_large_enough = |scratch: &Mapping| scratch.len() >= mapping.len();
        let scratch = match self.scratch.take().filter(is_large_enough) {
            Some(scratch) => scratch,
            None => populated(mapping.len())?,
        };
        let scratch = self.scratch.insert(scratch);
        measure(scratch, &touch)?;
        measure(scratch, &touch)?;
        measure(mapping, &touch)
    }
}

fn populated(len: usize) -> Result<Mapping> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    Request::anonymous(0).flags(flags).len(len).map()
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
