//! Grades: what a student's driver and answers are worth, and why.

mod formats;

use std::fmt;

use serde::Serialize;

use crate::course::{Checks, Course, Lab, Question, Task};

pub use formats::{gradescope, json, junit};

/// Points, and what they are for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grade {
    /// The version of this form.
    pub schema: u32,
    /// The kernel in which the driver was tried.
    pub kernel: String,
    /// The sum of all points.
    pub points: f64,
    /// What could be had.
    pub max_points: f64,
    /// One mark for each task and each question, in the order of the labs.
    pub marks: Vec<Mark>,
}

/// What one task or question gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mark {
    /// The lab.
    pub lab: usize,
    /// The task or the question.
    pub title: String,
    /// Points for it.
    pub points: f64,
    /// What could be had.
    pub max_points: f64,
    /// What was checked.
    pub checks: Vec<Check>,
    /// Why checks have no result, if some have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the checks printed, if one did not pass.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output: String,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A test of the driver, or the name of an answer.
    pub name: String,
    /// How it went.
    pub result: CheckResult,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckResult {
    /// As it should.
    Passed,
    /// Otherwise.
    Failed,
    /// It was not done, or did not come to an end.
    NoResult,
}

impl Grade {
    /// The sum of `marks`.
    #[must_use]
    pub fn new(kernel: String, marks: Vec<Mark>) -> Self {
        Self {
            schema: 1,
            kernel,
            points: hundredths(marks.iter().map(|mark| mark.points).sum()),
            max_points: hundredths(marks.iter().map(|mark| mark.max_points).sum()),
            marks,
        }
    }

    /// Whether there is nothing left to be had.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.marks.iter().all(Mark::is_full)
    }
}

impl Mark {
    /// For a task, by what its checks found.
    #[must_use]
    pub fn of_task(lab: &Lab, task: &Task, checks: Vec<Check>, reason: Option<String>) -> Self {
        let passed = checks.iter().filter(|check| check.passed()).count();
        let share = match checks.len() {
            0 => 0.0,
            all if task.checks == Checks::WholeSuite && passed < all => 0.0,
            all => as_number(passed) / as_number(all),
        };
        Self {
            lab: lab.number,
            title: task.title.clone(),
            points: hundredths(task.points * share),
            max_points: task.points,
            checks,
            reason,
            output: String::new(),
        }
    }

    /// For an answer; `right` is what the kernel says, in the run of the claim's experiment.
    #[must_use]
    pub fn of_question(lab: &Lab, question: &Question, given: Option<&str>, right: &str) -> Self {
        let given = given.map(str::trim).filter(|given| !given.is_empty());
        let (result, reason) = match given {
            Some(given) if given.eq_ignore_ascii_case(right) => (CheckResult::Passed, None),
            // The right answer is not told: it is to be found.
            Some(given) => {
                let reason = format!("{} shows otherwise than {given:?}", question.claim);
                (CheckResult::Failed, Some(reason))
            }
            None => (CheckResult::NoResult, Some("no answer".to_owned())),
        };
        let passed = result == CheckResult::Passed;
        Self {
            lab: lab.number,
            title: question.text.clone(),
            points: if passed { question.points } else { 0.0 },
            max_points: question.points,
            checks: vec![Check {
                name: question.key.clone(),
                result,
            }],
            reason,
            output: String::new(),
        }
    }

    /// Adds what the checks printed, unless all passed.
    #[must_use]
    pub fn with_output(mut self, output: &str) -> Self {
        if !self.is_full() {
            output.trim().clone_into(&mut self.output);
        }
        self
    }

    /// Whether all its points were given.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(Check::passed)
    }

    /// What is missing, for people: the checks that did not pass, and why they have no result.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let bad = self.checks.iter().filter(|check| !check.passed());
        let bad = bad.map(|check| format!("{}: {}", check.name, check.result));
        bad.chain(self.reason.clone()).collect()
    }
}

impl Check {
    /// Whether it went as it should.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.result == CheckResult::Passed
    }
}

impl fmt::Display for CheckResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NoResult => "no result",
        })
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lab = 0;
        for mark in &self.marks {
            if mark.lab != lab {
                lab = mark.lab;
                writeln!(f, "Lab {lab}")?;
            }
            let Mark {
                points,
                max_points,
                title,
                ..
            } = mark;
            writeln!(f, "  {points:>5} of {max_points:<3} {title}")?;
            for complaint in mark.complaints() {
                writeln!(f, "                 {complaint}")?;
            }
        }
        write!(f, "\n{} of {} points", self.points, self.max_points)
    }
}

/// The marks that a driver gets of which nothing could be tried; `suite` are the names of all tests.
#[must_use]
pub fn nothing_tried(course: &Course, suite: &[String], reason: &str) -> Vec<Mark> {
    let labs = course.labs.iter();
    labs.flat_map(|lab| lab.tasks.iter().map(move |task| (lab, task)))
        .map(|(lab, task)| {
            let checks = task.checks.names(suite).into_iter();
            let checks = checks.map(|name| Check {
                name,
                result: CheckResult::NoResult,
            });
            Mark::of_task(lab, task, checks.collect(), Some(reason.to_owned()))
        })
        .collect()
}

/// To two digits behind the point: a third of ten points is 3.33.
fn hundredths(points: f64) -> f64 {
    (points * 100.0).round() / 100.0
}

fn as_number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const COURSE: &str = r#"
        [[lab]]
        number = 1
        title = "t"
        file = "f"
        [[lab.task]]
        title = "it reads"
        points = 10
        checks.tests = ["a", "b", "c"]
        [[lab.question]]
        key = "q"
        text = "How many?"
        claim = "c"
        points = 2
    "#;

    fn lab() -> Lab {
        let course: Course = toml::from_str(COURSE).unwrap();
        course.labs.into_iter().next().unwrap()
    }

    fn task_with(results: [CheckResult; 3]) -> Mark {
        let checks = ["a", "b", "c"].into_iter().zip(results);
        let checks = checks.map(|(name, result)| Check {
            name: name.into(),
            result,
        });
        let lab = lab();
        let reason = results.contains(&CheckResult::NoResult);
        let reason = reason.then(|| "kernel panicked <at> once".to_owned());
        Mark::of_task(&lab, &lab.tasks[0], checks.collect(), reason)
    }

    pub(crate) fn grade() -> Grade {
        use CheckResult::{Failed, NoResult, Passed};
        let lab = lab();
        Grade::new(
            "7.3".into(),
            vec![
                task_with([Passed, Failed, NoResult]),
                Mark::of_question(&lab, &lab.questions[0], Some("17"), "17"),
            ],
        )
    }

    #[test]
    fn each_check_gives_its_share_and_only_what_passed_gives_any() {
        use CheckResult::{Failed, NoResult, Passed};
        let points = |results| task_with(results).points.to_string();
        assert_eq!(points([Passed, Passed, Passed]), "10");
        assert_eq!(points([Passed, Failed, NoResult]), "3.33");
        assert_eq!(points([NoResult, NoResult, NoResult]), "0");
        assert!(!task_with([Passed, Passed, NoResult]).is_full());
        let lab = lab();
        let unchecked = Mark::of_task(&lab, &lab.tasks[0], Vec::new(), None);
        assert!(!unchecked.is_full());
        assert_eq!(unchecked.points.to_string(), "0");
    }

    #[test]
    fn a_suite_is_worth_something_only_as_a_whole() {
        use CheckResult::{Failed, Passed};
        let mut lab = lab();
        lab.tasks[0].checks = Checks::WholeSuite;
        let points = |results: &[CheckResult]| {
            let checks = results.iter().map(|&result| Check {
                name: "a".into(),
                result,
            });
            let mark = Mark::of_task(&lab, &lab.tasks[0], checks.collect(), None);
            mark.points.to_string()
        };
        assert_eq!(points(&[Passed, Passed]), "10");
        assert_eq!(points(&[Passed, Failed]), "0");
    }

    #[test]
    fn an_answer_is_right_or_wrong_or_missing_and_the_right_one_is_not_told() {
        let lab = lab();
        let mark = |given| Mark::of_question(&lab, &lab.questions[0], given, "SIGBUS");
        assert!(mark(Some(" sigbus ")).is_full());
        for (given, result) in [
            (Some("SIGSEGV"), CheckResult::Failed),
            (Some(""), CheckResult::NoResult),
            (None, CheckResult::NoResult),
        ] {
            let mark = mark(given);
            assert_eq!(mark.checks[0].result, result);
            assert_eq!(mark.points.to_string(), "0");
            assert!(!mark.complaints().concat().contains("SIGBUS"));
        }
    }

    #[test]
    fn a_grade_names_what_failed() {
        let text = grade().to_string();
        for part in ["b: failed", "c: no result", "kernel panicked", "5.33 of 12"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!grade().is_full());
    }

    #[test]
    fn what_was_not_tried_gives_nothing() {
        let course: Course = toml::from_str(COURSE).unwrap();
        let marks = nothing_tried(&course, &[], "it does not build");
        assert_eq!(marks.len(), 1);
        assert_eq!(marks[0].checks.len(), 3);
        assert!(!Grade::new(String::new(), marks).is_full());
    }
}
