//! Scenarios: played as the command line says.

use super::trials::fixtures;
use super::{Failure, print, results};
use crate::cli::{Cli, Scenario};
use crate::error::Error;
use crate::exit_code::ExitCode;
use crate::scenario::recording::Recording;
use crate::scenario::{self, record};

/// `mmapdemo scenario`.
pub(super) fn scenario(cli: &Cli, options: &Scenario) -> Result<ExitCode, Failure> {
    let scenarios = scenario::select(&options.names).map_err(Failure::NoScenario)?;
    if options.list {
        let line = |it: &&scenario::Scenario| format!("{:<16} {}", it.name, it.title);
        let lines: Vec<_> = scenarios.iter().map(line).collect();
        print(&(lines.join("\n") + "\n"))?;
        return Ok(ExitCode::AsExpected);
    }
    if options.requirements {
        let needs = scenarios.iter().flat_map(|it| it.requirements());
        let needs: std::collections::BTreeSet<_> = needs.collect();
        let lines: String = needs.into_iter().map(|need| need + "\n").collect();
        print(&lines)?;
        return Ok(ExitCode::AsExpected);
    }
    let mut earlier = Recording::default();
    for file in &options.recorded {
        let text = std::fs::read_to_string(file).map_err(Error::file("read", file))?;
        earlier.scenarios.extend(Recording::parse(&text)?.scenarios);
    }
    let fixtures = fixtures(cli, options.boot, None)?;
    let Some(fixture) = fixtures.first() else {
        return Ok(ExitCode::Skipped);
    };
    let recording = record(&scenarios, fixture, &earlier)?;
    let text = recording.to_text()?;
    match &options.json {
        Some(file) => results::write(file, &text)?,
        None => print(&text)?,
    }
    let skipped = |story: &scenario::recording::Story| story.skipped.is_some();
    // What an earlier boot could not do, the main one says.
    let is_last = options.boot == crate::boot::Boot::Main;
    Ok(if is_last && recording.scenarios.iter().all(skipped) {
        ExitCode::Skipped
    } else {
        ExitCode::AsExpected
    })
}
