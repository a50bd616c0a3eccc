//! `lab new`: the tree that a student starts from.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::editor::PROJECT_FILE;
use crate::cli::course::New;
use crate::course::Course;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::patch::{EXERCISES, MUTANTS, Patch, Sources};
use crate::workshop::Workshop;

const README: &str = include_str!("../../../docs/labs/start.md");

/// `lab new`.
///
/// # Errors
///
/// When the directory holds something already, or cannot be written.
pub fn new(workshop: &Workshop<'_>, args: &New) -> Result<ExitCode> {
    let project = &workshop.layout.project;
    let mut sources = Sources::read(project)?;
    let what = if let Some(number) = args.bug {
        sources.apply(&bug(Patch::all(&project.join(MUTANTS))?, number)?)?;
        "a driver with one mistake in it"
    } else {
        for exercise in Patch::all(&project.join(EXERCISES))? {
            sources.apply(&exercise)?;
        }
        "an unfinished driver"
    };
    let dir = &args.dir;
    require_empty(dir)?;
    sources.write(dir)?;
    let answers = Course::read()?.answer_sheet();
    for (name, text) in [
        ("README.md", README),
        ("answers.toml", &answers),
        (".gitignore", &format!("/target/\n/{PROJECT_FILE}\n")),
    ] {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    }
    println!("{}: {what}", dir.display());
    println!("next step: cargo lab grade {}", dir.display());
    Ok(ExitCode::AsExpected)
}

/// The mistake with this number, counted from 1, in an order that tells nothing about it.
fn bug(mut mutants: Vec<Patch>, number: usize) -> Result<Patch> {
    mutants.sort_by_key(|mutant| Sha256::digest(&mutant.name));
    let count = mutants.len();
    let chosen = number
        .checked_sub(1)
        .and_then(|index| mutants.into_iter().nth(index));
    let none = || {
        Failure::Usage(format!(
            "there is no bug {number}; they are numbered 1 to {count}"
        ))
    };
    Ok(chosen.ok_or_else(none)?)
}

fn require_empty(dir: &Path) -> Result<()> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(mut entries) => {
            if entries.next().is_none() {
                return Ok(());
            }
            let message = format!("{} is not empty; name a new directory", dir.display());
            Err(Failure::Usage(message).into())
        }
        Err(error) => {
            Err(error).with_context(|| format!("failed to read the directory {}", dir.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_number_and_the_numbers_tell_nothing() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mutants = Patch::all(&project.join(MUTANTS)).unwrap();
        let count = mutants.len();
        let bug = |number| bug(mutants.clone(), number);
        let mut names: Vec<String> = (1..=count).map(|n| bug(n).unwrap().name).collect();
        assert!(!names.is_sorted());
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(bug(0).is_err());
        assert!(bug(count + 1).is_err());
    }

    #[test]
    fn only_a_directory_without_contents_will_do() {
        let dir = tempfile::tempdir().unwrap();
        assert!(require_empty(dir.path()).is_ok());
        assert!(require_empty(&dir.path().join("new")).is_ok());
        fs::write(dir.path().join("x"), "").unwrap();
        assert!(require_empty(dir.path()).is_err());
        assert!(require_empty(&dir.path().join("x")).is_err());
    }
}
