//! Example: the programs of the documents, done right; and, where one is wrong, as it was written.
//!
//! Each file holds one program. Its `right` is how to do it, and its `as_written` goes the way of the document on
//! purpose, so that one can watch where that leads: what crashes does so in a child, whose end the parent explains.

use clap::builder::PossibleValue;

use crate::error::Result;

mod anonymous;
mod anonymous_ipc;
mod child;
mod cleanup;
mod copy;
mod flag;
mod maps;
mod print;
mod publish;
mod readonly;
mod related;
mod settings;
mod shared_file;
mod size_check;
mod story;
mod write_sizes;
mod writer_reader;

pub use story::Story;

/// A program of the documents.
#[derive(Debug)]
pub struct Example {
    /// The name by which it is run.
    pub name: &'static str,
    /// Which document has it, and where.
    pub source: &'static str,
    /// What it does, in half a sentence.
    pub about: &'static str,
    /// Does it right.
    pub right: fn() -> Result<Story>,
    /// Does it as the document does; `None` if nothing is wrong with that.
    pub as_written: Option<fn() -> Result<Story>>,
}

/// All of them, in the order of the documents.
pub const ALL: [&Example; 15] = [
    &shared_file::EXAMPLE,
    &anonymous_ipc::EXAMPLE,
    &readonly::EXAMPLE,
    &cleanup::EXAMPLE,
    &publish::EXAMPLE,
    &flag::EXAMPLE,
    &size_check::EXAMPLE,
    &print::EXAMPLE,
    &related::EXAMPLE,
    &writer_reader::EXAMPLE,
    &copy::EXAMPLE,
    &write_sizes::EXAMPLE,
    &anonymous::EXAMPLE,
    &maps::EXAMPLE,
    &settings::EXAMPLE,
];

/// The name that stands for the list of them.
pub const LIST: &str = "list";

/// Their names, and what each does.
#[must_use]
pub fn names() -> Vec<PossibleValue> {
    let name = |example: &&Example| PossibleValue::new(example.name).help(example.about);
    let list = PossibleValue::new(LIST).help("list them, and where they come from");
    ALL.iter().map(name).chain([list]).collect()
}

/// The one of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Example> {
    ALL.into_iter().find(|example| example.name == name)
}

/// One line for each.
#[must_use]
pub fn list() -> String {
    let line = |example: &Example| {
        let Example {
            name,
            source,
            about,
            ..
        } = example;
        let flawed = if example.as_written.is_some() {
            "--as-written"
        } else {
            ""
        };
        format!("{name:<15} {source:<24} {flawed:<12} {about}\n")
    };
    ALL.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let names: HashSet<_> = ALL.iter().map(|example| example.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|example| find(example.name).is_some()));
        assert!(find(LIST).is_none());
    }
}
