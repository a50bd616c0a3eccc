//! Memory that nobody answers for.

use std::fs;

use anyhow::{Context, Result};

use super::read_trimmed;
use crate::job::Event;

/// Counters of `/proc/meminfo` that say what memory is used for, or that it is not (`proc(5)`). Pages from
/// `alloc_pages()`, which the module's are, appear in none.
const ACCOUNTED: &[&str] = &[
    "MemFree",
    "Buffers",
    "Cached",
    "SwapCached",
    "AnonPages",
    "Slab",
    "KernelStack",
    "PageTables",
    "Percpu",
    "VmallocUsed",
];

/// Has the kernel give back what it only keeps at hand, and counts what is left.
pub(super) fn unaccounted() -> Result<Event> {
    // Free pages are kept back for each processor, too, which these do not return: that is noise.
    for path in ["/proc/sys/vm/drop_caches", "/proc/sys/vm/stat_refresh"] {
        fs::write(path, "3").with_context(|| format!("failed to write {path}"))?;
    }
    let meminfo = read_trimmed("/proc/meminfo")?;
    let kib = count(&meminfo).context("failed to parse /proc/meminfo")?;
    Ok(Event::Unaccounted { kib })
}

fn count(meminfo: &str) -> Option<u64> {
    let value = |name: &str| {
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    // A counter that this kernel does not have counts nothing.
    let known: u64 = ACCOUNTED.iter().filter_map(|name| value(name)).sum();
    Some(value("MemTotal")?.saturating_sub(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_counter_is_subtracted_and_the_rest_is_left() {
        let meminfo = "MemTotal:  1000 kB\nMemFree:  600 kB\nMemAvailable: 900 kB\nSlab: 150 kB\n";
        assert_eq!(count(meminfo), Some(250));
        assert_eq!(count("MemFree: 1 kB\n"), None);
    }
}
