//! The programs of the documents, right and as written; none of them needs root or a device.

#![expect(
    clippy::unwrap_used,
    reason = "what helps a test may panic as the test may"
)]

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use mmapdemo::example::ALL;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

fn example(args: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin("mmapdemo"));
    command.arg("example").args(args);
    command
}

/// What it tells; it has to succeed.
fn told(args: &[&str]) -> String {
    let output = example(args).assert().success().get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_example_shows_what_it_is_to_show() {
    for it in ALL {
        let told = told(&[it.name]);
        assert!(told.contains("seen "), "{}: {told}", it.name);
    }
}

#[test]
fn every_flaw_can_be_watched_and_is_explained() {
    for it in ALL.into_iter().filter(|it| it.as_written.is_some()) {
        let told = told(&[it.name, "--as-written"]);
        assert!(told.contains("why "), "{}: {told}", it.name);
    }
}

#[test]
fn a_flawless_example_is_not_run_as_if_it_had_flaws() {
    for it in ALL.into_iter().filter(|it| it.as_written.is_none()) {
        let refused = example(&[it.name, "--as-written"]).assert().code(2);
        refused.stderr(contains("nothing is wrong"));
    }
}

#[test]
fn the_list_and_the_help_name_them_all() {
    let (list, help) = (told(&["list"]), told(&["--help"]));
    for it in ALL {
        assert!(list.contains(it.name) && list.contains(it.source), "{list}");
        assert!(help.contains(it.name) && help.contains(it.about), "{help}");
    }
    example(&["no-such-example"]).assert().code(2);
}

#[test]
fn a_file_without_a_size_kills_both_sides() {
    let told = told(&["related", "--as-written"]);
    assert!(told.contains("SIGBUS for the one that writes"), "{told}");
}

#[test]
fn what_lies_behind_a_mapping_is_printed_with_it() {
    let story = example(&["print", "--as-written"]).assert().success();
    story.stdout(contains("4123 bytes are printed").and(contains("a password")));
}

#[test]
fn perror_after_a_call_that_succeeded_says_success() {
    let story = example(&["size-check", "--as-written"]).assert();
    story.stdout(contains("Success"));
}

#[test]
fn only_exit_runs_what_atexit_was_told() {
    let story = example(&["cleanup", "--as-written"]).assert().success();
    story.stdout(
        contains("with exit the handler runs")
            .and(contains("with _exit the handler does not run"))
            .and(contains("with SIGKILL the handler does not run")),
    );
}

#[test]
fn a_writer_and_a_reader_meet_in_a_file() {
    let told = told(&["writer-reader"]);
    assert!(told.contains("the reader prints: first words"), "{told}");
}

#[test]
fn actors_run_the_program_that_was_built_for_them_where_there_is_one() {
    let with = |actor| {
        let mut command = example(&["publish"]);
        command.env("MMAPDEMO_ACTOR", actor);
        command.assert()
    };
    with(cargo_bin("mmapdemo-actor"))
        .success()
        .stdout(contains("seen "));
    with("/no-such-actor".into())
        .code(70)
        .stderr(contains("/no-such-actor"));
}
