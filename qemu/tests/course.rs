//! The course: every command that a lab shows is typed again, and what it prints compared with what the lab
//! shows; and drivers of all sorts are graded.
//!
//! `UPDATE_GOLDEN=1` writes what is printed now into the labs, and keeps `[..]` and `...` where they fit.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what helps a test may panic as the test may"
)]

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use assert_cmd::cargo::cargo_bin;
use lab::layout::Layout;
use lab::patch::{MUTANTS, Patch, Sources};
use serde_json::Value;
use snapbox::Data;
use snapbox::filter::NormalizeToExpected;
use tempfile::TempDir;

/// One test for each lab, so that each is counted.
macro_rules! labs {
    ($($test:ident: $file:literal,)+) => {
        const LABS: &[&str] = &[$($file),+];

        $(#[test]
        fn $test() {
            type_again($file);
        })+
    };
}

labs! {
    lab_1_prints_what_it_shows: "01-look-around.md",
    lab_2_prints_what_it_shows: "02-two-processes.md",
    lab_3_prints_what_it_shows: "03-private-copy.md",
    lab_4_prints_what_it_shows: "04-six-faults.md",
    lab_5_prints_what_it_shows: "05-read-and-write.md",
    lab_6_prints_what_it_shows: "06-insert-page.md",
    lab_7_prints_what_it_shows: "07-remap-pfn-range.md",
    lab_8_prints_what_it_shows: "08-fault-handler.md",
    lab_9_prints_what_it_shows: "09-ioctl.md",
    lab_10_prints_what_it_shows: "10-find-the-bug.md",
}

#[test]
fn every_lab_is_typed_again() {
    let course = lab::course::Course::read().unwrap();
    let files: Vec<&str> = course.labs.iter().map(|lab| lab.file.as_str()).collect();
    assert_eq!(files, LABS);
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Does what the console blocks of a lab show, in order, in a home directory that is empty at first.
fn type_again(file: &str) {
    let path = project().join("docs/labs").join(file);
    let text = fs::read_to_string(&path).unwrap();
    let home = tempfile::tempdir().unwrap();
    let (mut printed, mut typed) = (String::new(), 0);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        writeln!(printed, "{line}").unwrap();
        if line != "```console" {
            continue;
        }
        while let Some(line) = lines.next_if(|line| *line != "```") {
            let command = line.strip_prefix("$ ").expect("a command begins with `$ `");
            let mut shown = String::new();
            while let Some(line) = lines.next_if(|line| *line != "```" && !line.starts_with("$ ")) {
                writeln!(shown, "{line}").unwrap();
            }
            let output = Data::text(run(command, home.path()));
            let output = NormalizeToExpected::new()
                .redact()
                .normalize(output, &Data::text(shown.as_str()));
            write!(printed, "{line}\n{}", output.render().unwrap()).unwrap();
            typed += 1;
        }
    }
    assert!(typed > 0, "{file} shows no command");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, printed).unwrap();
    } else {
        assert_eq!(printed, text, "{file} shows something else");
    }
}

/// What a command prints, and its exit status unless that is 0.
fn run(command: &str, home: &Path) -> String {
    let real_home = PathBuf::from(env::var_os("HOME").unwrap());
    let or_in_home =
        |variable, name| env::var_os(variable).map_or_else(|| real_home.join(name), PathBuf::from);
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1\n{command}")])
        .current_dir(project())
        .env("MMAPDEMO_CACHE", Layout::find().unwrap().cache)
        .env("CARGO_HOME", or_in_home("CARGO_HOME", ".cargo"))
        .env("RUSTUP_HOME", or_in_home("RUSTUP_HOME", ".rustup"))
        .env("HOME", home)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).replace(home.to_str().unwrap(), "~");
    match output.status.code() {
        Some(0) => {}
        Some(code) => writeln!(text, "? {code}").unwrap(),
        None => writeln!(text, "? {}", output.status).unwrap(),
    }
    text
}

/// A tree to be graded.
struct Tree(TempDir);

impl Tree {
    /// The finished driver, with right answers.
    fn finished() -> Self {
        Self::with(&Sources::read(project()).unwrap())
    }

    fn with(sources: &Sources) -> Self {
        let dir = tempfile::tempdir().unwrap();
        sources.write(dir.path()).unwrap();
        let answers = include_str!("data/answers.toml");
        fs::write(dir.path().join("answers.toml"), answers).unwrap();
        Self(dir)
    }

    /// The finished driver, but for one function: `signature` ends with `{`, and `what` comes behind it.
    fn that(signature: &str, what: &str) -> Self {
        let tree = Self::finished();
        let path = tree.0.path().join("driver/device.rs");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(signature).count(), 1);
        fs::write(
            path,
            text.replace(signature, &format!("{signature}\n{what}")),
        )
        .unwrap();
        tree
    }

    /// Grades it; returns the exit status and the JSON.
    fn grade(&self, options: &[&str]) -> (i32, Value) {
        let json = self.0.path().join("grade.json");
        let output = Command::new(cargo_bin("lab"))
            .args(["-q", "grade", "--json"])
            .arg(&json)
            .args(options)
            .arg(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let grade = fs::read(&json).unwrap_or_else(|error| panic!("no grade: {error}\n{said}"));
        let grade = serde_json::from_slice(&grade).unwrap();
        (output.status.code().unwrap(), grade)
    }
}

fn points(grade: &Value) -> f64 {
    grade["points"].as_f64().unwrap()
}

/// The reasons in a grade.
fn reasons(grade: &Value) -> String {
    let marks = grade["marks"].as_array().unwrap();
    let reasons = marks.iter().filter_map(|mark| mark["reason"].as_str());
    reasons.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_finished_driver_and_right_answers_get_all_points() {
    let (status, grade) = Tree::finished().grade(&[]);
    assert_eq!(
        (status, &grade["points"]),
        (0, &grade["max_points"]),
        "{grade:#}"
    );
}

#[test]
fn the_starting_tree_gets_few_points() {
    let dir = tempfile::tempdir().unwrap();
    let start = dir.path().join("start");
    let made = Command::new(cargo_bin("lab"))
        .arg("new")
        .arg(&start)
        .status();
    assert!(made.unwrap().success());
    let (status, grade) = Tree::with(&Sources::read(&start).unwrap()).grade(&["--lab", "5"]);
    assert_eq!(status, 1);
    assert!(points(&grade) < 10.0, "{grade:#}");
}

#[test]
fn mistakes_cost_points_and_are_named() {
    let finished = Sources::read(project()).unwrap();
    let mutants = Patch::all(&project().join(MUTANTS)).unwrap();
    for number in ["01", "05", "09", "15", "19"] {
        let mutant = mutants
            .iter()
            .find(|mutant| mutant.name.starts_with(number));
        let mut sources = finished.clone();
        sources.apply(mutant.unwrap()).unwrap();
        let (status, grade) = Tree::with(&sources).grade(&["--lab", "10"]);
        assert_eq!(status, 1, "{number}");
        let checks = grade["marks"][0]["checks"].as_array().unwrap();
        let failed = checks.iter().filter(|check| check["result"] != "passed");
        assert!(failed.count() > 0, "{number}: nothing is named");
        assert!(points(&grade) <= 6.0, "{number}: {}", points(&grade));
    }
}

/// It dies when something is written; the tasks that write nothing are graded all the same.
#[test]
fn a_panic_costs_the_points_of_its_task() {
    let tree = Tree::that(
        "write_iter(mut kiocb: Kiocb<'_, Self::Ptr>, iov: &mut IovIterSource<'_>) -> Result<usize> {",
        "panic!();",
    );
    let (status, grade) = tree.grade(&["--lab", "5"]);
    assert_eq!(status, 1);
    assert!(points(&grade) > 0.0, "{grade:#}");
    // A panic of Rust is a BUG() of the kernel.
    assert!(reasons(&grade).contains("kernel BUG"), "{grade:#}");
}

#[test]
fn a_hang_costs_the_points_of_its_task() {
    let signature = "iov: &mut IovIterDest<'_>) -> Result<usize> {";
    let tree = Tree::that(signature, "loop { core::hint::spin_loop() }");
    let (status, grade) = tree.grade(&["--lab", "9", "--timeout", "20"]);
    assert_eq!(status, 1);
    assert!(reasons(&grade).contains("timed out"), "{grade:#}");
}

#[test]
fn what_does_not_compile_gets_nothing_and_the_reason_is_told() {
    let tree = Tree::that(
        "fn offset_of(kiocb: &Kiocb<'_, Arc<Node>>) -> Result<usize> {",
        "not rust",
    );
    let (status, grade) = tree.grade(&["--lab", "5"]);
    assert_eq!((status, points(&grade)), (1, 0.0));
    assert!(reasons(&grade).contains("does not build"), "{grade:#}");
}
