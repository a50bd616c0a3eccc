//! How much memory there is, and who has it.

use std::fs;
use std::thread;

/// The number behind the line of `/proc/meminfo` that begins with `name`: KiB.
fn meminfo(name: &str) -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").expect("read meminfo");
    let rest = meminfo.lines().find_map(|line| line.strip_prefix(name));
    let number = rest.and_then(|rest| rest.strip_prefix(':')?.trim().strip_suffix(" kB"));
    number.expect(name).parse().expect("a number")
}

/// Free memory in KiB.
pub fn free() -> u64 {
    meminfo("MemFree")
}

/// Gives back much memory with other bytes than zeros in it, on each CPU: who asks for single pages next gets those
/// that came back last.
pub fn soil() {
    const LEN: usize = 32 << 20;
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cpus {
            scope.spawn(|| drop(std::hint::black_box(vec![0xa5_u8; LEN])));
        }
    });
}

/// How many free blocks there are of each size, as the kernel shows it.
pub fn blocks() -> String {
    fs::read_to_string("/proc/buddyinfo").expect("read buddyinfo")
}

/// Memory that the kernel has taken for itself, in KiB, without what it only keeps because it can.
///
/// That is all which is not free, and neither anonymous memory of processes nor contents of files. Free pages
/// that a CPU has put aside count as free: by these alone the figure would go up and down by megabytes.
#[cfg(feature = "stress")]
pub fn of_kernel() -> u64 {
    // The order matters: what is dropped is counted after that, and the counters of the CPUs are added up.
    fs::write("/proc/sys/vm/drop_caches", "3").expect("drop caches");
    fs::write("/proc/sys/vm/stat_refresh", "1").expect("add up counters");
    let zones = fs::read_to_string("/proc/zoneinfo").expect("read zoneinfo");
    let aside = zones.lines().filter_map(|line| {
        let count = line.trim().strip_prefix("count:")?;
        Some(count.trim().parse::<u64>().expect("a number"))
    });
    let aside = aside.sum::<u64>() * 4;
    let of_others = ["MemFree", "AnonPages", "Buffers", "Cached"].map(meminfo);
    meminfo("MemTotal") - aside - of_others.iter().sum::<u64>()
}
