//! The kernel's log as it comes over the serial line: its lines, and those that say that something broke.

use serde::Deserialize;

use crate::job::INIT_FAILED;

/// A line after which the guest is dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    /// `Kernel panic - not syncing: ...`, without an oops before it.
    Panic(String),
    /// The kernel ran into a fault of its own; with `oops=panic`, a panic follows.
    Oops(String),
}

/// A complaint of the kernel's that should have an entry here, with the reason why it is no failure.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// A part of the complaint's line.
    pub text: String,
    /// Why it may appear.
    pub reason: String,
    /// The taint flags that the kernel sets when it complains like that.
    #[serde(default)]
    pub taint: u64,
}

const PANIC: &str = "Kernel panic - not syncing";

/// The last that a kernel says which powers off (`kernel_power_off()` in `kernel/reboot.c`).
const LAST: &str = "reboot: Power down";

/// How messages of an oops begin (`arch/x86/mm/fault.c`, `arch/x86/kernel/traps.c`, `lib/bug.c`).
const OOPSES: &[&str] = &[
    "BUG: kernel NULL pointer dereference",
    "BUG: unable to handle page fault",
    "BUG: unable to handle kernel",
    "BUG: supervisor ",
    "kernel BUG at ",
    "Oops: ",
    "general protection fault",
    "invalid opcode: ",
    "divide error: ",
    "stack segment: ",
    "double fault: ",
    "int3: ",
];

/// How messages begin that report a broken rule without ending the kernel.
const SPLATS: &[&str] = &[
    "WARNING: ",        // WARN(), lockdep, suspicious RCU usage
    "BUG: ", // KASAN, KFENCE, bad page state, sleeping in atomic context, workqueue lockup
    "BUG ",  // SLUB, of an object or a cache
    "watchdog: BUG: ", // soft and hard lockups
    "INFO: task ", // hung task
    "INFO: possible ", // lockdep of older kernels
    "INFO: trying to ", // lockdep: a lock that nobody initialised
    "rcu: INFO: ", // RCU stall
    "refcount_t: ", // use after free, underflow, saturation
    "UBSAN: ", // undefined behaviour
    "list_add ", // DEBUG_LIST
    "list_del ",
    "page_table_check: ",
    "pagealloc: ", // PAGE_POISONING, of a free page that was written to
    "kmemleak: ",
    "usercopy: Kernel memory ",
    "DEBUG_LOCKS_WARN_ON",
];

/// Messages that begin as a splat does, and are none.
const HARMLESS: &[&str] = &[
    "kmemleak: Kernel memory leak detector initialized",
    "kmemleak: Automatic memory scanning thread started",
    "kmemleak: Kernel memory leak detector disabled",
];

/// The kernel's message in a console line: without the carriage return, time and caller.
///
/// `[    1.667435] [    T63] text`, where the second bracket depends on `CONFIG_PRINTK_CALLER`.
#[must_use]
pub fn message(line: &str) -> &str {
    let mut rest = line.trim_end_matches('\r');
    while let Some((prefix, after)) = rest
        .strip_prefix('[')
        .and_then(|inner| inner.split_once(']'))
    {
        let stamp = prefix.trim_start();
        let is_time = stamp.contains('.')
            && stamp
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.');
        let is_caller = stamp
            .strip_prefix(['T', 'C'])
            .is_some_and(|id| id.bytes().all(|b| b.is_ascii_digit()));
        if !is_time && !is_caller {
            break;
        }
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    rest
}

/// Whether a line says that the guest is dead.
#[must_use]
pub fn death_in(line: &str) -> Option<Death> {
    let message = message(line);
    if message.starts_with(PANIC) {
        return Some(Death::Panic(message.to_owned()));
    }
    begins_with(message, OOPSES).then(|| Death::Oops(message.to_owned()))
}

/// The first death of a console. An oops explains the panic that follows it, not the other way round.
#[must_use]
pub fn death(console: &str) -> Option<Death> {
    console.lines().find_map(death_in)
}

/// What `init` says it failed at, if it does.
#[must_use]
pub fn init_failure(console: &str) -> Option<&str> {
    console
        .lines()
        .find_map(|line| message(line).strip_prefix(INIT_FAILED))
}

/// Whether the console of a guest that has powered off is there to its end: what is cut off may be a complaint.
#[must_use]
pub fn is_whole(console: &str) -> bool {
    let lines = console.split_inclusive('\n');
    lines
        .filter_map(|line| line.strip_suffix('\n'))
        .any(|line| message(line) == LAST)
}

/// The first complaint, up to the line that says that the guest is dead, if there is one: what is broken may well have
/// been seen to break.
#[must_use]
pub fn first_complaint<'a>(console: &'a str, allowed: &[Allowance]) -> Option<&'a str> {
    let lines = console.lines();
    let mut alive = lines.take_while(|line| death_in(line).is_none());
    alive.find_map(|line| splats(line, allowed).first().copied())
}

/// The lines that report a broken rule, but for those that are allowed.
#[must_use]
pub fn splats<'a>(console: &'a str, allowed: &[Allowance]) -> Vec<&'a str> {
    console
        .lines()
        .map(message)
        .filter(|message| begins_with(message, SPLATS) && !begins_with(message, HARMLESS))
        .filter(|message| {
            !allowed
                .iter()
                .any(|allowance| message.contains(&allowance.text))
        })
        .collect()
}

/// The taint flags of those complaints that are there and allowed.
#[must_use]
pub fn allowed_taint(console: &str, allowed: &[Allowance]) -> u64 {
    let there = allowed
        .iter()
        .filter(|allowance| console.lines().any(|line| line.contains(&allowance.text)));
    there.fold(0, |flags, allowance| flags | allowance.taint)
}

/// The last lines of a console, for an error message.
#[must_use]
pub fn tail(console: &str, nr_lines: usize) -> String {
    let lines: Vec<&str> = console
        .lines()
        .map(|line| line.trim_end_matches('\r'))
        .collect();
    lines[lines.len().saturating_sub(nr_lines)..].join("\n")
}

fn begins_with(message: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| message.starts_with(prefix))
}

/// A console that is being read: keeps everything, and notices death as soon as its line is complete.
#[derive(Debug, Default)]
pub struct Console {
    bytes: Vec<u8>,
    judged: usize,
    death: Option<Death>,
}

impl Console {
    /// Takes what was read.
    pub fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        while let Some(len) = self.bytes[self.judged..]
            .iter()
            .position(|&byte| byte == b'\n')
        {
            let line = String::from_utf8_lossy(&self.bytes[self.judged..self.judged + len]);
            if self.death.is_none() {
                self.death = death_in(&line);
            }
            self.judged += len + 1;
        }
    }

    /// Whether the guest is dead.
    #[must_use]
    pub fn death(&self) -> Option<&Death> {
        self.death.as_ref()
    }

    /// Everything so far, with plain ends of lines. What is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).replace("\r\n", "\n")
    }
}
