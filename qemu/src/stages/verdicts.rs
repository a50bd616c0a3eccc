//! `lab report`: everything that a run found, as one page.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use super::reports::Destination;
use super::run;
use crate::cli::{Report, Run};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::verdicts::page;
use crate::verdicts::results::Results;
use crate::workshop::Workshop;

/// `lab report`.
///
/// # Errors
///
/// When a guest cannot be made or started; when the results cannot be read, or the page not written.
pub fn report(workshop: &Workshop<'_>, args: &Report) -> Result<ExitCode> {
    let html = Destination::begin(&args.html)?;
    let (file, code) = if let Some(file) = &args.from {
        (file.clone(), ExitCode::AsExpected)
    } else {
        let file = workshop.layout.project.join("target/lab/results.json");
        let code = run::run(workshop, &to_run(args, &file)?)?;
        (file, code)
    };
    let text = match fs::read_to_string(&file) {
        // The run has said why there is nothing.
        Err(error) if error.kind() == ErrorKind::NotFound && args.from.is_none() => {
            return Ok(code);
        }
        Err(error) => {
            let what = format!("failed to read {}: {error}", file.display());
            return Err(Failure::Usage(what).into());
        }
        Ok(text) => text,
    };
    let results = Results::parse(&text).map_err(|error| {
        let what = format!("failed to read {}: {error:#}", file.display());
        Failure::Usage(what)
    })?;
    html.write(page::render(&results).as_bytes())?;
    workshop
        .progress
        .note(&format!("  the report is {}", args.html.display()));
    Ok(code)
}

/// The run that brings the results into `file`.
fn to_run(args: &Report, file: &Path) -> Result<Run> {
    let made = file.parent().map_or(Ok(()), fs::create_dir_all);
    made.with_context(|| format!("failed to make room for {}", file.display()))?;
    Ok(Run {
        claims: args.claims.clone(),
        json: Some(file.to_owned()),
        ..Run::all(args.kernel.clone(), args.guest.clone())
    })
}
