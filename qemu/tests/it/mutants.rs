//! The kill matrix that is kept: it has each mutant, and each was caught.

use std::fs;
use std::path::Path;

use lab::patch::{MUTANTS, Patch};

#[test]
fn the_matrix_has_each_mutant_once_and_none_survived() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let document = fs::read_to_string(project.join("docs/mutants.md")).unwrap();
    let rows = document
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .skip(1); // the heads of the columns
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
    let mutants = Patch::all(&project.join(MUTANTS)).unwrap();
    let kept: Vec<_> = rows.iter().map(|row| [row[0], row[1], row[2]]).collect();
    let expected: Vec<_> = mutants
        .iter()
        .map(|mutant| [mutant.name.as_str(), &mutant.sentence, "caught"])
        .collect();
    assert_eq!(kept, expected, "`cargo lab mutants --write` writes it anew");
    for row in rows {
        let noticed = row[3..].iter().any(|cell| !cell.trim().is_empty());
        assert!(noticed, "nobody is named: {row:?}");
    }
}
