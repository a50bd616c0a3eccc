//! Modules and kernels that come to a bad end.

use std::time::Duration;

use crate::bench::{DEATH, Sabotage, assert_ends};

/// Numbers of the rules in `module/driver/mmapdemo.rs`.
const REFUSE: u32 = 1;
const PANIC: u32 = 2;
const WARN: u32 = 3;
const LEAK: u32 = 4;
const HANG_IN_INIT: u32 = 5;
const HANG_IN_EXIT: u32 = 6;
const BLOCK: u32 = 7;
const MISCOUNT: u32 = 8;
const SLEEP_IN_ATOMIC: u32 = 9;

#[test]
fn a_module_that_breaks_no_rule_passes() {
    assert_ends(&Sabotage::of_module(0).run(), 0, &["completed"]);
}

#[test]
fn a_panic_of_the_kernel() {
    let (outcome, after) =
        Sabotage::of_programs("echo now; echo c > /proc/sysrq-trigger").run_timed();
    let parts = ["kernel panicked during program 1", "sysrq triggered crash"];
    assert_ends(&outcome, 32, &parts);
    assert!(after.unwrap() < DEATH, "{after:?} after its death");
}

#[test]
fn a_module_that_panics() {
    let outcome = Sabotage::of_module(PANIC).run();
    assert_ends(
        &outcome,
        33,
        &["kernel oopsed during insmod", "kernel BUG at"],
    );
}

#[test]
fn a_module_that_warns() {
    let outcome = Sabotage::of_module(WARN).run();
    assert_ends(&outcome, 20, &["kernel complained 1 times: WARNING: "]);
}

#[test]
fn a_module_that_miscounts_references() {
    let outcome = Sabotage::of_module(MISCOUNT).run();
    assert_ends(&outcome, 20, &["kernel complained", "refcount_t: "]);
}

#[test]
fn a_module_that_sleeps_with_a_spinlock() {
    let outcome = Sabotage::of_module(SLEEP_IN_ATOMIC).run();
    assert_ends(&outcome, 20, &["BUG: scheduling while atomic"]);
}

#[test]
fn a_module_that_blocks_a_task() {
    let mut sabotage = Sabotage::of_module(BLOCK);
    let timeout = "sysctl.kernel.hung_task_timeout_secs=1";
    sabotage.machine.extra_cmdline.push(timeout.into());
    assert_ends(
        &sabotage.run(),
        20,
        &["INFO: task ", "blocked for more than"],
    );
}

#[test]
fn a_module_that_leaks() {
    let outcome = Sabotage::of_module(LEAK).run();
    assert_ends(&outcome, 23, &["memory leaked: "]);
}

#[test]
fn a_module_that_leaks_and_is_unloaded_by_a_program() {
    let mut sabotage = Sabotage::of_module(LEAK);
    sabotage.job.work = Sabotage::of_programs("rmmod mmapdemo").job.work;
    assert_ends(&sabotage.run(), 23, &["memory leaked: "]);
}

#[test]
fn a_module_that_hangs_in_init() {
    let mut sabotage = Sabotage::of_module(HANG_IN_INIT);
    sabotage.deadlines.load = Duration::from_secs(3);
    assert_ends(&sabotage.run(), 36, &["timed out during insmod"]);
}

#[test]
fn a_module_that_hangs_in_exit() {
    let mut sabotage = Sabotage::of_module(HANG_IN_EXIT);
    sabotage.deadlines.unload = Duration::from_secs(3);
    assert_ends(&sabotage.run(), 36, &["timed out during rmmod"]);
}

#[test]
fn a_module_that_refuses_to_load() {
    let outcome = Sabotage::of_module(REFUSE).run();
    assert_ends(&outcome, 24, &["insmod refused", "busy"]);
}

#[test]
fn a_file_that_is_no_module() {
    let mut sabotage = Sabotage::of_programs("true");
    sabotage.files = vec![lab::initramfs::GuestFile::data(
        lab::job::MODULE_PATH,
        "no module",
    )];
    let outcome = sabotage.run();
    assert_ends(&outcome, 24, &["insmod refused", "Exec format error"]);
}
