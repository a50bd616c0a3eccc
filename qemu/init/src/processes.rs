//! What the guest's processes are doing, for whoever wonders why nothing happens.

use std::fs;
use std::path::Path;

/// How much of the way to where a process sleeps is said: the innermost functions of the kernel.
const DEPTH: usize = 6;

/// One line for each process but this one; those that are gone meanwhile are left out.
pub(crate) fn describe() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut pids: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid > 1)
        .collect();
    pids.sort_unstable();
    pids.into_iter().filter_map(of).collect()
}

fn of(pid: u32) -> Option<String> {
    let dir = Path::new("/proc").join(pid.to_string());
    let read = |file: &str| fs::read(dir.join(file)).ok();
    let text = |file| Some(String::from_utf8_lossy(&read(file)?).into_owned());
    let argv = read("cmdline")?;
    // The kernel's own threads have none, nor has who has ended.
    (!argv.is_empty()).then_some(())?;
    Some(line(pid, &argv, &text("stat")?, &text("stack")?))
}

/// `proc_pid_cmdline(5)`, `proc_pid_stat(5)`, `proc_pid_stack(5)`.
fn line(pid: u32, argv: &[u8], stat: &str, stack: &str) -> String {
    let argv = String::from_utf8_lossy(argv)
        .trim_end_matches('\0')
        .replace('\0', " ");
    // The name, in parentheses, may hold anything.
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim().chars().next());
    let functions: Vec<&str> = stack
        .lines()
        .filter_map(|line| line.split_once("] ")?.1.split('+').next())
        .take(DEPTH)
        .collect();
    let place = match (state, functions.as_slice()) {
        (Some('R'), _) => "runs".to_owned(),
        (_, []) => "sleeps".to_owned(),
        (_, functions) => format!("sleeps in {}", functions.join(" < ")),
    };
    format!("{pid} {argv:.60}: {place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_where_in_the_kernel_a_process_sleeps() {
        let stack = "[<0>] hrtimer_nanosleep+0x9c/0x120\n[<0>] __x64_sys_nanosleep+0x8d/0xc0\n";
        assert_eq!(
            line(97, b"sleep\x001000\0", "97 (a) b) S 1 97", stack),
            "97 sleep 1000: sleeps in hrtimer_nanosleep < __x64_sys_nanosleep"
        );
        assert_eq!(line(98, b"spin\0", "98 (spin) R 1", ""), "98 spin: runs");
    }
}
