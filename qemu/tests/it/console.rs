//! What the console says about the guest's health.

use lab::console::{Allowance, Console, Death, death, message, splats, tail};

use crate::saved::saved;

const DEADLY: &[&str] = &[
    "bug-in-insmod.log",
    "no-init.log",
    "oops-in-insmod.log",
    "panic-in-insmod.log",
    "panic.log",
];
const ALIVE: &[&str] = &[
    "clean-7.2.log",
    "clean-7.3.log",
    "hung-task.log",
    "warn-in-insmod.log",
    "wrong-release.log",
];

#[test]
fn clean_boots_have_neither_death_nor_splat() {
    for name in ["clean-7.2.log", "clean-7.3.log", "wrong-release.log"] {
        assert_eq!(death(&saved(name)), None, "{name}");
        assert_eq!(splats(&saved(name), &[]), Vec::<&str>::new(), "{name}");
    }
}

#[test]
fn panic_is_told_from_oops() {
    let panic = |line: &str| Some(Death::Panic(line.to_owned()));
    let oops = |line: &str| Some(Death::Oops(line.to_owned()));
    let expected = [
        (
            "panic.log",
            panic("Kernel panic - not syncing: sysrq triggered crash"),
        ),
        (
            "panic-in-insmod.log",
            panic("Kernel panic - not syncing: mmapdemo: on request"),
        ),
        (
            "no-init.log",
            panic("Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"),
        ),
        (
            "oops-in-insmod.log",
            oops("BUG: kernel NULL pointer dereference, address: 0000000000000008"),
        ),
        ("bug-in-insmod.log", oops("kernel BUG at mmapdemo.c:11!")),
    ];
    for (name, death_in_it) in expected {
        assert_eq!(death(&saved(name)), death_in_it, "{name}");
    }
}

#[test]
fn warning_and_hung_task_are_splats_but_no_death() {
    let log = saved("warn-in-insmod.log");
    assert_eq!(death(&log), None);
    let lines = splats(&log, &[]);
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("WARNING: mmapdemo.c:9 at boom_init"),
        "{lines:?}"
    );

    let log = saved("hung-task.log");
    assert_eq!(death(&log), None);
    assert_eq!(splats(&log, &[]).len(), 3);
}

#[test]
fn taint_by_the_module_itself_is_no_splat() {
    let log = saved("clean-7.3.log");
    assert!(log.contains("mmapdemo: loading out-of-tree module taints kernel."));
    assert!(log.contains("mmapdemo: module verification failed"));
    assert!(splats(&log, &[]).is_empty());
}

/// One line of each report, as the kernel's documentation or source has it.
#[test]
fn every_kind_of_splat_is_known() {
    for line in [
        "[    5.1] BUG: KASAN: slab-out-of-bounds in kmalloc_oob_right+0xa8/0xbc [kasan_test]",
        "[    5.1] BUG: KFENCE: use-after-free read in test_use_after_free_read+0xb3/0x143",
        "[    5.1] BUG: Bad page state in process mmapdemo  pfn:01234",
        "[    5.1] BUG: sleeping function called from invalid context at mm/memory.c:1",
        "[    5.1] WARNING: possible circular locking dependency detected",
        "[    5.1] WARNING: suspicious RCU usage",
        "[    5.1] refcount_t: underflow; use-after-free.",
        "[    5.1] UBSAN: array-index-out-of-bounds in mm/mmap.c:1:2",
        "[    5.1] watchdog: BUG: soft lockup - CPU#1 stuck for 23s! [mmapdemo:70]",
        "[    5.1] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "[    5.1] INFO: task init:1 blocked for more than 10 seconds.",
        "[    5.1] list_add corruption. prev->next should be next (1), but was 2. (prev=3).",
        "[    5.1] kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        "[    5.1] usercopy: Kernel memory exposure attempt detected from SLUB object!",
    ] {
        assert_eq!(splats(line, &[]).len(), 1, "{line}");
    }
}

#[test]
fn only_a_complaint_at_the_beginning_of_a_message_counts() {
    let line = "[    0.1] mmapdemo: the text `WARNING: ` or `Oops: ` or `Kernel panic - not syncing` in a message\n";
    assert_eq!((death(line), splats(line, &[]).len()), (None, 0));
}

#[test]
fn allowed_complaint_is_not_reported() {
    let allowed = [Allowance {
        text: "boom_init".into(),
        reason: "asked for".into(),
        taint: 0,
    }];
    assert!(splats(&saved("warn-in-insmod.log"), &allowed).is_empty());
}

#[test]
fn message_is_what_stands_behind_time_and_caller() {
    for (line, text) in [
        ("[    1.667435] mmapdemo: hello", "mmapdemo: hello"),
        (
            "[    1.667435][    T1] mmapdemo: hello\r",
            "mmapdemo: hello",
        ),
        ("[12345.667435] [   C0]   indented", "  indented"),
        ("[not a time] text", "[not a time] text"),
        ("init: failed", "init: failed"),
        ("", ""),
    ] {
        assert_eq!(message(line), text);
    }
}

#[test]
fn death_is_noticed_at_the_end_of_its_line_however_it_is_cut() {
    for name in DEADLY {
        let log = saved(name);
        let first = log
            .lines()
            .position(|line| lab::console::death_in(line).is_some())
            .unwrap();
        let before: usize = log.split_inclusive('\n').take(first).map(str::len).sum();
        let line = log.split_inclusive('\n').nth(first).unwrap();
        let mut console = Console::default();
        console.push(&log.as_bytes()[..before]);
        for byte in &line.as_bytes()[..line.len() - 1] {
            console.push(&[*byte]);
            assert_eq!(console.death(), None, "{name}");
        }
        console.push(b"\n");
        assert!(console.death().is_some(), "{name}");
    }
}

#[test]
fn console_that_is_alive_stays_so_to_its_end() {
    for name in ALIVE {
        let mut console = Console::default();
        for chunk in saved(name).as_bytes().chunks(7) {
            console.push(chunk);
        }
        assert_eq!(console.death(), None, "{name}");
        assert_eq!(console.text(), saved(name), "{name}");
    }
}

#[test]
fn text_has_plain_ends_of_lines_and_survives_noise() {
    let mut console = Console::default();
    console.push(b"one\r\ntwo\xff\r\n");
    assert_eq!(console.text(), "one\ntwo\u{fffd}\n");
}

#[test]
fn tail_is_the_last_lines() {
    assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
    assert_eq!(tail("a\n", 2), "a");
    assert_eq!(tail("", 2), "");
}
