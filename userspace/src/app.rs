//! App: does what the command line says.

use std::io::{self, Read, Write};

use clap::CommandFactory;

use crate::catalogue::CatalogueError;
use crate::claim::Claim;
use crate::cli::{self, Cli, Command, List};
use crate::device::{DEFAULT_NODES, Device};
use crate::error::Error;
use crate::exit_code::ExitCode;
use crate::report::listing;
use crate::report::style::Style;
use crate::{example, experiment, message, stress};

mod claims;
mod results;
mod scenarios;
mod tracing;
mod trials;

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
    /// A scenario that there is not.
    #[error("no scenario {0}; `mmapdemo scenario --list` names them")]
    NoScenario(String),
    /// An example that has no flaw to show.
    #[error("nothing is wrong with {0} as it was written; run it without --as-written")]
    Flawless(String),
    /// The lab broke.
    #[error(transparent)]
    Lab(#[from] Error),
}

impl Failure {
    /// The status that goes with it.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Claims { .. }
            | Self::Unreadable { .. }
            | Self::NoScenario(_)
            | Self::Flawless(_) => ExitCode::Usage,
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
    let device = || cli.device.first().map(std::path::PathBuf::as_path);
    let device = device().unwrap_or_else(|| std::path::Path::new(""));
    match &cli.command {
        Command::Run(options) => trials::test(cli, options),
        Command::List(options) => list(cli, options),
        Command::Explain { claim } => trials::explain(cli, claim),
        Command::Requirements { ids } => trials::requirements(cli, ids),
        Command::Observe(options) => trials::observe(cli, options),
        Command::Scenario(options) => scenarios::scenario(cli, options),
        Command::Writer(options) => Ok(message::write(device, options)?),
        Command::Reader(options) => Ok(message::read(device, options)?),
        Command::Example(options) => example(options),
        Command::Stress(options) => stress(options),
        Command::Trace(options) => tracing::trace(cli, options),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "mmapdemo", &mut text);
            print(&String::from_utf8_lossy(&text))?;
            Ok(ExitCode::AsExpected)
        }
        Command::Man => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
            rendered.map_err(Error::file("write", "the manual page"))?;
            print(&String::from_utf8_lossy(&page))?;
            Ok(ExitCode::AsExpected)
        }
    }
}

fn list(cli: &Cli, options: &List) -> Result<ExitCode, Failure> {
    let catalogue = claims::catalogue(cli, &experiment::all(), &[])?;
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
            && options
                .needs_only
                .as_ref()
                .is_none_or(|needs| claim.needs.iter().all(|need| needs.contains(need)))
            && options.document.as_ref().is_none_or(|document| {
                claim
                    .sources
                    .iter()
                    .any(|source| source.document == *document)
            })
    };
    print(&if options.ids {
        listing::ids(&catalogue, wanted)
    } else {
        listing::render(&catalogue, wanted, style)
    })?;
    Ok(ExitCode::AsExpected)
}

fn example(options: &cli::Example) -> Result<ExitCode, Failure> {
    let Some(example) = example::find(&options.name) else {
        print(&example::list())?;
        return Ok(ExitCode::AsExpected);
    };
    let flawless = || Failure::Flawless(options.name.clone());
    let run = if options.as_written {
        example.as_written.ok_or_else(flawless)?
    } else {
        example.right
    };
    let story = run()?;
    print(&format!("{story}"))?;
    Ok(story.exit_code())
}

fn stress(options: &cli::Stress) -> Result<ExitCode, Failure> {
    let plan = stress::Plan {
        seed: options.seed.map_or_else(random_seed, Ok)?,
        time: options.seconds,
        nr_workers: options.workers.into(),
        round: options.round,
        only: options.only,
    };
    if let Some(why) = Device::new(DEFAULT_NODES[0]).unusable() {
        eprintln!("stress: {why}");
        return Ok(ExitCode::Skipped);
    }
    // First of all: whatever comes of it, this is how to have it again.
    print(&format!("seed {}\n", plan.seed))?;
    let report = plan.run(|round| {
        let _ = print(&format!("round {round}\n"));
    })?;
    print(&report.text(&plan))?;
    let good = report.violations.is_empty();
    if let Some(file) = &options.ktap {
        // After a violation no further round is begun.
        let partly = plan.round.is_some() || plan.only.is_some() || !good;
        results::write(file, &report.ktap(partly))?;
    }
    Ok(if good {
        ExitCode::AsExpected
    } else {
        ExitCode::NotAsExpected
    })
}

fn random_seed() -> Result<u64, Error> {
    let mut bytes = [0; size_of::<u64>()];
    let path = "/dev/urandom";
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(Error::file("read", path))?;
    Ok(u64::from_ne_bytes(bytes))
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
