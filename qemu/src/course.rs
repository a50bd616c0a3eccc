//! The course: which labs there are, and what each of them gives points for.
//!
//! `docs/labs/course.toml` is the data, beside the texts of the labs.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::failure::Failure;

const DATA: &str = include_str!("../../docs/labs/course.toml");

/// The name of [`Checks::CleanEnd`].
pub const CLEAN_END: &str = "the module is unloaded, and the kernel has no complaint";

/// All labs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Course {
    /// In the order in which they are done.
    #[serde(rename = "lab")]
    pub labs: Vec<Lab>,
}

/// A lab.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lab {
    /// Counts from 1.
    pub number: usize,
    /// What it is about.
    pub title: String,
    /// Its text, in `docs/labs`.
    pub file: String,
    /// What the driver is to do.
    #[serde(default, rename = "task")]
    pub tasks: Vec<Task>,
    /// What the student is to find out.
    #[serde(default, rename = "question")]
    pub questions: Vec<Question>,
}

/// Something that a student's driver is to do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// What.
    pub title: String,
    /// Points for all of it; each check gives its share.
    pub points: f64,
    /// The nodes that it is about; all, if none is named.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// What is checked.
    pub checks: Checks,
}

/// How a [`Task`] is checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checks {
    /// By these tests of the driver; each gives its share of the points.
    Tests(Vec<String>),
    /// By all tests of the driver but a few that take long; there are no points for a part.
    WholeSuite,
    /// By the end of the run: the module has to be unloaded, and the kernel to have no complaint.
    CleanEnd,
}

/// Something to find out about mmap.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The name of the answer in `answers.toml`.
    pub key: String,
    /// The question.
    pub text: String,
    /// The claim whose experiment knows.
    pub claim: String,
    /// What of its evidence is the answer; its verdict (`holds`, `qualified` or `false`), if nothing is named.
    pub evidence: Option<String>,
    /// The node on which, if the claim is about the device; otherwise the first.
    pub node: Option<String>,
    /// Points for the right answer.
    pub points: f64,
}

impl Course {
    /// The course.
    ///
    /// # Errors
    ///
    /// When the data are not in order.
    pub fn read() -> Result<Self> {
        Self::parse(DATA).context("failed to read docs/labs/course.toml")
    }

    fn parse(text: &str) -> Result<Self> {
        let course: Self = toml::from_str(text)?;
        let mut keys = BTreeMap::new();
        for (index, lab) in course.labs.iter().enumerate() {
            let number = lab.number;
            ensure!(number == index + 1, "lab {number} is not in its place");
            ensure!(lab.points() > 0.0, "lab {number} gives no points");
            for question in &lab.questions {
                let earlier = keys.insert(&question.key, number);
                ensure!(earlier.is_none(), "{} is asked for twice", question.key);
            }
            for task in &lab.tasks {
                let none = Checks::Tests(Vec::new());
                ensure!(task.checks != none, "{:?} is not checked", task.title);
            }
        }
        ensure!(!course.labs.is_empty(), "there is no lab");
        Ok(course)
    }

    /// The one with this number; all of them, if none is given.
    ///
    /// # Errors
    ///
    /// A usage error, when there is no such lab.
    pub fn select(mut self, number: Option<usize>) -> Result<Self> {
        let Some(number) = number else {
            return Ok(self);
        };
        let last = self.labs.len();
        self.labs.retain(|lab| lab.number == number);
        if self.labs.is_empty() {
            let message = format!("there is no lab {number}; they are numbered 1 to {last}");
            return Err(Failure::Usage(message).into());
        }
        Ok(self)
    }

    /// All questions.
    pub fn questions(&self) -> impl Iterator<Item = &Question> {
        self.labs.iter().flat_map(|lab| &lab.questions)
    }

    /// Every question, for the student to answer, in TOML.
    #[must_use]
    pub fn answer_sheet(&self) -> String {
        let mut sheet =
            "# Your answers; each question is explained in the text of its lab.\n".to_owned();
        for lab in self.labs.iter().filter(|lab| !lab.questions.is_empty()) {
            let _ = writeln!(sheet, "\n# Lab {}: {}", lab.number, lab.title);
            for Question { key, text, .. } in &lab.questions {
                let _ = writeln!(sheet, "\n# {text}\n{key} = \"\"");
            }
        }
        sheet
    }
}

impl Checks {
    /// The names of what is checked; `suite` are those of all tests.
    #[must_use]
    pub fn names(&self, suite: &[String]) -> Vec<String> {
        match self {
            Self::Tests(tests) => tests.clone(),
            Self::WholeSuite => suite.to_vec(),
            Self::CleanEnd => vec![CLEAN_END.to_owned()],
        }
    }
}

impl Lab {
    /// Points for all of it.
    #[must_use]
    pub fn points(&self) -> f64 {
        let tasks = self.tasks.iter().map(|task| task.points);
        let questions = self.questions.iter().map(|question| question.points);
        tasks.chain(questions).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_course_is_in_order_and_every_lab_has_its_text() {
        let course = Course::read().unwrap();
        assert!(course.labs.len() >= 8);
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/labs");
        for lab in &course.labs {
            let text = std::fs::read_to_string(dir.join(&lab.file)).unwrap();
            let title = format!("# Lab {}: {}\n", lab.number, lab.title);
            assert!(text.starts_with(&title), "{} has another title", lab.file);
        }
    }

    #[test]
    fn the_answer_sheet_has_every_question_and_no_answer() {
        let course = Course::read().unwrap();
        let sheet: BTreeMap<String, String> = toml::from_str(&course.answer_sheet()).unwrap();
        assert_eq!(sheet.len(), course.questions().count());
        assert!(sheet.values().all(String::is_empty));
    }

    #[test]
    fn what_is_not_in_order_is_refused() {
        let lab = |number: usize, rest: &str| {
            format!("[[lab]]\nnumber = {number}\ntitle = \"t\"\nfile = \"f\"\n{rest}\n")
        };
        let task = "[[lab.task]]\ntitle = \"t\"\npoints = 1\nchecks.tests = [\"a\"]";
        let question = "[[lab.question]]\nkey = \"k\"\ntext = \"?\"\nclaim = \"c\"\npoints = 1";
        assert!(Course::parse(&lab(1, task)).is_ok());
        for wrong in [
            String::new(),
            lab(2, task),
            lab(1, ""),
            lab(1, &task.replace("\"a\"", "")),
            lab(1, &task.replace("points", "pionts")),
            lab(1, question) + &lab(2, question),
        ] {
            assert!(Course::parse(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_lab_can_be_selected() {
        let course = Course::read().unwrap();
        assert_eq!(course.clone().select(Some(2)).unwrap().labs.len(), 1);
        assert!(course.select(Some(99)).is_err());
    }
}
