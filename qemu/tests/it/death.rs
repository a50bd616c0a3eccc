//! How the death of a guest's kernel is told.

use lab::console::Allowance;
use lab::outcome::{End, Outcome};
use lab::phase::Phase;

use crate::run::{Run, reset};
use crate::saved::saved;

#[test]
fn death_explains_everything_else() {
    let oops = "BUG: kernel NULL pointer dereference, address: 0000000000000008".to_owned();
    let panic = "Kernel panic - not syncing: sysrq triggered crash".to_owned();
    let phase = Phase::Program(0);
    let qemu_gave_up = End::QemuExited {
        failure: Some("gave up with status 1".into()),
        reason: None,
    };
    for end in [reset(), End::Dead, End::TimedOut, qemu_gave_up] {
        let outcome = Run::ended(end.clone(), "oops-in-insmod.log").outcome();
        assert_eq!(
            outcome,
            Outcome::Oopsed {
                line: oops.clone(),
                before: None,
                phase: phase.clone()
            },
            "{end:?}"
        );
        let outcome = Run::ended(end.clone(), "panic.log").outcome();
        assert_eq!(
            outcome,
            Outcome::Panicked {
                line: panic.clone(),
                before: None,
                phase: phase.clone()
            },
            "{end:?}"
        );
    }
}

#[test]
fn the_first_complaint_before_a_death_is_told() {
    let outcome = Run::ended(End::Dead, "use-after-free.log").outcome();
    let Outcome::Oopsed { line, before, .. } = &outcome else {
        panic!("{outcome}");
    };
    assert!(line.starts_with("Oops: general protection fault"));
    let seen = "BUG: KASAN: slab-use-after-free in rust_helper_refcount_inc+0x12/0x40";
    assert_eq!(before.as_deref(), Some(seen));
    assert!(
        outcome
            .to_string()
            .ends_with(&format!("; before that: {seen}"))
    );
}

#[test]
fn the_first_complaint_of_a_guest_that_hangs_is_told() {
    let console = "[    9.1] mmapdemo: loading\n[  140.2] INFO: task insmod:71 blocked for more than 120 seconds.\n";
    let mut run = Run::ended(End::TimedOut, "clean-7.3.log");
    run.phase = Phase::Load;
    assert_eq!(run.outcome().to_string(), "timed out during insmod");
    run.console = console.into();
    assert_eq!(
        run.outcome().to_string(),
        "timed out during insmod; before that: INFO: task insmod:71 blocked for more than 120 seconds."
    );
}

#[test]
fn the_first_complaint_of_a_guest_that_resets_is_told() {
    let mut run = Run::ended(reset(), "clean-7.3.log");
    assert_eq!(
        run.outcome().to_string(),
        "guest ended by itself during program 1 (guest-reset), without a word"
    );
    let complaint = "BUG: Bad page map in process mmapdemo-actor  pte:80000000063ab027";
    run.console.push_str("[    4.3] ");
    run.console.push_str(complaint);
    run.console.push('\n');
    assert_eq!(
        run.outcome().to_string(),
        format!("guest ended by itself during program 1 (guest-reset); before that: {complaint}")
    );
}

#[test]
fn a_complaint_that_is_allowed_explains_no_death() {
    let console = "[    1.0] WARNING: one\n[    1.1] BUG kmalloc-64 (Tainted: G): Object already free\n\
        [    1.2] pagealloc: memory corruption\n[    1.3] Oops: general protection fault\n[    1.4] WARNING: late\n";
    let mut run = Run::ended(End::Dead, "panic.log");
    run.console = console.into();
    let before = |run: &Run| match run.outcome() {
        Outcome::Oopsed { before, .. } => before,
        outcome => panic!("{outcome}"),
    };
    let complaints = [
        "WARNING: one",
        "BUG kmalloc-64 (Tainted: G): Object already free",
        "pagealloc: memory corruption",
    ];
    for complaint in complaints {
        assert_eq!(before(&run).as_deref(), Some(complaint));
        run.allowed.push(Allowance {
            text: complaint.into(),
            reason: "asked for".into(),
            taint: 0,
        });
    }
    assert_eq!(before(&run), None);
}

#[test]
fn death_during_power_off_is_no_pass() {
    let console = saved("clean-7.3.log") + &saved("panic.log");
    assert!(matches!(
        Run {
            console,
            ..Run::good()
        }
        .outcome(),
        Outcome::Panicked { .. }
    ));
}

#[test]
fn death_before_init_is_ready_is_a_death_in_boot() {
    let mut run = Run::ended(reset(), "no-init.log");
    run.events.clear();
    assert!(matches!(
        run.outcome(),
        Outcome::DiedInBoot { line: Some(_) }
    ));
    run.console = String::new();
    assert_eq!(run.outcome(), Outcome::DiedInBoot { line: None });
    run.end = End::TimedOut;
    run.phase = Phase::Boot;
    let phase = Phase::Boot;
    assert_eq!(
        run.outcome(),
        Outcome::TimedOut {
            phase,
            before: None
        }
    );
}
