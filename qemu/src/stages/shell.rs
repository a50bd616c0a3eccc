//! `lab shell`: a person in the guest.

use std::env;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use anyhow::{Context, Result};

use crate::cli::Shell;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::job::{self, Job, Module, Work};
use crate::outcome::Outcome;
use crate::phase::Deadlines;
use crate::session::{self, Guest, Streams};
use crate::terminal;
use crate::workshop::{Workshop, copied_file, module_file};

/// `lab shell`.
///
/// # Errors
///
/// When there is no terminal, or the guest cannot be made or started.
pub fn shell(workshop: &Workshop<'_>, args: &Shell) -> Result<ExitCode> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let text =
            "a shell needs a terminal; for a script, use: cargo lab exec -- sh -c 'COMMANDS'";
        return Err(Failure::Usage(text.into()).into());
    }
    let copies = args
        .copy
        .iter()
        .map(|path| copied_file(path))
        .collect::<Result<Vec<_>>>()?;
    let built = workshop.build(&args.kernel)?;
    let mut files = vec![module_file(&built.module)];
    files.extend(copies);
    let shell = job::Shell {
        term: env::var("TERM").unwrap_or_else(|_| "vt100".into()),
        size: terminal::size_of(&stdin),
    };
    let guest = Guest {
        base: &workshop.base_archive(&built)?,
        files,
        job: Job {
            module: Some(Module::mmapdemo(args.insmod_args.join(" "))),
            work: Work::Shell(shell),
        },
        allowed: Vec::new(),
    };
    let machine = workshop.machine(&built.target, args.accel)?;
    let stdin = stdin
        .as_fd()
        .try_clone_to_owned()
        .context("failed to duplicate the terminal")?;
    let streams = Streams {
        stdin: Some(stdin),
        stdout: Box::new(io::stdout()),
        stderr: Box::new(io::stderr()),
    };
    // Nobody is hurried in a shell.
    let report = session::run(
        &machine,
        &guest,
        streams,
        &Deadlines {
            program: None,
            ..Default::default()
        },
    )?;
    Ok(match &report.outcome {
        Outcome::Completed => ExitCode::AsExpected,
        Outcome::Interrupted => return Err(Failure::Interrupted("running the shell".into()).into()),
        _ => {
            eprintln!("{}lab: {}", report.last_words(), report.outcome);
            ExitCode::LabBroke
        }
    })
}
