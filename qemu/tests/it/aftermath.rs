//! What a run leaves behind in the guest, and how each end is told from outside.

use std::collections::BTreeSet;

use lab::exit_code::ExitCode;
use lab::job::{Event, LEAK_KIB, Refusal};
use lab::outcome::Outcome;
use lab::output::Closed;
use lab::phase::Phase;

use crate::run::Run;

#[test]
fn memory_that_stays_in_use_spoils_good_results() {
    let mut run = Run::good();
    run.events.insert(1, Event::Unaccounted { kib: 20_000 });
    let after = |kib| Event::Unaccounted { kib: 20_000 + kib };
    run.events.insert(6, after(LEAK_KIB));
    assert!(matches!(run.outcome(), Outcome::Passed { .. }));
    let kib = LEAK_KIB + 1;
    run.events[6] = after(kib);
    assert_eq!(run.outcome(), Outcome::Leaked { kib });
    run.events.remove(1);
    assert!(
        matches!(run.outcome(), Outcome::Passed { .. }),
        "one count says nothing"
    );
}

#[test]
fn module_that_does_not_taint_is_not_ours() {
    let mut run = Run::good();
    for flags in [0, 1 << 13] {
        run.events[5] = Event::Down { taint: flags };
        assert_eq!(run.outcome(), Outcome::NotTainted { flags });
    }
    // A kernel that checks no signatures.
    run.events[5] = Event::Down { taint: 1 << 12 };
    assert!(matches!(run.outcome(), Outcome::Passed { .. }));
}

/// One of each, but for those that are no end of a guest.
fn all() -> Vec<Outcome> {
    let (why, line, how) = (String::new(), String::new(), String::new());
    let (program, phase) = (String::new(), Phase::Boot);
    let refusal = Refusal {
        errno: 16,
        text: "busy".into(),
    };
    vec![
        Outcome::Passed {
            passed: 1,
            skipped: 0,
        },
        Outcome::Failed {
            failed: vec![],
            total: 1,
        },
        Outcome::Skipped { skipped: 1 },
        Outcome::NoTests,
        Outcome::MissingTests {
            planned: 2,
            seen: 1,
        },
        Outcome::Unparsable { why: why.clone() },
        Outcome::Contradicted { why: why.clone() },
        Outcome::NotStarted {
            program,
            refusal: refusal.clone(),
        },
        Outcome::Splat { lines: vec![] },
        Outcome::Tainted { flags: 1 },
        Outcome::NotTainted { flags: 0 },
        Outcome::Leaked { kib: 1 },
        Outcome::Unreferenced {
            count: 1,
            report: String::new(),
        },
        Outcome::OutputLost,
        Outcome::UnloadRefused(refusal.clone()),
        Outcome::InsmodRefused(refusal),
        Outcome::InitFailed { why: why.clone() },
        Outcome::DiedInBoot { line: None },
        Outcome::Panicked {
            line: line.clone(),
            before: None,
            phase: phase.clone(),
        },
        Outcome::Oopsed {
            line,
            before: None,
            phase: phase.clone(),
        },
        Outcome::Vanished {
            phase: phase.clone(),
            reason: None,
            before: None,
        },
        Outcome::QemuDied {
            how,
            phase: phase.clone(),
        },
        Outcome::TimedOut {
            phase,
            before: None,
        },
        Outcome::NotCut,
        Outcome::OutputClosed(Closed::NoReader),
        Outcome::Interrupted,
        Outcome::SetUp { why },
    ]
}

#[test]
fn each_end_has_a_status_and_a_message_of_its_own() {
    let statuses: BTreeSet<u8> = all()
        .iter()
        .map(|outcome| outcome.exit_code().number())
        .collect();
    assert_eq!(statuses.len(), all().len());
    for other in [ExitCode::Usage, ExitCode::LabBroke, ExitCode::ExecFailed] {
        assert!(!statuses.contains(&other.number()));
    }
    let messages: BTreeSet<String> = all().iter().map(ToString::to_string).collect();
    assert_eq!(messages.len(), all().len());
}

#[test]
fn the_table_of_the_docs_has_each_end() {
    let docs = include_str!("../../../docs/outcomes.md");
    for outcome in all() {
        let row = format!("| {} |", outcome.exit_code().number());
        assert!(docs.contains(&row), "{row} {outcome}");
    }
}
