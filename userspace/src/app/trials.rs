//! Trials: claims put to the test as the command line says.

use std::hint::black_box;
use std::path::Path;
use std::rc::Rc;

use super::claims::{catalogue, refused, select};
use super::results::{self, Ktap};
use super::{Failure, print};
use crate::actor::Troupe;
use crate::boot::Boot;
use crate::catalogue::Catalogue;
use crate::cli::{Cli, Observe, Run};
use crate::device::Device;
use crate::error::Error;
use crate::exit_code::ExitCode;
use crate::experiment::{self, Experiment};
use crate::fixture::Fixture;
use crate::object::MemFile;
use crate::record::Records;
use crate::report::style::Style;
use crate::report::terminal::{self, Detail};
use crate::report::{explanation, json, junit, ktap};
use crate::run::{self, Finding, Standing, Summary};
use crate::standby;
use crate::surroundings::Surroundings;
use crate::sys::PAGE_SIZE;

/// One fixture for each node, in the order of the command line.
pub(super) fn fixtures(
    cli: &Cli,
    boot: Boot,
    recorded: Option<&Path>,
) -> Result<Vec<Fixture>, Error> {
    let records = match recorded {
        None => Records::default(),
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(Error::file("read", file))?;
            Records::parse(&text)?
        }
    };
    let mut devices = cli.device.iter().map(Device::new);
    let Some(first) = devices.next() else {
        return Ok(Vec::new());
    };
    let first = Fixture::new(first)?.in_boot(boot, records);
    let others: Vec<_> = devices.map(|device| first.with_device(device)).collect();
    Ok(std::iter::once(first).chain(others).collect())
}

/// `mmapdemo run`.
pub(super) fn test(cli: &Cli, options: &Run) -> Result<ExitCode, Failure> {
    let experiments = experiment::all();
    let catalogue = catalogue(cli, &experiments, &options.ids)?;
    let claims = select(cli, &catalogue, &options.ids)?;
    let detail = if options.details || !options.ids.is_empty() {
        Detail::Paragraph
    } else {
        Detail::Line
    };
    let style = Style::for_stdout(cli.color);
    let troupe = Rc::default();
    standby::wait(|| {
        let (_file, fixture) = stand_in(&troupe)?;
        let findings = run::rehearse(&claims, &experiments, &fixture);
        // What is made of it nobody reads, either.
        black_box(fixtures(cli, Boot::Main, None)?);
        black_box(Surroundings::look(&fixture.device).map(|it| it.to_string())).ok();
        for finding in &findings {
            black_box(ktap::line(1, finding));
        }
        black_box(terminal::render(claims.len(), &findings, detail, style));
        Ok(())
    })?;
    let fixtures = fixtures(cli, Boot::Main, options.recorded.as_deref())?.into_iter();
    let fixtures: Vec<_> = fixtures
        .map(|it| it.with_troupe(Rc::clone(&troupe)))
        .collect();
    let mut ktap = options
        .ktap
        .as_deref()
        .map(|file| Ktap::begin(file, claims.len()))
        .transpose()?;
    if let Some(first) = fixtures.first() {
        let surroundings = Surroundings::look(&first.device)
            .map_err(Error::call("uname(2)", "the running kernel"))?;
        print(&format!("{surroundings}\n"))?;
    }
    let mut lost = None;
    let findings = run::run(&claims, &experiments, &fixtures, |finding| {
        let Some(ktap) = &mut ktap else { return };
        lost = lost.take().or_else(|| ktap.add(finding).err());
    });
    if let Some(error) = lost {
        return Err(error.into());
    }
    write_reports(options, &catalogue, &experiments, &fixtures, &findings)?;
    print(&terminal::render(claims.len(), &findings, detail, style))?;
    Ok(Summary::of(claims.len(), &findings).into())
}

fn write_reports(
    options: &Run,
    catalogue: &Catalogue,
    experiments: &[&Experiment],
    fixtures: &[Fixture],
    findings: &[Finding<'_>],
) -> Result<(), Error> {
    let release = fixtures.first().map_or("", |first| &first.release);
    let unwritable = |file: &Path, error: String| Error::Garbled {
        what: format!("the report for {}", file.display()),
        detail: error,
    };
    if let Some(file) = &options.json {
        let report = json::render(release, catalogue, experiments, findings);
        let report = report.map_err(|error| unwritable(file, error.to_string()))?;
        results::write(file, &(report + "\n"))?;
    }
    if let Some(file) = &options.junit {
        let report = junit::render(release, catalogue, findings);
        let report = report.map_err(|error| unwritable(file, error.to_string()))?;
        results::write(file, &report)?;
    }
    Ok(())
}

/// `mmapdemo observe`.
pub(super) fn observe(cli: &Cli, options: &Observe) -> Result<ExitCode, Failure> {
    let experiments = experiment::all();
    let catalogue = catalogue(cli, &experiments, &options.ids)?;
    let claims = select(cli, &catalogue, &options.ids)?;
    let fixtures = fixtures(cli, options.boot, None)?;
    run::observe(&claims, &experiments, &fixtures, |record| {
        print(&record.to_line()?)
    })?;
    Ok(ExitCode::AsExpected)
}

/// What these actors rehearse with, while there is no device.
fn stand_in(troupe: &Rc<Troupe>) -> Result<(MemFile, Fixture), Error> {
    let file = MemFile::new(PAGE_SIZE)?;
    let fixture = Fixture::new(Device::stand_in(file.path()))?;
    Ok((file, fixture.with_troupe(Rc::clone(troupe))))
}

/// `mmapdemo requirements`.
pub(super) fn requirements(cli: &Cli, ids: &[String]) -> Result<ExitCode, Failure> {
    let catalogue = catalogue(cli, &experiment::all(), ids)?;
    let claims = select(cli, &catalogue, ids)?;
    let mut needs: Vec<_> = claims.iter().flat_map(|claim| &claim.needs).collect();
    needs.sort();
    needs.dedup();
    let lines: String = needs.iter().map(|need| need.requirement() + "\n").collect();
    print(&lines)?;
    Ok(ExitCode::AsExpected)
}

/// `mmapdemo explain`.
pub(super) fn explain(cli: &Cli, id: &str) -> Result<ExitCode, Failure> {
    let experiments = experiment::all();
    let catalogue = catalogue(cli, &experiments, &[id.to_owned()])?;
    let claim = catalogue.find(id).map_err(|error| refused(cli, error))?;
    let fixtures = fixtures(cli, Boot::Main, None)?;
    let findings = run::run(&[claim], &experiments, &fixtures, |_| {});
    let mut named = experiments.iter();
    let experiment = named.find(|experiment| experiment.name == claim.experiment);
    let style = Style::for_stdout(cli.color);
    for finding in &findings {
        print(&explanation::render(finding, experiment.copied(), style))?;
    }
    // To explain a claim that cannot be tried here is no failure.
    let skipped = findings
        .iter()
        .all(|finding| finding.standing() == Standing::Skipped);
    Ok(if skipped {
        ExitCode::AsExpected
    } else {
        Summary::of(1, &findings).into()
    })
}
