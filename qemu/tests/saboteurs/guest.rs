//! Programs and inits of the guest that come to a bad end, or spoil the results.

use std::time::Duration;

use lab::job::{Ending, KTAP_PATH};
use lab::machine::QemuProgram;
use lab::outcome::Outcome;

use crate::bench::{Sabotage, assert_ends};

/// A program that writes `text` as its results, and ends with `status`.
fn results(text: &str, status: u8) -> Outcome {
    let script = format!("printf '{text}' > {KTAP_PATH}; exit {status}");
    Sabotage::of_results(&script).run()
}

#[test]
fn good_results_pass() {
    let outcome = results("KTAP version 1\\n1..2\\nok 1 a\\nok 2 b\\n", 0);
    assert_ends(&outcome, 0, &["passed: 2 as expected"]);
}

#[test]
fn a_result_that_is_not_as_expected() {
    let outcome = results("KTAP version 1\\n1..2\\nok 1 a\\nnot ok 2 b\\n", 1);
    assert_ends(&outcome, 1, &["failed: 1 of 2", ": b"]);
}

#[test]
fn results_that_are_all_skipped() {
    let outcome = results("KTAP version 1\\n1..1\\nok 1 a # SKIP no device\\n", 4);
    assert_ends(&outcome, 4, &["skipped: all 1"]);
}

#[test]
fn no_results_although_they_were_promised() {
    assert_ends(&Sabotage::of_results("true").run(), 10, &["no tests"]);
}

#[test]
fn fewer_results_than_planned() {
    let outcome = results("KTAP version 1\\n1..3\\nok 1 a\\nok 2 b\\n", 0);
    assert_ends(&outcome, 11, &["3 were planned, 2 came"]);
}

#[test]
fn results_cut_in_the_middle_of_a_line() {
    let outcome = results("KTAP version 1\\n1..3\\nok 1 a\\nok 2", 0);
    assert_ends(&outcome, 12, &["line 4: cut off in the middle of a line"]);
}

#[test]
fn results_that_are_none() {
    let outcome = results("all tests passed!\\n", 0);
    assert_ends(&outcome, 12, &["unparsable results: line 1"]);
}

#[test]
fn good_results_of_a_program_that_fails() {
    let outcome = results("KTAP version 1\\n1..1\\nok 1 a\\n", 7);
    assert_ends(&outcome, 13, &["sh exited with 7"]);
}

#[test]
fn a_program_that_is_not_there() {
    let mut sabotage = Sabotage::of_programs("true");
    let program = lab::job::Program::new(["/no/such/program"]);
    sabotage.job.work = lab::job::Work::Programs(vec![program]);
    assert_ends(&sabotage.run(), 14, &["not started: /no/such/program"]);
}

#[test]
fn a_program_that_hangs() {
    let mut sabotage = Sabotage::of_programs("exec sleep 1000000");
    sabotage.deadlines.program = Some(Duration::from_secs(2));
    assert_ends(&sabotage.run(), 36, &["timed out during program 1"]);
}

#[test]
fn a_program_that_resets_the_machine() {
    let outcome = Sabotage::of_programs("echo b > /proc/sysrq-trigger").run();
    assert_ends(
        &outcome,
        34,
        &["ended by itself during program 1", "guest-reset"],
    );
}

#[test]
fn an_init_that_dies() {
    let outcome = Sabotage::of_init("exit 3").run();
    assert_ends(&outcome, 31, &["died in boot", "Attempted to kill init"]);
}

#[test]
fn an_init_that_powers_off_at_once() {
    let outcome = Sabotage::of_init("poweroff -f").run();
    assert_ends(&outcome, 31, &["died in boot, without a word"]);
}

#[test]
fn an_init_that_never_gets_ready() {
    let mut sabotage = Sabotage::of_init("exec sleep 1000000");
    sabotage.deadlines.boot = Duration::from_secs(15);
    assert_ends(&sabotage.run(), 36, &["timed out during boot"]);
}

#[test]
fn an_init_that_cannot_do_its_work() {
    let say = say(&[r#"{"event":"failed","why":"no more ideas"}"#, DOWN]);
    let outcome = Sabotage::of_init(&format!("{say} read bye; poweroff -f")).run();
    assert_ends(&outcome, 30, &["init failed: no more ideas"]);
}

#[test]
fn an_init_that_talks_nonsense() {
    let say = say(&["all is well", DOWN]);
    let outcome = Sabotage::of_init(&format!("{say} read bye; poweroff -f")).run();
    assert_ends(&outcome, 30, &["init failed: it said", "all is well"]);
}

/// `init`'s words of a run that went well.
const DOWN: &str = r#"{"event":"down","taint":12288}"#;
const WELL: [&str; 5] = [
    r#"{"event":"ready","release":"7","uptime_ms":1,"taint":0}"#,
    r#"{"event":"module-loaded"}"#,
    r#"{"event":"started","program":0}"#,
    r#"{"event":"exited","program":0,"code":0}"#,
    r#"{"event":"module-unloaded"}"#,
];

/// A shell script that says these events, with the control port as its standard input and output.
fn say(events: &[&str]) -> String {
    let mut script = String::from(
        "mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev\n\
         port=; until [ \"$port\" ]; do port=$(grep -l '^lab.control$' \
         /sys/class/virtio-ports/*/name 2> /dev/null); done\n\
         port=${port%/name}; exec <> /dev/${port##*/} >&0\n",
    );
    for event in events {
        script.extend(["echo '", event, "'\n"]);
    }
    script
}

#[test]
fn output_that_is_cut_off_by_the_guest() {
    let mut events = WELL.to_vec();
    events.push(DOWN);
    let script = say(&events) + "poweroff -f";
    assert_ends(&Sabotage::of_init(&script).run(), 15, &["output lost"]);
}

#[test]
fn output_that_never_arrives() {
    let mut events = WELL.to_vec();
    events.push(DOWN);
    let mut sabotage = Sabotage::of_init(&(say(&events) + "read bye"));
    sabotage.deadlines.drain = Duration::from_secs(2);
    assert_ends(
        &sabotage.run(),
        36,
        &["timed out during the end of the output"],
    );
}

#[test]
fn a_module_that_cannot_be_unloaded() {
    let refused =
        r#"{"event":"unload-refused","errno":11,"text":"Resource temporarily unavailable"}"#;
    let mut events = WELL.to_vec();
    events[2] = refused;
    events.truncate(3);
    events.push(DOWN);
    let mut sabotage = Sabotage::of_init(&(say(&events) + "read bye; poweroff -f"));
    sabotage.job.work = lab::job::Work::Programs(Vec::new());
    assert_ends(&sabotage.run(), 25, &["rmmod refused: Resource"]);
}

#[test]
fn a_module_that_leaves_no_trace_in_the_taint_flags() {
    let events = [WELL[0], WELL[1], WELL[4], r#"{"event":"down","taint":0}"#];
    let mut sabotage = Sabotage::of_init(&(say(&events) + "read bye; poweroff -f"));
    sabotage.job.work = lab::job::Work::Programs(Vec::new());
    assert_ends(&sabotage.run(), 22, &["kernel not tainted"]);
}

#[test]
fn a_guest_that_ends_before_its_power_is_cut() {
    let mut sabotage =
        Sabotage::of_init(&(say(&[WELL[0], WELL[1], DOWN]) + "read bye; poweroff -f"));
    sabotage.job.work = lab::job::Work::Programs(Vec::new());
    sabotage.job.ending = Ending::PowerCut;
    assert_ends(&sabotage.run(), 26, &["power not cut"]);
}

#[test]
fn a_kernel_that_is_tainted_by_something_else() {
    // TAINT_USER, which a process may set: a machine that was tampered with.
    let outcome = Sabotage::of_programs("echo 64 > /proc/sys/kernel/tainted").run();
    assert_ends(&outcome, 21, &["unexpected flags 0x40"]);
}

#[test]
fn a_guest_that_does_not_power_off() {
    let events = [WELL[0], WELL[1], WELL[4], DOWN];
    let mut sabotage = Sabotage::of_init(&(say(&events) + "exec tail -f /dev/null"));
    sabotage.job.work = lab::job::Work::Programs(Vec::new());
    sabotage.deadlines.power_off = Duration::from_secs(2);
    assert_ends(&sabotage.run(), 36, &["timed out during power-off"]);
}

/// Not QEMU, but what is started in its place.
fn in_place_of_qemu(argv: &[&str]) -> Sabotage {
    let mut sabotage = Sabotage::of_programs("true");
    sabotage.machine.qemu = QemuProgram {
        argv_prefix: argv.iter().map(Into::into).collect(),
        env: Vec::new(),
    };
    sabotage
}

#[test]
fn a_qemu_that_never_starts() {
    let mut sabotage = in_place_of_qemu(&["sh", "-c", "exec tail -f /dev/null"]);
    sabotage.deadlines.start = Duration::from_secs(1);
    assert_ends(&sabotage.run(), 36, &["timed out during QEMU's start"]);
}

#[test]
fn a_qemu_that_gives_up() {
    let outcome = in_place_of_qemu(&["sh", "-c", "exit 1"]).run();
    assert_ends(&outcome, 35, &["QEMU gave up with status 1"]);
}
