//! Memory that the kernel has taken for itself.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Time for the kernel to free what it frees later, on a busy host.
const LATER: Duration = Duration::from_secs(30);

/// How much more than before is no leak: structures of the kernel's that it keeps at hand, in KiB.
const TOLERANCE: u64 = 6 << 10;

/// The kernel's own search for forgotten objects (`Documentation/dev-tools/kmemleak.rst`).
const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";

/// What `/proc/meminfo` says of memory that is free, or holds data of processes or files.
const NOT_THE_KERNELS: [&str; 4] = ["MemFree", "AnonPages", "Buffers", "Cached"];

/// A page, in KiB.
const PAGE_KIB: u64 = 4;

/// Memory that the kernel has taken for itself, in KiB, without what it only keeps because it can.
///
/// That is all which is not free, and neither anonymous memory of processes nor contents of files. Free pages
/// that a CPU has put aside count as free: by these alone the figure would go up and down by megabytes. So do
/// objects in slabs where kmemleak names each that is forgotten: what it remembers of each object is another one, and
/// KASAN, which such kernels have, too, keeps freed ones for a while. Objects that are kept and not forgotten are then
/// for the run on a stock kernel to find.
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
    let aside = aside(&read("/proc/zoneinfo")?)?;
    let meminfo = read("/proc/meminfo")?;
    let mut left = number(&meminfo, "MemTotal")?.saturating_sub(aside);
    let slab = Path::new(KMEMLEAK).exists().then_some("Slab");
    for owner in NOT_THE_KERNELS.into_iter().chain(slab) {
        left = left.saturating_sub(number(&meminfo, owner)?);
    }
    Ok(left)
}

/// The free pages that CPUs have put aside, in KiB, by `/proc/zoneinfo`.
fn aside(zoneinfo: &str) -> Result<u64> {
    let garbled = || Error::Garbled {
        what: "/proc/zoneinfo".to_owned(),
        detail: "no count of pages for each CPU".to_owned(),
    };
    let counts = zoneinfo
        .lines()
        .filter_map(|line| line.trim().strip_prefix("count:"));
    let counts = counts.map(|count| count.trim().parse::<u64>().ok());
    let counts = counts.collect::<Option<Vec<_>>>().ok_or_else(garbled)?;
    if counts.is_empty() {
        return Err(garbled());
    }
    Ok(counts.iter().sum::<u64>() * PAGE_KIB)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_put_aside_are_added_up_and_never_left_out() {
        let zoneinfo = "  pagesets\n    cpu: 0\n       count:    20\n       high: 17\n    cpu: 1\n       count: 3\n";
        assert_eq!(aside(zoneinfo).unwrap(), 4 * 23);
        assert!(aside("       count: x\n").is_err());
        assert!(aside("Node 0, zone    DMA32\n").is_err());
    }
}
