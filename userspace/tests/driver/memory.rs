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
