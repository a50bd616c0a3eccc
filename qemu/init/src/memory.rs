//! Memory that nobody answers for.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::job::LEAK_KIB;
use crate::read_trimmed;

/// Counters of `/proc/meminfo` that say what memory is used for, or that it is not (`proc(5)`). Pages from
/// `alloc_pages()`, which the module's are, appear in none. Not `KernelStack`: stacks are part of `VmallocUsed`
/// (`CONFIG_VMAP_STACK`).
const ACCOUNTED: &[&str] = &[
    "MemFree",
    "Buffers",
    "Cached",
    "SwapCached",
    "AnonPages",
    "Slab",
    "PageTables",
    "Percpu",
    "VmallocUsed",
];

/// A page, in KiB.
const PAGE_KIB: u64 = 4;

/// How long the kernel may take to free what nobody uses any more: it does so in the background.
const SETTLING: Duration = Duration::from_secs(5);

/// How long to leave it alone between two counts, which take the processor from it.
const PAUSE: Duration = Duration::from_millis(100);

/// The memory in KiB that is in use once the module has gone: counted again while it would be a leak, as long as
/// the kernel may still be freeing some.
///
/// That the kernel gives back what it keeps can but lessen it. It takes as long as rmmod, which is too long for somebody
/// who waits for a restored machine; others do not leave out what may trip over something that the module left behind.
pub(crate) fn settled(before: u64, is_restored: bool) -> Result<u64> {
    let first = is_restored.then(counted).transpose()?;
    let deadline = Instant::now() + SETTLING;
    settle(first, unaccounted, before + LEAK_KIB, deadline)
}

/// The `first` count, if there is one and it is no more than `enough`; otherwise the least of others.
fn settle(
    first: Option<u64>,
    count: impl FnMut() -> Result<u64>,
    enough: u64,
    deadline: Instant,
) -> Result<u64> {
    match first.filter(|kib| *kib <= enough) {
        Some(kib) => Ok(kib),
        None => least(count, enough, deadline),
    }
}

/// Counts until there is no more than `enough`, or until `deadline`; the least of all counts.
fn least(mut count: impl FnMut() -> Result<u64>, enough: u64, deadline: Instant) -> Result<u64> {
    let mut least = count()?;
    while least > enough && Instant::now() < deadline {
        // No event says that the last page is free.
        thread::sleep(PAUSE);
        least = least.min(count()?);
    }
    Ok(least)
}

/// Has the kernel give back what it only keeps at hand, and counts what is left, in KiB.
pub(crate) fn unaccounted() -> Result<u64> {
    // Pages of files, and what the slab caches can do without.
    write("/proc/sys/vm/drop_caches", "3")?;
    counted()
}

/// What is in use now, in KiB.
fn counted() -> Result<u64> {
    // What each processor has counted by itself is added up.
    write("/proc/sys/vm/stat_refresh", "1")?;
    let kept = kept(&read_trimmed("/proc/zoneinfo")?).context("failed to parse /proc/zoneinfo")?;
    let meminfo = read_trimmed("/proc/meminfo")?;
    let count = count(&meminfo).context("failed to parse /proc/meminfo")?;
    Ok(count.saturating_sub(kept))
}

fn write(path: &str, value: &str) -> Result<()> {
    fs::write(path, value).with_context(|| format!("failed to write {path}"))
}

/// The free pages that are kept at hand for each processor, in KiB: megabytes, which come and go, and are part of no
/// counter of `/proc/meminfo`.
fn kept(zoneinfo: &str) -> Option<u64> {
    let lines = zoneinfo.lines().map(str::trim_start);
    let counts: Vec<u64> = lines
        .filter_map(|line| line.strip_prefix("count:"))
        .map(|count| count.trim().parse().ok())
        .collect::<Option<_>>()?;
    (!counts.is_empty()).then(|| counts.iter().sum::<u64>() * PAGE_KIB)
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

    #[test]
    fn pages_that_are_kept_for_a_processor_are_free() {
        let zoneinfo = "Node 0, zone    DMA32\n  pages free     101482\n  pagesets\n    cpu: 0\n              count:    2060\n\
            \x20             high:     1730\n    cpu: 1\n              count:    37\n  start_pfn: 4096\n";
        assert_eq!(kept(zoneinfo), Some(4 * 2097));
        assert_eq!(kept("  count: x\n"), None);
        assert_eq!(kept("Node 0, zone    DMA32\n"), None);
    }

    #[test]
    fn a_first_count_decides_only_if_it_is_no_leak() {
        let settle = |first| settle(first, || Ok(5), 10, Instant::now()).unwrap();
        assert_eq!(settle(Some(10)), 10);
        assert_eq!(settle(Some(11)), 5);
        assert_eq!(settle(None), 5);
    }

    #[test]
    fn memory_is_counted_until_it_is_free_and_not_for_ever() {
        let later = Instant::now() + SETTLING;
        let mut counts = [40, 30, 10, 5].into_iter();
        let mut next = || counts.next().context("counted too often");
        assert_eq!(least(&mut next, 10, later).unwrap(), 10);
        assert_eq!(least(next, 10, later).unwrap(), 5);
        let leak = least(|| Ok(40), 10, Instant::now());
        assert_eq!(leak.unwrap(), 40);
    }
}
