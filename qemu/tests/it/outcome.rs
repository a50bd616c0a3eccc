//! The judgement over everything that was seen of a run.

use lab::console::Allowance;
use lab::job::{Ending, Event, Program, Refusal, Shell, WindowSize, Work};
use lab::outcome::{End, Outcome};
use lab::output::Closed;
use lab::phase::Phase;

use crate::run::{OUR_TAINT, Run, reset};
use crate::saved::saved;

/// The flag of a WARNING (`TAINT_WARN`).
const WARNED: u64 = 1 << 9;

fn refusal() -> Refusal {
    Refusal {
        errno: 8,
        text: "Exec format error (os error 8)".into(),
    }
}

#[test]
fn good_run_passes() {
    assert_eq!(
        Run::good().outcome(),
        Outcome::Passed {
            passed: 3,
            skipped: 1
        }
    );
}

#[test]
fn run_without_promised_results_completes_whatever_its_program_says() {
    let mut run = Run::without_results();
    assert_eq!(run.outcome(), Outcome::Completed);
    run.events[3] = Event::Signaled {
        program: 0,
        signal: 11,
    };
    assert_eq!(run.outcome(), Outcome::Completed);
}

#[test]
fn results_decide_when_the_lab_worked() {
    let failed = vec!["private-write-is-invisible".to_owned()];
    let cut =
        "line 5: cut off in the middle of a line: \"ok 2 private-write-is-invisib\"".to_owned();
    for (name, outcome) in [
        ("not-ok.ktap", Outcome::Failed { failed, total: 3 }),
        ("all-skipped.ktap", Outcome::Skipped { skipped: 2 }),
        (
            "fewer-than-planned.ktap",
            Outcome::MissingTests {
                planned: 4,
                seen: 2,
            },
        ),
        ("cut-off.ktap", Outcome::Unparsable { why: cut }),
    ] {
        let run = Run {
            ktap: saved(name),
            ..Run::good()
        };
        assert_eq!(run.outcome(), outcome, "{name}");
    }
    for ktap in ["", "KTAP version 1\n1..0\n"] {
        assert_eq!(
            Run {
                ktap: ktap.into(),
                ..Run::good()
            }
            .outcome(),
            Outcome::NoTests
        );
    }
}

#[test]
fn objects_that_nothing_points_to_are_leaked_whatever_else_was_seen() {
    let mut run = Run::good();
    let scanned = |unreferenced| Event::Scanned {
        unreferenced,
        report: "unreferenced object 0xffff88800389c000 (size 64):".into(),
    };
    run.events.insert(5, scanned(0));
    assert!(matches!(run.outcome(), Outcome::Passed { .. }));
    run.events[5] = scanned(2);
    // The kernel counts them on the console, too.
    run.console.push_str(
        "[   20.1] kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)\n",
    );
    let outcome = run.outcome();
    assert_eq!(outcome.exit_code().number(), 27);
    let said = outcome.to_string();
    assert!(
        said.starts_with("objects leaked: nothing points to 2 of them; unreferenced object "),
        "{said}"
    );
}

#[test]
fn no_beginning_of_good_results_passes() {
    let whole = saved("all-ok.ktap");
    for len in 0..whole.len() {
        let outcome = Run {
            ktap: whole[..len].into(),
            ..Run::good()
        }
        .outcome();
        assert!(
            matches!(
                outcome,
                Outcome::NoTests | Outcome::MissingTests { .. } | Outcome::Unparsable { .. }
            ),
            "{len}: {outcome}"
        );
    }
}

#[test]
fn no_beginning_of_a_good_console_passes() {
    for name in ["clean-7.2.log", "clean-7.3.log"] {
        let whole = saved(name);
        // The end of each line, and the last line byte by byte; `hostile` cuts anywhere.
        let ends = whole.match_indices('\n').map(|(end, _)| end + 1);
        let last = whole.len() - "reboot: Power down\n".len()..whole.len();
        for len in ends.chain(last).filter(|&len| len < whole.len()) {
            let console = whole[..len].to_owned();
            let run = Run {
                console,
                ..Run::good()
            };
            assert_eq!(run.outcome(), Outcome::OutputLost, "{name}, {len} bytes");
        }
    }
}

#[test]
fn a_complaint_explains_a_console_that_is_cut_off() {
    let console = "[    1.0] WARNING: mm/memory.c:1 at f\n".to_owned();
    let run = Run {
        console,
        ..Run::good()
    };
    assert!(matches!(run.outcome(), Outcome::Splat { .. }));
}

#[test]
fn no_beginning_of_good_events_passes() {
    for mut run in [Run::good(), Run::without_results()] {
        while run.events.pop().is_some() {
            let outcome = run.outcome();
            assert!(
                matches!(
                    outcome,
                    Outcome::Vanished { .. } | Outcome::DiedInBoot { .. }
                ),
                "{:?}: {outcome}",
                run.events
            );
        }
    }
}

#[test]
fn status_that_belies_good_results_is_no_pass() {
    for (event, passes) in [
        (
            Event::Exited {
                program: 0,
                code: 0,
            },
            true,
        ),
        (
            Event::Exited {
                program: 0,
                code: 1,
            },
            false,
        ),
        (
            Event::Exited {
                program: 0,
                code: 70,
            },
            false,
        ),
        (
            Event::Signaled {
                program: 0,
                signal: 11,
            },
            false,
        ),
    ] {
        let mut run = Run::good();
        run.events[3] = event.clone();
        let outcome = run.outcome();
        assert_eq!(
            matches!(outcome, Outcome::Passed { .. }),
            passes,
            "{event:?}: {outcome}"
        );
        assert_eq!(
            matches!(outcome, Outcome::Contradicted { .. }),
            !passes,
            "{event:?}: {outcome}"
        );
    }
}

#[test]
fn end_without_a_death_is_told_by_what_ended() {
    let phase = Phase::Program(0);
    let outcome = |end| Run::ended(end, "clean-7.3.log").outcome();
    let how = "was killed by signal 9".to_owned();
    let killed = End::QemuExited {
        failure: Some(how.clone()),
        reason: None,
    };
    assert_eq!(
        outcome(killed),
        Outcome::QemuDied {
            how,
            phase: phase.clone()
        }
    );
    let reason = Some("guest-reset".to_owned());
    assert_eq!(
        outcome(reset()),
        Outcome::Vanished {
            phase: phase.clone(),
            reason,
            before: None
        }
    );
    assert_eq!(
        outcome(End::TimedOut),
        Outcome::TimedOut {
            phase,
            before: None
        }
    );
    assert_eq!(outcome(End::Interrupted), Outcome::Interrupted);
    assert_eq!(
        outcome(End::OutputClosed(Closed::NoReader)),
        Outcome::OutputClosed(Closed::NoReader)
    );
}

/// A guest whose power was to be cut, and that came to this end.
fn losing_power(end: End) -> Outcome {
    let mut run = Run::good();
    run.job.work = Work::Programs(vec![Program::new(["mmapdemo", "observe"])]);
    run.job.ending = Ending::PowerCut;
    run.events.truncate(4);
    run.events.push(Event::AwaitsCut { taint: OUR_TAINT });
    run.end = end;
    run.outcome()
}

#[test]
fn power_cut_is_the_good_end_of_a_guest_that_is_to_lose_its_power_and_the_only_one() {
    assert_eq!(losing_power(End::PowerCut), Outcome::Completed);
    for end in [reset(), End::TimedOut, End::Dead, End::Interrupted] {
        assert_ne!(losing_power(end.clone()), Outcome::Completed, "{end:?}");
    }
}

#[test]
fn interruption_is_not_blamed_on_the_guest() {
    assert_eq!(
        Run::ended(End::Interrupted, "panic.log").outcome(),
        Outcome::Interrupted
    );
}

#[test]
fn refused_module_is_not_a_missing_test() {
    let mut run = Run {
        ktap: String::new(),
        console: saved("wrong-release.log"),
        ..Run::good()
    };
    run.events.truncate(1);
    run.events
        .extend([Event::ModuleRefused(refusal()), Event::Down { taint: 0 }]);
    assert_eq!(run.outcome(), Outcome::InsmodRefused(refusal()));
}

#[test]
fn init_that_failed_is_believed() {
    let mut run = Run::good();
    run.events.insert(
        3,
        Event::Failed {
            why: "failed to kill".into(),
        },
    );
    assert_eq!(
        run.outcome(),
        Outcome::InitFailed {
            why: "failed to kill".into()
        }
    );
}

#[test]
fn init_that_has_only_the_console_is_heard() {
    let mut run = Run::ended(reset(), "clean-7.3.log");
    run.console
        .push_str("init: failed: failed to mount proc on /proc\n");
    let why = "failed to mount proc on /proc".to_owned();
    assert_eq!(run.outcome(), Outcome::InitFailed { why: why.clone() });
    run.events.clear();
    assert_eq!(run.outcome(), Outcome::InitFailed { why });
}

#[test]
fn splat_spoils_good_results() {
    let mut run = Run {
        console: saved("warn-in-insmod.log"),
        ..Run::good()
    };
    assert!(matches!(run.outcome(), Outcome::Splat { lines } if lines.len() == 1));
    run.allowed = vec![Allowance {
        text: "boom_init".into(),
        reason: "asked for".into(),
        taint: WARNED,
    }];
    run.events[5] = Event::Down {
        taint: OUR_TAINT | WARNED,
    };
    assert!(matches!(run.outcome(), Outcome::Passed { .. }));
}

#[test]
fn module_that_stays_spoils_good_results() {
    let mut run = Run::good();
    run.events[4] = Event::UnloadRefused(refusal());
    assert_eq!(run.outcome(), Outcome::UnloadRefused(refusal()));
    run.events[4] = Event::ModuleGone;
    assert!(
        matches!(run.outcome(), Outcome::Passed { .. }),
        "a test may unload it"
    );
}

#[test]
fn taint_that_has_no_splat_is_noticed() {
    let mut run = Run::good();
    run.events[5] = Event::Down {
        taint: OUR_TAINT | WARNED,
    };
    assert_eq!(run.outcome(), Outcome::Tainted { flags: WARNED });
    let mut run = Run::good();
    run.events[0] = Event::Ready {
        release: "7.3.4".into(),
        uptime_ms: 1,
        taint: WARNED,
    };
    assert_eq!(run.outcome(), Outcome::Tainted { flags: WARNED });
}

#[test]
fn lost_output_spoils_good_results() {
    assert_eq!(
        Run {
            output_complete: false,
            ..Run::good()
        }
        .outcome(),
        Outcome::OutputLost
    );
}

#[test]
fn program_that_is_not_there_is_named() {
    let mut run = Run::without_results();
    run.events[3] = Event::NotStarted {
        program: 0,
        refusal: refusal(),
    };
    let program = "true".to_owned();
    assert_eq!(
        run.outcome(),
        Outcome::NotStarted {
            program,
            refusal: refusal()
        }
    );
}

#[test]
fn what_a_person_does_in_a_shell_is_theirs() {
    let size = WindowSize {
        rows: 24,
        columns: 80,
    };
    let mut run = Run::without_results();
    run.job.work = Work::Shell(Shell {
        term: "xterm".into(),
        size,
    });
    run.events[1] = Event::ModuleRefused(refusal());
    run.console = saved("warn-in-insmod.log");
    assert_eq!(run.outcome(), Outcome::Completed);
    run.console = saved("panic.log");
    assert!(matches!(run.outcome(), Outcome::Panicked { .. }));
}

#[test]
fn every_outcome_says_its_kind_in_its_first_words() {
    let phase = Phase::Load;
    for (outcome, words) in [
        (
            Outcome::Passed {
                passed: 3,
                skipped: 1,
            },
            "passed: 3 as expected, 1 skipped",
        ),
        (
            Outcome::Failed {
                failed: vec!["a".into(), "b".into()],
                total: 3,
            },
            "failed: 2 of 3 not as expected: a, b",
        ),
        (
            Outcome::TimedOut {
                phase: phase.clone(),
                before: None,
            },
            "timed out during insmod",
        ),
        (
            Outcome::TimedOut {
                phase: phase.clone(),
                before: Some("WARNING: possible circular locking".to_owned()),
            },
            "timed out during insmod; before that: WARNING: possible circular locking",
        ),
        (
            Outcome::QemuDied {
                how: "was killed by signal 9".into(),
                phase,
            },
            "QEMU was killed by signal 9 during insmod",
        ),
        (
            Outcome::InsmodRefused(refusal()),
            "insmod refused: Exec format error (os error 8)",
        ),
    ] {
        assert_eq!(outcome.to_string(), words);
    }
}
