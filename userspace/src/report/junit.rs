//! JUnit: one test case a claim and node, for programs that collect test results; pure.

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use crate::catalogue::Catalogue;
use crate::report::terminal::difference;
use crate::run::{Finding, Outcome, Standing, Trial};

/// The whole report: a suite for each group of claims.
///
/// # Errors
///
/// Never in practice: it is written to memory.
pub fn render(
    release: &str,
    catalogue: &Catalogue,
    findings: &[Finding<'_>],
) -> Result<String, SerializeError> {
    let mut report = Report::new(format!("mmapdemo on Linux {release}"));
    for group in &catalogue.groups {
        let mut suite = TestSuite::new(group.name.as_str());
        let inside = findings.iter();
        for finding in inside.filter(|finding| finding.claim.group == group.name) {
            suite.add_test_cases(finding.trials.iter().map(case));
        }
        if !suite.test_cases.is_empty() {
            report.add_test_suite(suite);
        }
    }
    report.to_string()
}

fn case(trial: &Trial) -> TestCase {
    let id = &trial.claim.id;
    let name = trial
        .node
        .map_or_else(|| id.to_string(), |node| format!("{id} on {node}"));
    let mut case = TestCase::new(name, status(trial));
    case.set_classname(trial.claim.group.as_str());
    case
}

fn status(trial: &Trial) -> TestCaseStatus {
    let mut status = match (&trial.result, trial.standing()) {
        (Outcome::Skipped(_) | Outcome::Inapplicable(_), _) => TestCaseStatus::skipped(),
        (Outcome::Broke(_), _) => TestCaseStatus::non_success(NonSuccessKind::Error),
        (_, Some(Standing::AsExpected)) => return TestCaseStatus::success(),
        _ => TestCaseStatus::non_success(NonSuccessKind::Failure),
    };
    let expected = trial.claim.expected;
    status.set_message(match &trial.result {
        Outcome::Judged { .. } => format!("expected {expected}, but {}", difference(trial)),
        _ => difference(trial),
    });
    status
}
