//! `lab completions` and `lab man`: the command line, for shells and for man(1).

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;

use crate::cli::Cli;
use crate::exit_code::ExitCode;

/// `lab completions`.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn completions(shell: clap_complete::Shell) -> Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lab", &mut text);
    print(&text)
}

/// `lab man`.
///
/// # Errors
///
/// When the pages cannot be written.
pub fn man(dir: Option<&Path>) -> Result<ExitCode> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
        rendered.context("failed to write the manual page")?;
        return print(&page);
    };
    let written =
        std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
    written.with_context(|| format!("failed to write manual pages to {}", dir.display()))?;
    Ok(ExitCode::AsExpected)
}

/// A reader that went away, such as `head`, has seen what it wanted.
fn print(text: &[u8]) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("failed to write to standard output")
        }
        _ => Ok(ExitCode::AsExpected),
    }
}
