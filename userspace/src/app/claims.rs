//! Claims: the catalogue that the command line names.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::Failure;
use crate::CLAIMS_OF_THE_DOCUMENTS;
use crate::catalogue::{Catalogue, CatalogueError, ClaimsFile};
use crate::claim::Claim;
use crate::cli::Cli;
use crate::experiment::Experiment;

/// Reads and checks it, as far as the claims of these names take it; the whole if none is given.
pub(super) fn catalogue(
    cli: &Cli,
    experiments: &[&Experiment],
    ids: &[String],
) -> Result<Catalogue, Failure> {
    let Some(place) = &cli.claims else {
        let parsed = Catalogue::parse(&files_of(ids), experiments);
        return parsed.map_err(|error| refused(cli, error));
    };
    let texts = claims_files(place)?;
    let files: Vec<_> = texts
        .iter()
        .map(|(name, text)| ClaimsFile { name, text })
        .collect();
    Catalogue::parse(&files, experiments).map_err(|error| refused(cli, error))
}

/// The claims of these names; all if none is given.
pub(super) fn select<'a>(
    cli: &Cli,
    catalogue: &'a Catalogue,
    ids: &[String],
) -> Result<Vec<&'a Claim>, Failure> {
    catalogue.select(ids).map_err(|error| refused(cli, error))
}

/// The built-in files with these claims. Each file but the first is named after its group, and so are its claims; to read
/// all of them takes as many instructions as it takes to put a claim or two to the test.
fn files_of(ids: &[String]) -> Vec<ClaimsFile<'static>> {
    let [general, groups @ ..] = CLAIMS_OF_THE_DOCUMENTS else {
        return Vec::new();
    };
    let has_any = |file: &&ClaimsFile<'_>| {
        let group = Path::new(file.name).file_stem().and_then(OsStr::to_str);
        let is_in = |id: &String| id.split('-').next() == group;
        ids.iter().any(is_in)
    };
    let named: Vec<_> = groups.iter().filter(has_any).copied().collect();
    let wanted = if named.is_empty() { groups } else { &named };
    [&[*general], wanted].concat()
}

/// Names and contents of the file, or of the files of the directory, in the order of their names.
fn claims_files(place: &Path) -> Result<Vec<(String, String)>, Failure> {
    let unreadable = |file: &Path| {
        let file = file.display().to_string();
        |source| Failure::Unreadable { file, source }
    };
    let mut files = vec![place.to_owned()];
    if place.is_dir() {
        let listed = std::fs::read_dir(place).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let paths = listed.map_err(unreadable(place))?;
        files = paths.into_iter().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|it| it == "toml"));
        files.sort();
    }
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).map_err(unreadable(&file))?;
        Ok((file.display().to_string(), text))
    };
    files.into_iter().map(read).collect()
}

/// What is wrong with the claims that were given.
pub(super) fn refused(cli: &Cli, error: CatalogueError) -> Failure {
    let file = cli.claims.as_ref().map(|file| file.display().to_string());
    let file = file.unwrap_or_else(|| "the built-in claims".to_owned());
    Failure::Claims {
        file,
        source: Box::new(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment;

    #[test]
    fn every_claim_is_in_the_one_file_that_its_name_leads_to() {
        let experiments = experiment::all();
        let parse = |ids: &[String]| Catalogue::parse(&files_of(ids), &experiments).unwrap();
        let all = parse(&[]).claims;
        assert_eq!(files_of(&[]).len(), CLAIMS_OF_THE_DOCUMENTS.len());
        let mut found = 0;
        for group in CLAIMS_OF_THE_DOCUMENTS.iter().skip(1) {
            let inside = Catalogue::parse(&[CLAIMS_OF_THE_DOCUMENTS[0], *group], &experiments);
            for claim in inside.unwrap().claims {
                let files = files_of(&[claim.id.as_str().to_owned()]);
                let names = files.iter().map(|file| file.name);
                let expected = [CLAIMS_OF_THE_DOCUMENTS[0].name, group.name];
                assert!(names.eq(expected), "{}", claim.id);
                found += 1;
            }
        }
        assert_eq!(found, all.len());
    }

    #[test]
    fn a_name_that_leads_nowhere_is_looked_for_everywhere() {
        let nowhere = files_of(&["no-such-claim".to_owned()]);
        assert_eq!(nowhere.len(), CLAIMS_OF_THE_DOCUMENTS.len());
    }
}
