//! `lab grade`: what a student's driver and answers are worth.
//!
//! The driver may do anything to its guest: panic, hang, oops. That costs the points of the task in whose
//! checks it does so, and the tasks behind it are tried in another guest.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::mutants::LEFT_OUT;
use super::reports::Destination;
use crate::checks;
use crate::cli::KernelArgs;
use crate::cli::course::Grade as Args;
use crate::course::{CLEAN_END, Checks, Course, Lab, Question, Task};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::grade::{self, Check, CheckResult, Grade, Mark};
use crate::initramfs::GuestFile;
use crate::job::{Event, Program, Work};
use crate::libtest::Tally;
use crate::matrix;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::programs::TestProgram;
use crate::report::{ProgramStatus, Report};
use crate::session::Streams;
use crate::workshop::{Built, Workshop};

/// The test program whose tests the course names.
const TESTS: &str = "driver";

/// Where it is in the guest.
const GUEST_PATH: &str = "/root/tests/driver";

/// The variable that tells it to which nodes it is to keep.
const NODES: &str = "MMAPDEMO_NODES";

/// The answers, in a student's tree.
const ANSWERS: &str = "answers.toml";

/// What the experiments found, in the guest.
const FOUND: &str = "/run/found.json";

/// `lab grade`.
///
/// # Errors
///
/// When the directory is no student's tree, or the lab itself fails. What the driver does is no error.
pub fn grade(workshop: &Workshop<'_>, args: &Args) -> Result<ExitCode> {
    let files = [&args.json, &args.junit, &args.gradescope];
    let [json, junit, gradescope] =
        files.map(|file| file.as_deref().map(Destination::begin).transpose());
    let course = Course::read()?.select(args.lab)?;
    let answers = read_answers(&args.dir, &course)?;
    // The driver as it should be: the experiments know the answers only on that one.
    let reference = KernelArgs {
        driver: None,
        ..args.kernel.clone()
    };
    let built = workshop.build(&reference)?;
    let release = built.target.kernel.release.clone();
    let mut marks = question(workshop, &course, &built, &answers)?;
    marks.extend(examine(workshop, args, &course, built)?);
    marks.sort_by_key(|mark| mark.lab);
    let grade = Grade::new(release, marks);
    if args.details {
        for mark in grade.marks.iter().filter(|mark| !mark.output.is_empty()) {
            println!("{}:\n{}\n", mark.title, mark.output);
        }
    }
    println!("{grade}");
    for (file, write) in [
        (json?, grade::json as fn(&Grade) -> Result<String>),
        (junit?, grade::junit),
        (gradescope?, grade::gradescope),
    ] {
        if let Some(file) = file {
            file.write(write(&grade)?.as_bytes())?;
        }
    }
    Ok(if grade.is_full() {
        ExitCode::AsExpected
    } else {
        ExitCode::NotAsExpected
    })
}

/// The student's answers to the questions of `course`, by key.
fn read_answers(dir: &Path, course: &Course) -> Result<BTreeMap<String, String>> {
    let path = dir.join(ANSWERS);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text.with_context(|| format!("failed to read {}", path.display()))?,
    };
    let table: toml::Table = match toml::from_str(&text) {
        Ok(table) => table,
        Err(error) => bail!(Failure::Usage(format!("{}: {error}", path.display()))),
    };
    let mut answers = BTreeMap::new();
    for Question { key, .. } in course.questions() {
        let text = match table.get(key) {
            None => continue,
            Some(toml::Value::String(text)) => text.clone(),
            Some(toml::Value::Integer(number)) => number.to_string(),
            Some(toml::Value::Boolean(flag)) => flag.to_string(),
            Some(_) => bail!(Failure::Usage(format!(
                "{}: {key} is neither a string nor a number",
                path.display()
            ))),
        };
        answers.insert(key.clone(), text);
    }
    Ok(answers)
}

/// Tries the student's driver, in the place of that in `built`.
fn examine(
    workshop: &Workshop<'_>,
    args: &Args,
    course: &Course,
    mut built: Built,
) -> Result<Vec<Mark>> {
    let tasks: Vec<(&Lab, &Task)> = course
        .labs
        .iter()
        .flat_map(|lab| lab.tasks.iter().map(move |task| (lab, task)))
        .collect();
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let programs = workshop.guest_tests(checks::Checks::default())?;
    let test = programs.into_iter().find(|program| program.name == TESTS);
    let mut test = test.context("failed to find the tests of the driver")?;
    require_known(&tasks, &test)?;
    test.tests.retain(|name| !LEFT_OUT.contains(&name.as_str()));
    built.module = match workshop.build_module(&built.target, Some(&args.dir)) {
        Err(error) if matches!(error.downcast_ref(), Some(Failure::DoesNotBuild { .. })) => {
            eprint!("{}", Failure::diagnostics_of(&error));
            return Ok(grade::nothing_tried(
                course,
                &test.tests,
                &format!("{error:#}"),
            ));
        }
        module => module?,
    };
    let mut examination = Examination::new(&tasks, &test.tests);
    while let Some(pending) = examination.pending() {
        let programs = pending
            .iter()
            .map(|&index| program(tasks[index].1))
            .collect();
        let plan = Plan {
            timeout: Some(Duration::from_secs(args.timeout)),
            ..Plan::new(&built, Work::Programs(programs))
        };
        let plan = plan.files([GuestFile::copy(&test.path, GUEST_PATH, 0o755)]);
        let report = plan.boot(workshop, Streams::outputs())?;
        examination.take(&pending, &report)?;
    }
    Ok(examination.marks())
}

/// A test that the course names and that is not there would be points that nobody can have.
fn require_known(tasks: &[(&Lab, &Task)], test: &TestProgram) -> Result<()> {
    for (lab, task) in tasks {
        let Checks::Tests(names) = &task.checks else {
            continue;
        };
        if let Some(name) = names.iter().find(|name| !test.tests.contains(name)) {
            bail!(
                "lab {} of docs/labs/course.toml: there is no test {name}",
                lab.number
            );
        }
    }
    Ok(())
}

/// What checks a task, as a program of the guest.
fn program(task: &Task) -> Program {
    let mut argv = vec![GUEST_PATH, "--test-threads=1", "--exact"];
    match &task.checks {
        Checks::Tests(tests) => argv.extend(tests.iter().map(String::as_str)),
        Checks::WholeSuite => argv.extend(LEFT_OUT.iter().flat_map(|name| ["--skip", name])),
        // Any program will do: what counts is how the guest ends.
        Checks::CleanEnd => {
            return Program {
                capture: true,
                ..Program::new(["true"])
            };
        }
    }
    let env = (!task.nodes.is_empty()).then(|| (NODES.to_owned(), task.nodes.join(",")));
    Program {
        capture: true,
        env: env.into_iter().collect(),
        ..Program::new(argv)
    }
}

/// How far the tasks have come.
struct Examination<'a> {
    tasks: &'a [(&'a Lab, &'a Task)],
    /// The names of all tests.
    suite: &'a [String],
    marks: Vec<Option<Mark>>,
    /// How the driver spoiled a run for the first time.
    spoiled: Option<String>,
}

impl<'a> Examination<'a> {
    fn new(tasks: &'a [(&'a Lab, &'a Task)], suite: &'a [String]) -> Self {
        Self {
            tasks,
            suite,
            marks: vec![None; tasks.len()],
            spoiled: None,
        }
    }

    /// Those that are still to be tried, if there are any.
    fn pending(&self) -> Option<Vec<usize>> {
        let open = (0..self.marks.len()).filter(|&index| self.marks[index].is_none());
        Some(open.collect::<Vec<_>>()).filter(|open| !open.is_empty())
    }

    /// Takes over what a guest found that was to try `pending`; at least one is not pending any more.
    ///
    /// A program that began and did not end is the one that ended the guest. Those behind it stay, for
    /// another guest; where none began, another guest would do no better.
    fn take(&mut self, pending: &[usize], report: &Report) -> Result<()> {
        let end = bad_end(&report.outcome)?;
        self.spoiled = self.spoiled.take().or_else(|| end.clone());
        let began = |place: usize| {
            let started = Event::Started { program: place };
            report.events.contains(&started)
        };
        for (place, &index) in pending.iter().enumerate() {
            let (lab, task) = self.tasks[index];
            let program = report.programs.get(place);
            let ended = program.is_some_and(|program| program.status.is_some());
            let mut output = String::new();
            let (checks, reason) = match &task.checks {
                Checks::CleanEnd => (
                    vec![clean_end(self.spoiled.is_none())],
                    self.spoiled.clone(),
                ),
                tests => {
                    if let Some(program) = program {
                        output += &String::from_utf8_lossy(&program.stdout);
                        output += &String::from_utf8_lossy(&program.stderr);
                    }
                    let checks = tested(&tests.names(self.suite), &output);
                    let reason = match program.and_then(|program| program.status.as_ref()) {
                        None => end.clone(),
                        Some(ProgramStatus::Signaled(signal)) => Some(killed(*signal)),
                        Some(_) => None,
                    };
                    (checks, reason)
                }
            };
            let mark = Mark::of_task(lab, task, checks, reason);
            self.marks[index] = Some(mark.with_output(&output));
            if began(place) && !ended {
                break;
            }
        }
        Ok(())
    }

    fn marks(self) -> Vec<Mark> {
        self.marks.into_iter().flatten().collect()
    }
}

/// What an access does to the tests that the driver has no page for.
fn killed(signal: i32) -> String {
    let name = Signal::try_from(signal).map_or("a signal", Signal::as_str);
    format!("the program of the tests was killed by {name}")
}

fn clean_end(is_clean: bool) -> Check {
    let result = if is_clean {
        CheckResult::Passed
    } else {
        CheckResult::Failed
    };
    Check {
        name: CLEAN_END.into(),
        result,
    }
}

/// How the driver spoiled the run, if it did.
///
/// # Errors
///
/// What says nothing about the driver.
fn bad_end(outcome: &Outcome) -> Result<Option<String>> {
    match outcome {
        Outcome::Interrupted => Err(Failure::Interrupted("grading".into()).into()),
        outcome => matrix::end(outcome).map_err(anyhow::Error::msg),
    }
}

/// What a test program said about these tests.
fn tested(names: &[String], output: &str) -> Vec<Check> {
    let tally = Tally::of(names, output);
    let result = |name: &String| {
        if tally.passed.contains(name) {
            CheckResult::Passed
        } else if tally.failed.contains(name) {
            CheckResult::Failed
        } else {
            CheckResult::NoResult
        }
    };
    let checks = names.iter().map(|name| Check {
        name: name.clone(),
        result: result(name),
    });
    checks.collect()
}

/// Compares the answers with what the experiments find now, on the driver as it should be.
fn question(
    workshop: &Workshop<'_>,
    course: &Course,
    reference: &Built,
    answers: &BTreeMap<String, String>,
) -> Result<Vec<Mark>> {
    let mut claims: Vec<&str> = course
        .questions()
        .map(|question| question.claim.as_str())
        .collect();
    claims.sort_unstable();
    claims.dedup();
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let run = ["mmapdemo", "run", "--color", "never", "--json", FOUND];
    let run = Program {
        capture: true,
        ..Program::new(run.into_iter().chain(claims))
    };
    let bring = Program {
        capture: true,
        ..Program::new(["cat", FOUND])
    };
    let plan = Plan::new(reference, Work::Programs(vec![run, bring]));
    let report = plan.boot(workshop, Streams::outputs())?;
    let found = match (&report.outcome, report.programs.as_slice()) {
        (Outcome::Completed, [run, found])
            if run.status == Some(ProgramStatus::Exited(0))
                && found.status == Some(ProgramStatus::Exited(0)) =>
        {
            serde_json::from_slice(&found.stdout).context("failed to read what was found")?
        }
        (Outcome::Interrupted, _) => return Err(Failure::Interrupted("grading".into()).into()),
        (outcome, programs) => {
            let said = programs
                .first()
                .map(|program| String::from_utf8_lossy(&program.stdout));
            bail!(
                "failed to find the answers, on the driver as it should be: {outcome}\n{}",
                said.unwrap_or_default()
            )
        }
    };
    let mark = |(lab, question): (&Lab, &Question)| {
        let right = answer(&found, question)?;
        let given = answers.get(&question.key).map(String::as_str);
        Ok(Mark::of_question(lab, question, given, &right))
    };
    let labs = course.labs.iter();
    labs.flat_map(|lab| lab.questions.iter().map(move |question| (lab, question)))
        .map(mark)
        .collect()
}

/// The right answer, out of the results that `mmapdemo run --json` writes (docs/results.md).
fn answer(found: &Value, question: &Question) -> Result<String> {
    let Question {
        claim,
        node,
        evidence,
        ..
    } = question;
    let claims = found["claims"].as_array();
    let of_claim = claims.and_then(|all| all.iter().find(|one| one["id"] == claim.as_str()));
    let trials = of_claim.and_then(|one| one["trials"].as_array());
    let trial = trials.and_then(|trials| match node {
        Some(node) => trials.iter().find(|trial| trial["node"] == node.as_str()),
        None => trials.first(),
    });
    let trial = trial.with_context(|| format!("failed to find a result of {claim}"))?;
    let Some(label) = evidence else {
        let verdict = trial["verdict"].as_str();
        let verdict = verdict.with_context(|| format!("failed to find a verdict on {claim}"))?;
        return Ok(match verdict {
            "holds-with-qualification" => "qualified".into(),
            verdict => verdict.into(),
        });
    };
    let all = trial["evidence"].as_array();
    let one = all.and_then(|all| all.iter().find(|one| one["label"] == label.as_str()));
    let value = one.map(|one| &one["value"]);
    let text = match value {
        Some(Value::String(text)) => Some(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
        // A call that was refused, or a touch that was answered by a signal.
        Some(value) => ["/refused", "/faulted/signal"]
            .iter()
            .find_map(|path| value.pointer(path)?.as_str().map(str::to_owned)),
        None => None,
    };
    text.with_context(|| format!("failed to find {label} in the evidence of {claim}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(evidence: Option<&str>) -> Question {
        Question {
            key: "k".into(),
            text: "?".into(),
            claim: "c".into(),
            evidence: evidence.map(str::to_owned),
            node: Some("pfn".into()),
            points: 1.0,
        }
    }

    #[test]
    fn answers_come_out_of_the_results() {
        let found = serde_json::json!({"claims": [{"id": "c", "trials": [
            {"node": "insert", "verdict": "holds", "evidence": []},
            {"node": "pfn", "verdict": "holds-with-qualification", "evidence": [
                {"label": "n", "value": 17},
                {"label": "call", "value": {"refused": "EINVAL"}},
                {"label": "touch", "value": {"faulted": {"signal": "SIGBUS"}}},
                {"label": "none", "value": null},
            ]},
        ]}]});
        let answer = |evidence| answer(&found, &question(evidence)).ok();
        assert_eq!(answer(None).as_deref(), Some("qualified"));
        assert_eq!(answer(Some("n")).as_deref(), Some("17"));
        assert_eq!(answer(Some("call")).as_deref(), Some("EINVAL"));
        assert_eq!(answer(Some("touch")).as_deref(), Some("SIGBUS"));
        assert_eq!(answer(Some("none")), None);
        assert_eq!(answer(Some("nowhere")), None);
    }
}
