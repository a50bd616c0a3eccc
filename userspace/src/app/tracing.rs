//! Tracing: the functions behind an experiment or a program.

use std::io;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use nix::unistd::gettid;

use super::claims::{catalogue, refused};
use super::trials::fixtures;
use super::{Failure, print};
use crate::boot::Boot;
use crate::calls::{self, Memory, Step};
use crate::claim::{Claim, Object};
use crate::cli::{Cli, Trace};
use crate::error::{Error, Result};
use crate::exit_code::ExitCode;
use crate::experiment;
use crate::fixture::Fixture;
use crate::ftrace;
use crate::grapher::{Grapher, TRACER};
use crate::report;
use crate::report::style::{Mark, Style};
use crate::run;
use crate::tracer::Recording;

/// Trees have a few dozen levels at most.
const ALL_LEVELS: usize = usize::MAX;

/// `mmapdemo trace`.
pub(super) fn trace(cli: &Cli, options: &Trace) -> Result<ExitCode, Failure> {
    let experiments = experiment::all();
    let catalogue = catalogue(cli, &experiments, options.claim.as_slice())?;
    let claim = options.claim.as_deref().map(|id| catalogue.find(id));
    let claim = claim.transpose().map_err(|error| refused(cli, error))?;
    if let Some(why) = ftrace::missing(TRACER) {
        return Err(Failure::Lab(Error::Garbled {
            what: "the kernel".to_owned(),
            detail: format!("{why}; in a guest there is one: cargo lab trace"),
        }));
    }
    let grapher = Grapher::new(options.all)?;
    let text = match claim {
        Some(claim) => {
            let fixtures = fixtures(cli, Boot::Main, None)?;
            let places = run::places(claim, &fixtures);
            grapher.record(|recording| {
                places.iter().try_for_each(|fixture| {
                    let perform = || run::perform(claim, &experiments, fixture);
                    recording.step(&place(claim, fixture), perform)
                })
            })?
        }
        None => grapher.record(|recording| run_program(recording, options))?,
    };
    if options.raw {
        print(&text)?;
        return Ok(ExitCode::AsExpected);
    }
    let mut steps = calls::parse(&text)?;
    if claim.is_none() {
        // What this process did to start the program.
        let own = u32::try_from(gettid().as_raw()).unwrap_or_default();
        for step in &mut steps {
            step.entries.retain(|entry| entry.tid != own);
        }
    }
    show(cli, options, steps, claim, &grapher)?;
    Ok(ExitCode::AsExpected)
}

fn show(
    cli: &Cli,
    options: &Trace,
    steps: Vec<Step>,
    claim: Option<&Claim>,
    grapher: &Grapher,
) -> Result<()> {
    let style = Style::for_stdout(cli.color);
    let memory = options.memory.unwrap_or_else(|| usual(claim));
    let (steps, left_out) = calls::select(steps, memory);
    let depth = options.depth.map_or(ALL_LEVELS, usize::from);
    for step in &steps {
        print(&format!("{}\n", report::calls::render(step, depth, style)))?;
    }
    let mut notes = Vec::new();
    if left_out > 0 {
        notes.push(format!(
            "{left_out} system calls and faults about other memory are left out; --memory any shows them"
        ));
    }
    if memory == Memory::Device || memory == Memory::Files {
        notes.extend(grapher.lacks());
    }
    for note in notes {
        print(&format!("{}\n", style.mark(Mark::Faint, &note)))?;
    }
    Ok(())
}

/// Which memory a claim is about.
fn usual(claim: Option<&Claim>) -> Memory {
    match claim.map(|claim| claim.object) {
        Some(Object::Device) => Memory::Device,
        None | Some(Object::File | Object::Disk | Object::DevZero | Object::SharedMemory) => {
            Memory::Files
        }
        Some(_) => Memory::Mapped,
    }
}

/// What a step is called.
fn place(claim: &Claim, fixture: &Fixture) -> String {
    if claim.object == Object::Device {
        format!("{} on {}", claim.id, fixture.device.node().display())
    } else {
        claim.id.to_string()
    }
}

/// Runs the program as the only step. Standard output is for the trees.
fn run_program(recording: &Recording<'_>, options: &Trace) -> Result<()> {
    let Some((program, args)) = options.argv.split_first() else {
        return Ok(());
    };
    let stderr = io::stderr().as_fd().try_clone_to_owned();
    let stderr = stderr.map_err(Error::file("duplicate", "standard error"))?;
    let mut command = Command::new(program);
    command.args(args).stdout(Stdio::from(stderr));
    let mut status = None;
    recording.step(&program.to_string_lossy(), || {
        let run = command.status();
        status = Some(run.map_err(Error::file("run", program))?);
        Ok(())
    })?;
    if let Some(status) = status.filter(|status| !status.success()) {
        eprintln!("mmapdemo: {}: {status}", program.to_string_lossy());
    }
    Ok(())
}
