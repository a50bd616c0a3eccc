//! Score: what came of the tests on one kernel, counted, and told.

use super::shares::Share;
use crate::exit_code::ExitCode;
use crate::libtest::Tally;
use crate::outcome::Outcome;
use crate::report::{ProgramStatus, Report};

/// What came of the tests on one kernel.
#[derive(Debug, Default)]
pub(super) struct Score {
    pub(super) kernel: String,
    pub(super) passed: usize,
    pub(super) failed: usize,
    /// Planned, and without a result.
    pub(super) missing: usize,
    /// Why there could be no result at all: the archive does not offer the kernel.
    pub(super) unavailable: Option<String>,
    /// Whether the guest itself came to a bad end.
    pub(super) broke: bool,
    /// What came of the claims, if they were judged.
    pub(super) claims: Option<ExitCode>,
    /// How many tests were left out, as this kernel is an exception to them.
    pub(super) excepted: usize,
}

impl Score {
    /// Counts what came of a share of the tests.
    pub(super) fn add(&mut self, share: &Self) {
        self.passed += share.passed;
        self.failed += share.failed;
        self.missing += share.missing;
        self.broke |= share.broke;
    }

    /// Whether the claims were judged, and not as expected.
    fn claims_failed(&self) -> bool {
        self.claims.is_some_and(|code| code != ExitCode::AsExpected)
    }
}

/// Counts what the test programs said, and shows what is not good.
pub(super) fn score(release: &str, share: &Share, report: &Report) -> Score {
    let mut score = Score::default();
    for (index, test) in share.tests.iter().enumerate() {
        let program = report.programs.get(index);
        let output = program
            .map(|program| String::from_utf8_lossy(&program.stdout))
            .unwrap_or_default();
        let tally = Tally::of(&test.tests, &output);
        println!(
            "{release} {}{}: {} planned, {} passed, {} failed, {} without a result",
            test.name,
            share.place(),
            test.tests.len(),
            tally.passed.len(),
            tally.failed.len(),
            tally.missing.len()
        );
        if !tally.is_good() {
            let errors = program
                .map(|program| String::from_utf8_lossy(&program.stderr))
                .unwrap_or_default();
            println!("{output}{errors}");
        }
        let status = program.and_then(|program| program.status.as_ref());
        if let Some(status) = status.filter(|status| !status.is_of_libtest()) {
            println!("{release} {}: {status}", test.name);
        }
        for name in &tally.missing {
            println!(
                "{release} {}{}: no result for {name}",
                test.name,
                share.place()
            );
        }
        for name in &tally.unplanned {
            println!("{release} {}: {name} was not planned", test.name);
        }
        score.passed += tally.passed.len();
        score.failed += tally.failed.len() + tally.unplanned.len();
        score.missing += tally.missing.len();
        // Results that are all good, of a program that says otherwise, are not.
        let contradicted = tally.is_good() && status != Some(&ProgramStatus::Exited(0));
        score.broke |= tally.passed.is_empty() || contradicted;
    }
    if report.outcome != Outcome::Completed {
        println!("{}{release}: {}", report.last_words(), report.outcome);
        score.broke = true;
    }
    score
}

/// Prints the table and the closing line, and decides the exit status.
pub(super) fn summarise(scores: &[Score]) -> ExitCode {
    println!();
    for score in scores {
        let Score {
            kernel,
            passed,
            failed,
            missing,
            unavailable,
            broke,
            claims: _,
            excepted,
        } = score;
        match unavailable {
            Some(why) => println!("{kernel}: UNAVAILABLE, {missing} tests not run: {why}"),
            None if *broke => println!(
                "{kernel}: {passed} passed, {failed} failed, {missing} missing, and the guest broke"
            ),
            None => println!("{kernel}: {passed} passed, {failed} failed, {missing} missing"),
        }
        if *excepted > 0 {
            println!("{kernel}: {excepted} tests left out, see qemu/debug-exceptions.toml");
        }
        if score.claims_failed() {
            println!("{kernel}: the claims are not as expected, or were not all judged");
        }
    }
    let sum = |part: fn(&Score) -> usize| scores.iter().map(part).sum::<usize>();
    let lost = sum(|score| {
        if score.unavailable.is_some() {
            0
        } else {
            score.missing
        }
    });
    let broke = scores.iter().filter(|score| score.broke).count();
    // What is lost has failed; what has no kernel was skipped.
    let failed = sum(|score| score.failed + usize::from(score.claims_failed())) + lost + broke;
    let skipped = sum(|score| {
        if score.unavailable.is_some() {
            score.missing
        } else {
            0
        }
    });
    println!(
        "{} passed, {failed} failed, {skipped} skipped",
        sum(|score| score.passed)
    );
    if failed > 0 {
        ExitCode::NotAsExpected
    } else if scores.iter().all(|score| score.unavailable.is_some()) {
        ExitCode::Skipped
    } else {
        ExitCode::AsExpected
    }
}

#[cfg(test)]
mod tests {
    use super::super::shares::divide;
    use super::*;
    use crate::programs::TestProgram;
    use crate::report::ProgramReport;

    fn good() -> Score {
        Score {
            kernel: "7.3".into(),
            passed: 5,
            ..Score::default()
        }
    }

    #[test]
    fn only_results_count_as_passed() {
        assert_eq!(summarise(&[good()]), ExitCode::AsExpected);
        assert_eq!(
            summarise(&[Score {
                failed: 1,
                ..good()
            }]),
            ExitCode::NotAsExpected
        );
        assert_eq!(
            summarise(&[Score {
                missing: 1,
                ..good()
            }]),
            ExitCode::NotAsExpected
        );
        assert_eq!(
            summarise(&[Score {
                broke: true,
                ..good()
            }]),
            ExitCode::NotAsExpected
        );
    }

    #[test]
    fn a_program_whose_tests_passed_and_that_ends_otherwise_is_a_failure() {
        let test = TestProgram {
            name: "driver".into(),
            path: "driver".into(),
            tests: vec!["a".into()],
        };
        let score_of = |status| {
            let program = ProgramReport {
                name: "driver".into(),
                status,
                stdout: b"test a ... ok\n".to_vec(),
                stderr: Vec::new(),
            };
            let report = Report {
                outcome: Outcome::Completed,
                events: Vec::new(),
                programs: vec![program],
                console: String::new(),
                ktap: String::new(),
                qemu_stderr: String::new(),
                timings: Vec::new(),
            };
            let shares = divide(std::slice::from_ref(&test), 1);
            score("7.3", &shares[0], &report)
        };
        assert!(!score_of(Some(ProgramStatus::Exited(0))).broke);
        for status in [ProgramStatus::Exited(1), ProgramStatus::Signaled(11)] {
            let score = score_of(Some(status));
            assert!(score.broke && score.passed == 1);
        }
        assert!(score_of(None).broke);
    }

    #[test]
    fn claims_that_are_not_as_expected_are_a_failure() {
        for (claims, expected) in [
            (ExitCode::AsExpected, ExitCode::AsExpected),
            (ExitCode::NotAsExpected, ExitCode::NotAsExpected),
            (ExitCode::Skipped, ExitCode::NotAsExpected),
            (ExitCode::Panicked, ExitCode::NotAsExpected),
        ] {
            let claims = Some(claims);
            assert_eq!(summarise(&[Score { claims, ..good() }]), expected);
        }
    }

    #[test]
    fn an_unavailable_kernel_is_never_passed() {
        let gone = || Score {
            missing: 5,
            unavailable: Some("gone".into()),
            ..Score::default()
        };
        assert_eq!(summarise(&[gone()]), ExitCode::Skipped);
        assert_eq!(summarise(&[]), ExitCode::Skipped);
        assert_eq!(summarise(&[good(), gone()]), ExitCode::AsExpected);
    }
}
