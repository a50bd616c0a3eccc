//! Memory that the kernel has taken for itself.

use std::fs;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Time for the kernel to free what it frees later, on a busy host.
const LATER: Duration = Duration::from_secs(30);

/// How much more than before is no leak: structures of the kernel's that it keeps at hand, in KiB.
const TOLERANCE: u64 = 6 << 10;

/// Memory that the kernel has taken for itself, in KiB, without what it only keeps because it can.
///
/// That is all which is not free, and neither anonymous memory of processes nor contents of files. Free pages
/// that a CPU has put aside count as free: by these alone the figure would go up and down by megabytes.
///
/// # Errors
///
/// If that cannot be told: only root may have caches dropped.
pub fn of_kernel() -> Result<u64> {
    let write = |path: &str, text: &str| {
        let written = fs::write(path, text);
        written.map_err(Error::file("write", path))
    };
    let read = |path: &str| {
        let text = fs::read_to_string(path);
        text.map_err(Error::file("read", path))
    };
    // The order matters: what is dropped is counted after that, and the counters of the CPUs are added up.
    write("/proc/sys/vm/drop_caches", "3")?;
    write("/proc/sys/vm/stat_refresh", "1")?;
    let zones = read("/proc/zoneinfo")?;
    let aside = zones
        .lines()
        .filter_map(|line| line.trim().strip_prefix("count:"));
    let aside = aside
        .filter_map(|count| count.trim().parse::<u64>().ok())
        .sum::<u64>()
        * 4;
    let meminfo = read("/proc/meminfo")?;
    let mut left = number(&meminfo, "MemTotal")?.saturating_sub(aside);
    for owner in ["MemFree", "AnonPages", "Buffers", "Cached"] {
        left = left.saturating_sub(number(&meminfo, owner)?);
    }
    Ok(left)
}

/// The number behind the line that begins with `name`, in KiB.
fn number(meminfo: &str, name: &str) -> Result<u64> {
    let rest = meminfo
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = rest.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
    number.ok_or_else(|| Error::Garbled {
        what: "/proc/meminfo".to_owned(),
        detail: format!("no {name} in it"),
    })
}

/// Waits until the kernel has about as much memory as it had `before`, and returns how much it has.
///
/// Much is freed by workers, or once all CPUs have passed through the scheduler.
///
/// # Errors
///
/// As [`of_kernel`].
pub fn settled(before: u64) -> Result<u64> {
    let deadline = Instant::now() + LATER;
    loop {
        let after = of_kernel()?;
        if !is_leak(before, after) || Instant::now() > deadline {
            return Ok(after);
        }
        std::thread::yield_now();
    }
}

/// Whether so much more is one, in KiB.
#[must_use]
pub fn is_leak(before: u64, after: u64) -> bool {
    after > before + TOLERANCE
}
