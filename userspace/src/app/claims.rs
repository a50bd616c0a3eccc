//! Claims: the catalogue that the command line names.

use std::io;
use std::path::{Path, PathBuf};

use super::Failure;
use crate::CLAIMS_OF_THE_DOCUMENTS;
use crate::catalogue::{Catalogue, CatalogueError, ClaimsFile};
use crate::claim::Claim;
use crate::cli::Cli;
use crate::experiment::Experiment;

/// Reads and checks it.
pub(super) fn catalogue(cli: &Cli, experiments: &[&Experiment]) -> Result<Catalogue, Failure> {
    let Some(place) = &cli.claims else {
        let parsed = Catalogue::parse(CLAIMS_OF_THE_DOCUMENTS, experiments);
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
