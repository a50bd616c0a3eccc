//! `lab shell`: a person in the guest.

use std::env;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use anyhow::{Context, Result};

use crate::cli::Shell;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::job::{self, Work};
use crate::outcome::Outcome;
use crate::plan::{self, Plan};
use crate::session::Streams;
use crate::terminal;
use crate::workshop::Workshop;

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
    let copies = plan::copied_files(&args.copy)?;
    let (accel, furnishing) = (args.accel, &args.furnishing);
    let (built, kit, start) =
        super::furnished(workshop, &args.kernel, (accel, furnishing, args.warm))?;
    let shell = job::Shell {
        term: env::var("TERM").unwrap_or_else(|_| "vt100".into()),
        size: terminal::size_of(&stdin),
    };
    let plan = Plan {
        accel,
        insmod_args: &args.insmod_args,
        // Nobody is hurried in a shell.
        timeout: None,
        start,
        ..Plan::new(&built, Work::Shell(shell))
    };
    let plan = plan.files(copies).furnish(furnishing, kit.as_ref())?;
    let stdin = stdin
        .as_fd()
        .try_clone_to_owned()
        .context("failed to duplicate the terminal")?;
    let streams = Streams {
        stdin: Some(stdin),
        ..Streams::outputs()
    };
    let report = plan.boot(workshop, streams)?;
    Ok(match &report.outcome {
        Outcome::Completed => ExitCode::AsExpected,
        Outcome::Interrupted => return Err(Failure::Interrupted("running the shell".into()).into()),
        _ => {
            eprintln!("{}lab: {}", report.last_words(), report.outcome);
            ExitCode::LabBroke
        }
    })
}
