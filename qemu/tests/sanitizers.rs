//! What the debug kernel is for: mistakes that a stock kernel lets pass, made on it in a real guest.
//!
//! Uses the cache that `lab` itself uses, and fills it if need be, which takes half an hour.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what helps a test may panic as the test may"
)]

#[path = "saboteurs/bench.rs"]
#[expect(
    dead_code,
    reason = "it is made for the saboteurs, which do more with it"
)]
mod bench;

use bench::{Sabotage, assert_ends};

/// Which kernel the guests have.
const KERNEL: &str = "debug";

/// Numbers of the rules in `saboteurs/module/driver/mmapdemo.rs`.
const SLEEP_IN_ATOMIC: u32 = 9;
const FORGET: u32 = 10;
const LOCK_BOTH_WAYS: u32 = 11;
const OVERFLOW: u32 = 12;

#[test]
fn a_module_that_breaks_no_rule_passes() {
    assert_ends(&Sabotage::of_module(0).run(), 0, &["completed"]);
}

#[test]
fn one_object_of_64_bytes_that_is_forgotten() {
    let outcome = Sabotage::of_module(FORGET).run();
    assert_ends(
        &outcome,
        27,
        &["objects leaked", "unreferenced object", "(size 64)"],
    );
}

#[test]
fn locks_in_an_order_that_can_deadlock_and_did_not() {
    let outcome = Sabotage::of_module(LOCK_BOTH_WAYS).run();
    assert_ends(
        &outcome,
        20,
        &["possible circular locking dependency detected"],
    );
}

#[test]
fn sleep_in_atomic_context_before_it_comes_to_scheduling() {
    let outcome = Sabotage::of_module(SLEEP_IN_ATOMIC).run();
    assert_ends(&outcome, 20, &["BUG: "]);
}

#[test]
fn an_addition_that_overflows() {
    let outcome = Sabotage::of_module(OVERFLOW).run();
    assert_ends(&outcome, 33, &["kernel oopsed during insmod"]);
}

#[test]
fn memory_that_is_used_after_it_was_freed() {
    let fork = "mmapdemo run shared-fork-inherits; cat /dev/mmapdemo";
    let outcome = Sabotage::of_mutant("08-fork-not-counted", fork).run();
    // What was freed holds other bytes by now, and some of them are taken for a pointer.
    let seen = "; before that: BUG: KASAN: slab-use-after-free in ";
    assert_ends(&outcome, 33, &[seen]);
}
