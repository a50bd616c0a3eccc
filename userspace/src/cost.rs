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

/// How often something is done before it is counted: that brings code, stack and caches of the kernel.
pub const WARM_UP: usize = 2;
/// How often it is counted then.
pub const COUNTS: usize = 5;

/// The median cost of several times, after some that are not counted. An interrupt, such as the timer's, falls into one of
/// them at most, if they are short, and is not in the median.
///
/// # Errors
///
/// If `work` fails.
pub fn warm(mut work: impl FnMut() -> Result<()>) -> Result<u64> {
    for _ in 0..WARM_UP {
        work()?;
    }
    let cost = |_| of(&mut work).map(|((), cost)| cost);
    (0..COUNTS).map(cost).collect::<Result<_>>().map(median)
}

/// The one in the middle; 0 of none.
#[must_use]
pub fn median(mut costs: Vec<u64>) -> u64 {
    costs.sort_unstable();
    costs.get(costs.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_warm_is_warmed_up_and_counted_several_times() {
        let mut times = 0;
        warm(|| {
            times += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(times, WARM_UP + COUNTS);
    }

    #[test]
    fn an_interrupt_is_not_in_the_median() {
        assert_eq!(median(vec![94, 33_423, 93, 95, 94]), 94);
        assert_eq!(median(Vec::new()), 0);
    }
}
