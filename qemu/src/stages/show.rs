//! `lab show`: scenarios played in a guest, recorded, and drawn.

use std::env;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::earlier::Earlier;
use super::reports::Destination;
use crate::boot::Boot;
use crate::cli::Show;
use crate::command::HostCommand;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::initramfs::GuestFile;
use crate::job::{Program, Work};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::programs::Programs;
use crate::report::{ProgramStatus, Report};
use crate::requirements::Requirements;
use crate::session::Streams;
use crate::show::page;
use crate::show::pager::{self, has_terminal};
use crate::show::recording::Recording;
use crate::show::text::Style;
use crate::stop::Stop;
use crate::workshop::Workshop;

/// What `mmapdemo scenario` exits with when it had to skip all.
const ALL_SKIPPED: i32 = 4;

/// `lab show`.
///
/// # Errors
///
/// When a guest cannot be made or started, or ends badly; when a recording cannot be read, or a file not written.
pub fn show(workshop: &Workshop<'_>, args: &Show) -> Result<ExitCode> {
    if args.list {
        let shown = workshop.progress.waiting("build the guest's programs");
        let programs = Programs::build(&workshop.layout, &workshop.stop)?;
        drop(shown);
        print!("{}", list(&programs, &workshop.stop)?);
        return Ok(ExitCode::AsExpected);
    }
    let begin = |file: &Option<_>| file.as_deref().map(Destination::begin).transpose();
    let (json, html) = (begin(&args.json)?, begin(&args.html)?);
    let text = match &args.from {
        Some(file) => read(file)?,
        None => record(workshop, args)?,
    };
    let recording = match &args.from {
        Some(file) => Recording::parse(&text).map_err(|error| {
            let what = format!("failed to read {}: {error:#}", file.display());
            anyhow::Error::from(Failure::Usage(what))
        }),
        None => Recording::parse(&text).context("failed to read what the guest recorded"),
    }?;
    let selected = recording.select(&args.scenarios);
    let recording = selected.map_err(|error| Failure::Usage(error.to_string()))?;
    let here = json.is_none() && html.is_none();
    if let Some(json) = json {
        json.write(text.as_bytes())?;
    }
    if let Some(html) = html {
        html.write(page::render(&recording).as_bytes())?;
    }
    if here {
        look(&recording)?;
    }
    Ok(judge(&recording))
}

/// What is to be said of the recording itself.
fn judge(recording: &Recording) -> ExitCode {
    let skipped = recording.scenarios.iter().filter(|it| it.skipped.is_some());
    for story in skipped.clone() {
        let why = story.skipped.as_deref().unwrap_or_default();
        eprintln!("lab: {} was not recorded: {why}", story.name);
    }
    match recording.nr_unseen() {
        0 if skipped.count() == recording.scenarios.len() => ExitCode::Skipped,
        0 => ExitCode::AsExpected,
        number => {
            eprintln!("lab: {number} things that were to be seen were not seen in this run");
            ExitCode::NotAsExpected
        }
    }
}

/// Shows it here: step by step to a person, in a row to a program.
fn look(recording: &Recording) -> Result<()> {
    let color = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if has_terminal() {
        return pager::page_through(recording, color);
    }
    let style = if io::stdout().is_terminal() {
        let width = crossterm::terminal::size().map_or(80, |(width, _)| usize::from(width));
        Style { width, color }
    } else {
        Style::plain()
    };
    let text = pager::plain(recording, style);
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Who went away, such as head(1), has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("failed to write to standard output")
        }
        _ => Ok(()),
    }
}

fn read(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file);
    text.map_err(|error| {
        Failure::Usage(format!("failed to read {}: {error}", file.display())).into()
    })
}

/// The names of the scenarios and their titles, a line each.
fn list(programs: &Programs, stop: &Stop) -> Result<String> {
    HostCommand::new("list the scenarios", &programs.mmapdemo)
        .args(["scenario", "--list"])
        .stdout(stop)
}

/// Boots as often as it takes, and returns what was recorded.
fn record(workshop: &Workshop<'_>, args: &Show) -> Result<String> {
    let names: Vec<_> = args.scenarios.iter().map(String::as_str).collect();
    let set_up = |programs: &Programs| {
        require_known(&names, programs, &workshop.stop)?;
        let text = HostCommand::new("learn what the scenarios take", &programs.mmapdemo)
            .args(["scenario", "--requirements"])
            .args(&names)
            .stdout(&workshop.stop)?;
        let required = Requirements::parse(&text)?;
        let kit = workshop.kit_for(required.of_the_kit(), &args.kernel)?;
        Ok((required, kit))
    };
    let (built, (required, kit)) = workshop.build_and(&args.kernel, set_up)?;
    let there = |boot: &Boot| {
        let play = ["mmapdemo", "scenario", "--boot", boot.name];
        play.iter()
            .chain(&names)
            .map(|&word| word.to_owned())
            .collect()
    };
    let asked = (&args.guest, there);
    let mut earlier = Earlier::boot_all(&required.boots, workshop, &built, kit.as_ref(), asked)?;
    let (mut files, mut command) = (
        Vec::new(),
        vec!["mmapdemo".to_owned(), "scenario".to_owned()],
    );
    for seen in &mut earlier {
        let path = format!("/lab/scenarios-{}.json", seen.boot.name);
        command.extend(["--recorded".to_owned(), path.clone()]);
        files.push(GuestFile::data(path, std::mem::take(&mut seen.records)));
    }
    command.extend(args.scenarios.iter().cloned());
    let program = Program {
        capture: true,
        ..Program::new(command)
    };
    let plan = Plan {
        accel: args.guest.accel,
        insmod_args: &args.guest.insmod_args,
        disks: earlier.into_iter().flat_map(|it| it.disks).collect(),
        ..Plan::new(&built, Work::Programs(vec![program]))
    };
    let plan = plan.files(files).extras(kit.as_ref(), required.extras)?;
    let plan = plan.time(args.guest.timeout());
    let report = plan.boot(workshop, Streams::outputs())?;
    recorded(&report)
}

/// What the guest of the main boot said, if all is well.
fn recorded(report: &Report) -> Result<String> {
    if report.outcome == Outcome::Interrupted {
        return Err(Failure::Interrupted("playing the scenarios".into()).into());
    }
    let program = report.programs.first();
    let status = program.and_then(|program| program.status.as_ref());
    match (&report.outcome, program, status) {
        (Outcome::Completed, Some(program), Some(ProgramStatus::Exited(0 | ALL_SKIPPED))) => {
            Ok(String::from_utf8_lossy(&program.stdout).into_owned())
        }
        (outcome, program, status) => {
            if let Some(program) = program {
                eprint!("{}", String::from_utf8_lossy(&program.stderr));
            }
            if *outcome != Outcome::Completed {
                eprint!("{}", report.last_words());
                bail!("{outcome}");
            }
            bail!("the scenarios broke: mmapdemo ended with {status:?}")
        }
    }
}

/// Refuses scenarios that the built program does not know, before a guest is booted for them.
fn require_known(names: &[&str], programs: &Programs, stop: &Stop) -> Result<()> {
    let list = list(programs, stop)?;
    let known: Vec<_> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    match names.iter().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => Err(Failure::Usage(format!(
            "no scenario {name}; there are {}",
            known.join(", ")
        ))
        .into()),
    }
}
