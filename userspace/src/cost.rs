//! Cost: how many instructions a piece of work takes, where a clock counts them.

use std::time::Instant;

use crate::error::Result;

/// Runs `work` and returns how many nanoseconds of `CLOCK_MONOTONIC` went by: in the boot named
/// [`crate::boot::Boot::Counting`] that is the number of instructions executed, the kernel's included, and
/// a few dozen for looking at the clock.
///
/// # Errors
///
/// If `work` fails.
pub fn of<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let begin = Instant::now();
    let done = work()?;
    let cost = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok((done, cost))
}

/// The cost of the third of three times: the first two bring code, stack and caches of the kernel.
///
/// # Errors
///
/// If `work` fails.
pub fn warm(mut work: impl FnMut() -> Result<()>) -> Result<u64> {
    work()?;
    work()?;
    Ok(of(work)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_warm_is_done_three_times() {
        let mut times = 0;
        warm(|| {
            times += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(times, 3);
    }
}
