//! Grades for other programs.

use anyhow::{Context, Result};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use super::{CheckResult, Grade, Mark};

/// The whole grade, as JSON.
///
/// # Errors
///
/// None that can be mended: a number that JSON cannot express.
pub fn json(grade: &Grade) -> Result<String> {
    let mut text = serde_json::to_string_pretty(grade).context("failed to write a grade")?;
    text.push('\n');
    Ok(text)
}

/// A test suite for each mark, a test case for each of its checks, as JUnit XML.
///
/// # Errors
///
/// None that can be mended: text that XML cannot express.
pub fn junit(grade: &Grade) -> Result<String> {
    let mut report = Report::new("lab grade");
    for mark in &grade.marks {
        let mut suite = TestSuite::new(format!("lab {}: {}", mark.lab, mark.title));
        for check in &mark.checks {
            let mut status = match check.result {
                CheckResult::Passed => TestCaseStatus::success(),
                CheckResult::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
                CheckResult::NoResult => TestCaseStatus::non_success(NonSuccessKind::Error),
            };
            if let (CheckResult::NoResult, Some(reason)) = (check.result, &mark.reason) {
                status.set_message(reason.as_str());
            }
            suite.add_test_case(TestCase::new(check.name.as_str(), status));
        }
        report.add_test_suite(suite);
    }
    report.to_string().context("failed to write a grade")
}

/// What Gradescope reads as `results/results.json`
/// (<https://gradescope-autograders.readthedocs.io/en/latest/specs/>).
///
/// # Errors
///
/// As [`json`].
pub fn gradescope(grade: &Grade) -> Result<String> {
    let tests = grade.marks.iter().map(GradescopeTest::from).collect();
    let results = Gradescope {
        score: grade.points,
        output: format!("Tried in Linux {}.", grade.kernel),
        tests,
    };
    let mut text = serde_json::to_string_pretty(&results).context("failed to write a grade")?;
    text.push('\n');
    Ok(text)
}

#[derive(Serialize)]
struct Gradescope {
    score: f64,
    output: String,
    tests: Vec<GradescopeTest>,
}

#[derive(Serialize)]
struct GradescopeTest {
    score: f64,
    max_score: f64,
    status: &'static str,
    name: String,
    number: String,
    output: String,
}

impl From<&Mark> for GradescopeTest {
    fn from(mark: &Mark) -> Self {
        Self {
            score: mark.points,
            max_score: mark.max_points,
            status: if mark.is_full() { "passed" } else { "failed" },
            name: mark.title.clone(),
            number: mark.lab.to_string(),
            output: mark.complaints().join("\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::grade;
    use super::*;

    #[test]
    fn json_has_points_and_reasons() {
        let value: Value = serde_json::from_str(&json(&grade()).unwrap()).unwrap();
        assert_eq!(value["schema"], 1);
        assert_eq!(value["points"], json!(5.33));
        assert_eq!(value["marks"][0]["checks"][1]["result"], "failed");
        assert_eq!(value["marks"][0]["reason"], "kernel panicked <at> once");
        assert_eq!(value["marks"][1].get("reason"), None);
    }

    #[test]
    fn junit_tells_failures_from_what_has_no_result() {
        let text = junit(&grade()).unwrap();
        assert!(
            text.contains("tests=\"4\" failures=\"1\" errors=\"1\""),
            "{text}"
        );
        assert!(text.contains("kernel panicked &lt;at&gt; once"), "{text}");
    }

    #[test]
    fn gradescope_gets_a_score_for_each_mark() {
        let value: Value = serde_json::from_str(&gradescope(&grade()).unwrap()).unwrap();
        assert_eq!(value["score"], json!(5.33));
        assert_eq!(value["tests"][0]["status"], "failed");
        assert_eq!(value["tests"][1]["max_score"], json!(2.0));
        let output = value["tests"][0]["output"].as_str().unwrap();
        assert!(output.contains("b: failed"), "{output}");
    }
}
