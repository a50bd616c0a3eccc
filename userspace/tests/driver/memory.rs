//! How much memory there is.

use std::fs;

/// Free memory in KiB.
pub fn free() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").expect("read meminfo");
    let free = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemFree:"));
    let free = free.and_then(|rest| rest.trim().strip_suffix(" kB"));
    free.expect("MemFree").parse().expect("a number")
}

/// How many free blocks there are of each size, as the kernel shows it.
pub fn blocks() -> String {
    fs::read_to_string("/proc/buddyinfo").expect("read buddyinfo")
}
