//! App: does what the command line says.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::catalogue::{Catalogue, CatalogueError, ClaimsFile};
use crate::claim::Claim;
use crate::cli::{Cli, Command, List, Run};
use crate::device::Device;
use crate::error::Error;
use crate::exit_code::ExitCode;
use crate::experiment::{self, Experiment};
use crate::fixture::Fixture;
use crate::report::style::Style;
use crate::report::{explanation, json, ktap, listing, terminal};
use crate::run::{Outcome, Summary, run as run_claims};
use crate::surroundings::Surroundings;
use crate::{CLAIMS_OF_THE_DOCUMENTS, actor, message};

/// Why the program could not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The claims cannot be used.
    #[error("{file}: {source}")]
    Claims {
        /// Where they come from.
        file: String,
        /// What is wrong.
        source: Box<CatalogueError>,
    },
    /// A claims file that cannot be read.
    #[error("cannot read {file}: {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The lab broke.
    #[error(transparent)]
    Lab(#[from] Error),
}

impl Failure {
    /// The status that goes with it.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Claims { .. } | Self::Unreadable { .. } => ExitCode::Usage,
            Self::Lab(_) => ExitCode::LabBroke,
        }
    }
}

/// Does it.
///
/// # Errors
///
/// If the claims cannot be used or the lab broke as a whole.
pub fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    match &cli.command {
        Command::Run(options) => test(cli, options),
        Command::List(options) => list(cli, options),
        Command::Explain { claim } => explain(cli, claim),
        Command::Writer(options) => Ok(message::write(&cli.device, options)?),
        Command::Reader(options) => Ok(message::read(&cli.device, options)?),
        Command::Actor => {
            actor::serve()?;
            Ok(ExitCode::AsExpected)
        }
    }
}

fn catalogue(cli: &Cli, experiments: &[&Experiment]) -> Result<Catalogue, Failure> {
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

fn refused(cli: &Cli, error: CatalogueError) -> Failure {
    let file = cli.claims.as_ref().map(|file| file.display().to_string());
    let file = file.unwrap_or_else(|| "the built-in claims".to_owned());
    Failure::Claims {
        file,
        source: Box::new(error),
    }
}

fn test(cli: &Cli, options: &Run) -> Result<ExitCode, Failure> {
    let experiments = experiment::all();
    let catalogue = catalogue(cli, &experiments)?;
    let claims = catalogue
        .select(&options.ids)
        .map_err(|error| refused(cli, error))?;
    let fixture = Fixture::new(Device::new(&cli.device))?;
    let mut ktap = options
        .ktap
        .as_deref()
        .map(|file| Ktap::begin(file, claims.len()))
        .transpose()?;
    let surroundings = Surroundings::look(&Device::new(&cli.device))
        .map_err(Error::call("uname(2)", "the running kernel"))?;
    print(&format!("{surroundings}\n"))?;
    let mut lost = None;
    let findings = run_claims(&claims, &experiments, &fixture, |finding| {
        let Some(ktap) = &mut ktap else { return };
        lost = lost.take().or_else(|| ktap.add(finding).err());
    });
    if let Some(error) = lost {
        return Err(error.into());
    }
    if let Some(file) = &options.json {
        let report = json::render(&fixture.setting(), claims.len(), &findings);
        let report = report
            .map_err(io::Error::from)
            .map_err(Error::file("write", file))?;
        std::fs::write(file, report + "\n").map_err(Error::file("write", file))?;
    }
    print(&terminal::render(
        claims.len(),
        &findings,
        Style::for_stdout(cli.color),
    ))?;
    Ok(Summary::of(claims.len(), &findings).into())
}

/// KTAP on its way to a file, flushed line by line: after a crash the missing lines tell.
struct Ktap {
    file: File,
    name: std::path::PathBuf,
    lines: usize,
}

impl Ktap {
    /// Makes a file or opens a character device, such as a virtio port, which cannot be truncated.
    fn begin(file: &Path, planned: usize) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.write(true);
        if !file.exists() || file.is_file() {
            options.create(true).truncate(true);
        }
        let opened = options.open(file).map_err(Error::file("open", file))?;
        let mut ktap = Self {
            file: opened,
            name: file.to_owned(),
            lines: 0,
        };
        ktap.write(&ktap::head(planned))?;
        Ok(ktap)
    }

    fn add(&mut self, finding: &crate::run::Finding<'_>) -> Result<(), Error> {
        self.lines += 1;
        self.write(&ktap::line(self.lines, finding))
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        let written = self
            .file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.flush());
        written.map_err(Error::file("write", &self.name))
    }
}

fn list(cli: &Cli, options: &List) -> Result<ExitCode, Failure> {
    let catalogue = catalogue(cli, &experiment::all())?;
    let style = Style::for_stdout(cli.color);
    let wanted = |claim: &Claim| {
        options
            .verdict
            .is_none_or(|verdict| claim.expected == verdict.into())
            && options
                .group
                .as_ref()
                .is_none_or(|group| claim.group == *group)
            && options
                .object
                .is_none_or(|object| claim.object == object.into())
            && options.document.as_ref().is_none_or(|document| {
                claim
                    .sources
                    .iter()
                    .any(|source| source.document == *document)
            })
    };
    print(&listing::render(&catalogue, wanted, style))?;
    Ok(ExitCode::AsExpected)
}

fn explain(cli: &Cli, id: &str) -> Result<ExitCode, Failure> {
    let experiments = experiment::all();
    let catalogue = catalogue(cli, &experiments)?;
    let claim = catalogue.find(id).map_err(|error| refused(cli, error))?;
    let fixture = Fixture::new(Device::new(&cli.device))?;
    let findings = run_claims(&[claim], &experiments, &fixture, |_| {});
    let experiment = experiments
        .iter()
        .find(|experiment| experiment.name == claim.experiment);
    let style = Style::for_stdout(cli.color);
    for finding in &findings {
        print(&explanation::render(finding, experiment.copied(), style))?;
    }
    // To explain a claim that cannot be tried here is no failure.
    let skipped = findings
        .iter()
        .all(|finding| matches!(finding.result, Outcome::Skipped(_)));
    Ok(if skipped {
        ExitCode::AsExpected
    } else {
        Summary::of(1, &findings).into()
    })
}

/// A reader that went away, such as `head`, has seen what it wanted.
fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::file("write", "standard output")(error))
        }
        _ => Ok(()),
    }
}
