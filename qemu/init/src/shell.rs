//! A shell on the guest's terminal.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Error, Result, bail};
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::children::{Children, Wake};
use crate::job::{self, Event, Shell, WindowSize};
use crate::ports::Control;
use crate::{LOGIN, programs};

/// The terminal: the virtio console, which the lab shows in its own.
const TERMINAL: &str = "/dev/hvc0";

/// Runs the shell until the person leaves it.
pub(crate) fn run(shell: &Shell, children: &Children, control: &mut Control) -> Result<()> {
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open(TERMINAL)
        .with_context(|| format!("failed to open {TERMINAL}"))?;
    resize(&terminal, shell.size)?;
    let mut command = Command::new("/proc/self/exe");
    programs::environment(&mut command);
    command
        .arg(LOGIN)
        .env("TERM", &shell.term)
        .env("LANG", "C.UTF-8")
        .current_dir("/root");
    command
        .stdin(terminal.try_clone()?)
        .stdout(terminal.try_clone()?)
        .stderr(terminal.try_clone()?);
    let child = command.spawn().context("failed to start the shell")?;
    control.say(&Event::Started { program: 0 })?;
    let pid = programs::pid(&child)?;
    loop {
        match children.wait_for(pid, control)? {
            Wake::Command(job::Command::Resize(size)) => resize(&terminal, size)?,
            Wake::Command(job::Command::Bye) | Wake::PowerOff => return Ok(()),
            Wake::Command(
                command @ (job::Command::Wake { .. }
                | job::Command::Rehearse { .. }
                | job::Command::Begin { .. }
                | job::Command::Go
                | job::Command::Describe),
            ) => {
                bail!("the host said {command:?} to a shell")
            }
            Wake::Ended(status) => {
                let code = status.exit_status().unwrap_or_default();
                return control.say(&Event::Exited { program: 0, code });
            }
        }
    }
}

/// Tells the terminal its size; the kernel tells the programs by SIGWINCH.
fn resize(terminal: &File, size: WindowSize) -> Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).with_context(|| format!("failed to set the size of {TERMINAL}"))
}

/// Becomes a login shell that leads a session on its terminal, which job control needs
/// (credentials(7)). Returns only with an error.
pub(crate) fn login() -> Error {
    let become_shell = || -> Result<Infallible> {
        let terminal = std::io::stdin();
        setsid().context("failed to lead a session")?;
        ioctl_tiocsctty(&terminal).context("failed to get a controlling terminal")?;
        let mut modes = tcgetattr(&terminal)?;
        modes.input_modes |= InputModes::IUTF8; // the erase key removes characters, not bytes
        tcsetattr(&terminal, OptionalActions::Now, &modes)?;
        Err(Command::new("/bin/sh").arg0("-sh").exec()).context("failed to become /bin/sh")
    };
    match become_shell() {
        Err(error) => error,
        Ok(never) => match never {},
    }
}
