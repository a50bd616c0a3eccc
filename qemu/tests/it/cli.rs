//! The `lab` program at its edges: what it says, and the status it ends with, before anything is made.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use clap::CommandFactory;
use lab::cli::Cli;
use lab::exit_code::ExitCode;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::{contains, is_empty};

/// A directory that nobody can make, root included (`proc(5)`).
const UNWRITABLE: &str = "/proc/no-such-cache";

/// The program with a cache that it cannot use: no test gets as far as to download anything.
fn lab(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command
        .env("MMAPDEMO_CACHE", UNWRITABLE)
        .env_remove("MMAPDEMO_MIRROR")
        .args(args);
    command
}

/// The program on a host that lacks nothing and forbids nothing, whatever this one is like: the programs
/// that could say no, or change the host, are stand-ins.
fn lab_on_a_good_host(args: &[&str]) -> Command {
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/host");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(host).chain(std::env::split_paths(&path));
    let mut command = lab(args);
    command.env("PATH", std::env::join_paths(dirs).unwrap());
    command
}

/// The status as a process has it.
fn status(code: ExitCode) -> i32 {
    code.number().into()
}

#[test]
fn help_names_every_subcommand() {
    let help = lab(&["--help"]).assert().success();
    let text = String::from_utf8_lossy(&help.get_output().stdout).into_owned();
    let cli = Cli::command();
    let names: Vec<_> = cli.get_subcommands().map(clap::Command::get_name).collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        let mut lines = text.lines();
        let entry = format!("  {name} ");
        assert!(lines.any(|line| line.starts_with(&entry)), "{name}");
    }
}

#[test]
fn help_explains_every_exit_status() {
    let help = lab(&["--help"]).assert().success();
    let text = String::from_utf8_lossy(&help.get_output().stdout).into_owned();
    let (_, statuses) = text.split_once("Exit statuses:").unwrap();
    for code in [
        ExitCode::AsExpected,
        ExitCode::NotAsExpected,
        ExitCode::Usage,
        ExitCode::SetUpMissing,
        ExitCode::Skipped,
        ExitCode::LabBroke,
        ExitCode::ExecFailed,
        ExitCode::Interrupted,
    ] {
        let number = code.number().to_string();
        let mut words = statuses.split_whitespace();
        assert!(words.any(|word| word == number), "{code:?}");
    }
}

#[test]
fn exec_without_a_program_is_wrong_usage() {
    let refused = lab(&["exec"]).assert().code(status(ExitCode::Usage));
    refused.stderr(contains("<PROG>"));
}

#[test]
fn a_subcommand_that_does_not_exist_is_wrong_usage() {
    let refused = lab(&["fly"]).assert().code(status(ExitCode::Usage));
    refused.stderr(contains("'fly'"));
}

#[test]
fn a_kernel_that_is_neither_a_series_nor_a_directory_is_wrong_usage() {
    for wrong in ["7.3.4", "bla"] {
        let refused = lab(&["run", "--kernel", wrong]).assert();
        let refused = refused.code(status(ExitCode::Usage));
        refused.stderr(contains(format!("'{wrong}'")).and(contains("a series such as")));
    }
}

#[test]
fn a_shell_without_a_terminal_is_wrong_usage_and_exec_is_named_instead() {
    let refused = lab(&["shell"]).assert().code(status(ExitCode::Usage));
    refused.stderr(contains("needs a terminal").and(contains("cargo lab exec")));
}

#[test]
fn outside_of_a_clone_the_lab_finds_the_one_it_was_built_in() {
    let cache = tempfile::tempdir().unwrap();
    let mut clean = lab(&["clean"]);
    // Above the root there is nothing to search.
    clean.current_dir("/").env("MMAPDEMO_CACHE", cache.path());
    clean.assert().success().stderr(is_empty());
}

#[test]
fn a_host_without_tools_is_told_the_one_command_that_brings_them() {
    let cache = tempfile::tempdir().unwrap();
    let mut prepare = lab(&["prepare"]);
    prepare
        .env("PATH", "/nonexistent")
        .env("MMAPDEMO_CACHE", cache.path());
    let refused = prepare.assert().code(status(ExitCode::SetUpMissing));
    let next_step = "next step: sudo apt-get install --no-install-recommends -y apt ";
    refused.stderr(contains("lacks apt, ").and(contains(next_step)));
}

#[test]
fn a_cache_that_cannot_be_written_is_named_with_the_next_step() {
    let refused = lab_on_a_good_host(&["prepare"]).assert();
    let refused = refused.code(status(ExitCode::SetUpMissing));
    refused.stderr(contains(UNWRITABLE).and(contains("next step: MMAPDEMO_CACHE=")));
}

#[test]
fn a_mirror_that_cannot_be_reached_is_named_with_the_next_step() {
    // Port 1 is reserved for a service that nobody runs: the connection is refused at once.
    let mirror = "http://127.0.0.1:1/debian";
    let cache = tempfile::tempdir().unwrap();
    let mut prepare = lab_on_a_good_host(&["prepare", "--mirror", mirror]);
    prepare
        .env("MMAPDEMO_CACHE", cache.path())
        .env_remove("http_proxy");
    let refused = prepare.assert().code(status(ExitCode::SetUpMissing));
    let text = format!("the archive {mirror} did not deliver");
    refused.stderr(contains(text).and(contains("next step: ").and(contains("--mirror URL"))));
}

#[test]
fn exec_that_reaches_no_guest_has_a_status_of_its_own_and_writes_so() {
    let dir = tempfile::tempdir().unwrap();
    let (file, missing) = (dir.path().join("status"), dir.path().join("missing"));
    let mut exec = lab(&["exec"]);
    exec.arg("--status").arg(&file).arg("--copy").arg(&missing);
    let refused = exec.args(["--", "true"]).assert();
    let refused = refused.code(status(ExitCode::ExecFailed));
    refused.stderr(contains(missing.to_string_lossy().into_owned()));
    assert_eq!(fs::read_to_string(file).unwrap(), "lab failed\n");
}

#[test]
fn every_shell_gets_completions_of_every_subcommand() {
    for shell in ["bash", "zsh", "fish"] {
        let script = lab(&["completions", shell]).assert().success();
        let text = String::from_utf8_lossy(&script.get_output().stdout).into_owned();
        for subcommand in Cli::command().get_subcommands() {
            let name = subcommand.get_name();
            assert!(text.contains(name), "{shell}: {name}");
        }
    }
}

#[test]
fn there_is_a_manual_page_of_the_lab_and_of_each_subcommand() {
    let page = lab(&["man"]).assert().success();
    page.stdout(contains(".TH lab 1").and(contains("Exit statuses")));
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    lab(&["man", pages.to_str().unwrap()]).assert().success();
    for subcommand in Cli::command().get_subcommands() {
        let page = pages.join(format!("lab-{}.1", subcommand.get_name()));
        assert!(page.is_file(), "{}", page.display());
    }
    lab(&["man", UNWRITABLE])
        .assert()
        .code(status(ExitCode::LabBroke))
        .stderr(contains(UNWRITABLE));
}

#[test]
fn a_trace_takes_a_claim_or_a_program() {
    for wrong in [
        &["trace"][..],
        &["trace", "private-is-snapshot", "--", "true"],
        &["trace", "private-is-snapshot", "--depth", "0"],
        &["trace", "private-is-snapshot", "--memory", "stack"],
        &["--quiet", "--verbose", "doctor"],
    ] {
        lab(wrong).assert().code(status(ExitCode::Usage));
    }
}

#[test]
fn only_work_that_has_a_limit_is_said_to_have_one() {
    for (command, limited) in [("exec", true), ("debug", false), ("trace", false)] {
        let help = lab(&[command, "--help"]).assert().success();
        let text = String::from_utf8_lossy(&help.get_output().stdout).into_owned();
        let words: Vec<_> = text.split_whitespace().collect();
        let text = words.join(" ");
        assert_eq!(text.contains("if not given, 600"), limited, "{command}");
        assert_eq!(
            text.contains("if not given, any number"),
            !limited,
            "{command}"
        );
    }
}

/// The lines of the driver that a text names, such as `driver/device.rs:81`.
fn places(text: &str) -> Vec<(&str, usize)> {
    let beginnings = text.match_indices("driver/").map(|(at, _)| &text[at..]);
    beginnings
        .filter_map(|text| {
            let (file, rest) = text.split_once(".rs:")?;
            let digits = rest.split(|it: char| !it.is_ascii_digit()).next()?;
            let file = text.get(..file.len() + 3)?;
            let word = file.split_whitespace().next() == Some(file);
            word.then_some((file, digits.parse().ok()?))
        })
        .collect()
}

#[test]
fn breakpoints_that_are_shown_are_where_every_mapping_passes() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let read = |path: &str| fs::read_to_string(project.join(path)).unwrap();
    let help = lab(&["debug", "--help"]).assert().success();
    let help = String::from_utf8_lossy(&help.get_output().stdout).into_owned();
    for text in [help, read("docs/debugging.md")] {
        let places = places(&text);
        assert!(!places.is_empty());
        for (file, number) in places {
            let source = read(file);
            let line = source.lines().nth(number - 1).unwrap();
            assert!(
                line.contains("strategy.show(Window::new("),
                "{file}:{number}: {line}"
            );
        }
    }
}

#[test]
fn what_the_lab_makes_in_a_students_tree_is_not_for_git() {
    let dir = tempfile::tempdir().unwrap();
    let start = dir.path().join("start");
    lab(&["new", start.to_str().unwrap()]).assert().success();
    let ignored = fs::read_to_string(start.join(".gitignore")).unwrap();
    let ignored: Vec<_> = ignored.lines().collect();
    assert_eq!(ignored, ["/target/", "/driver/rust-project.json"]);
}
