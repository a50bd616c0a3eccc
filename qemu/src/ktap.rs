//! Test results in the kernel's format (`Documentation/dev-tools/ktap.rst`), whole or cut off.

use std::fmt;

/// How a document begins: KTAP's only version, and TAP's that the kernel's selftests print.
const VERSIONS: [&str; 3] = ["KTAP version 1", "TAP version 13", "TAP version 14"];

/// What one test said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `ok`
    Ok,
    /// `not ok`
    NotOk,
    /// `ok ... # SKIP reason`
    Skipped(String),
}

/// One result line of the outermost level; those of subtests are summed up by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// The test's name.
    pub name: String,
    /// What it said.
    pub verdict: Verdict,
    /// What stands behind `#`, but for a skip's reason.
    pub note: String,
}

/// The results of one or more programs, one document each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ktap {
    /// All results, in order.
    pub results: Vec<TestResult>,
    /// How many the plans announced, together.
    pub planned: usize,
    /// The first thing that is wrong with the format.
    pub problem: Option<Problem>,
}

/// A line that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Counts from 1.
    pub line_number: usize,
    /// The line.
    pub line: String,
    /// What is wrong.
    pub why: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}: {}: {:?}",
            self.line_number, self.why, self.line
        )
    }
}

/// Reads results. Never fails: what cannot be read is the [`Ktap::problem`], and what could be stays.
#[must_use]
pub fn parse(text: &str) -> Ktap {
    let mut parser = Parser::default();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let why = match line.strip_suffix('\n') {
            None => Some("cut off in the middle of a line"),
            Some(line) => parser.line(line.trim_end_matches('\r')).err(),
        };
        parser.complain(index + 1, line.trim_end(), why);
    }
    parser.complain(text.lines().count(), "", parser.document.err_at_end());
    parser.ktap
}

#[derive(Default)]
struct Parser {
    ktap: Ktap,
    document: Document,
}

/// Where in a document the parser is.
#[derive(Default)]
struct Document {
    begun: bool,
    plan: Option<usize>,
    seen: usize,
}

impl Document {
    /// What is missing when a document ends here. Too few results are no mistake of format: the plan
    /// stands, and [`Ktap::planned`] shows the difference.
    fn err_at_end(&self) -> Option<&'static str> {
        (self.begun && self.plan.is_none()).then_some("no plan (1..N) in a document")
    }
}

impl Parser {
    fn complain(&mut self, line_number: usize, line: &str, why: Option<&'static str>) {
        if let (Some(why), None) = (why, &self.ktap.problem) {
            self.ktap.problem = Some(Problem {
                line_number,
                line: line.to_owned(),
                why,
            });
        }
    }

    fn line(&mut self, line: &str) -> Result<(), &'static str> {
        if line.starts_with([' ', '\t', '#']) || line.is_empty() {
            return Ok(()); // a subtest's line, or a diagnostic
        }
        if VERSIONS.contains(&line) {
            let end = self.document.err_at_end();
            self.document = Document {
                begun: true,
                ..Document::default()
            };
            return end.map_or(Ok(()), Err);
        }
        if !self.document.begun {
            return Err("neither a version line that is known nor inside a document");
        }
        if let Some(plan) = line.strip_prefix("1..") {
            return self.plan(plan);
        }
        match line.strip_prefix("not ok ") {
            Some(rest) => self.result(rest, Verdict::NotOk),
            None => match line.strip_prefix("ok ") {
                Some(rest) => self.result(rest, Verdict::Ok),
                None if line.starts_with("Bail out!") => Err("the test program gave up"),
                None => Err("neither a plan, a result nor a diagnostic"),
            },
        }
    }

    fn plan(&mut self, plan: &str) -> Result<(), &'static str> {
        let count = plan
            .split(' ')
            .next()
            .and_then(|count| count.parse::<usize>().ok());
        let count = count.ok_or("a plan without a number")?;
        if self.document.plan.replace(count).is_some() {
            return Err("a second plan in one document");
        }
        self.ktap.planned = self.ktap.planned.saturating_add(count);
        Ok(())
    }

    fn result(&mut self, rest: &str, verdict: Verdict) -> Result<(), &'static str> {
        let (number, description) = rest.split_once(' ').unwrap_or((rest, ""));
        let number = number
            .parse::<usize>()
            .map_err(|_| "a result without a number")?;
        self.document.seen += 1;
        let (name, note) = description.split_once('#').unwrap_or((description, ""));
        let (name, note) = (name.trim().trim_start_matches("- ").to_owned(), note.trim());
        let (verdict, note) = match note.strip_prefix("SKIP") {
            // A skipped test is "ok" by the format; one that also failed has failed.
            Some(reason) if verdict == Verdict::Ok => {
                (Verdict::Skipped(reason.trim().to_owned()), "")
            }
            _ => (verdict, note),
        };
        self.ktap.results.push(TestResult {
            name,
            verdict,
            note: note.to_owned(),
        });
        if number != self.document.seen {
            return Err("results out of order");
        }
        match self.document.plan {
            Some(plan) if number > plan => Err("more results than planned"),
            _ => Ok(()),
        }
    }
}
