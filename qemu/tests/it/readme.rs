//! What the README promises is there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use lab::cli::Cli;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn readme() -> String {
    fs::read_to_string(project().join("README.md")).unwrap()
}

/// What stands between backticks and begins with `prefix`, without it.
fn commands<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter_map(|quoted| quoted.strip_prefix(prefix))
        .collect()
}

#[test]
fn every_lab_command_of_the_readme_exists_with_its_options() {
    let readme = readme();
    let commands = commands(&readme, "cargo lab ");
    assert!(commands.len() >= 6, "{commands:?}");
    for command in commands {
        let own = command.split(" -- ").next().unwrap();
        let mut words = own.split_whitespace();
        let name = words.next().unwrap();
        if name == "help" {
            continue;
        }
        let lab = Cli::command();
        let subcommand = lab.find_subcommand(name);
        let subcommand = subcommand.unwrap_or_else(|| panic!("no `cargo lab {name}`"));
        for option in words.filter_map(|word| word.strip_prefix("--")) {
            let known = |command: &clap::Command| {
                command
                    .get_arguments()
                    .any(|argument| argument.get_long() == Some(option))
            };
            assert!(
                known(subcommand) || known(&lab),
                "no --{option} of `cargo lab {name}`"
            );
        }
    }
}

#[test]
fn every_script_of_the_readme_can_be_run() {
    for script in ["scripts/demo", "scripts/test"] {
        assert!(readme().contains(script));
        let mode = fs::metadata(project().join(script))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o111, 0o111, "{script}");
    }
}

/// How often a line that begins like this is in the claims.
fn nr_lines(beginning: &str) -> usize {
    let files = fs::read_dir(project().join("userspace/claims")).unwrap();
    let in_file = |file: PathBuf| {
        let claims = fs::read_to_string(file).unwrap();
        let lines = claims.lines();
        lines.filter(|line| line.starts_with(beginning)).count()
    };
    files.map(|file| in_file(file.unwrap().path())).sum()
}

#[test]
fn the_readme_counts_the_claims_as_they_are() {
    let planned = nr_lines("[[claim]]");
    let skipped = nr_lines("needs = [\"external-software\"]");
    let run = planned - skipped;
    let shown = format!(
        "{planned} claims planned, {run} run: {run} as expected, 0 not as expected; {skipped} skipped"
    );
    assert!(readme().contains(&shown), "{shown}");
    assert!(readme().contains(&format!("{planned} things that people write")));
}

#[test]
fn every_file_that_the_readme_links_to_is_there() {
    let readme = readme();
    let links: Vec<&str> = readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert!(links.len() >= 5, "{links:?}");
    for link in links.iter().filter(|link| !link.contains("://")) {
        assert!(project().join(link).exists(), "{link}");
    }
}
