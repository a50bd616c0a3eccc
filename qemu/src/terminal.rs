//! The host's terminal while the guest's shell is shown in it.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::process::{Pid, getpgrp};
use rustix::termios::{
    OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr,
    tcsetpgrp,
};
use signal_hook::consts::SIGWINCH;
use signal_hook::low_level::pipe;
use signal_hook::{SigId, low_level};

use crate::job::WindowSize;

/// What a guest without a terminal of a known size is told.
const USUAL_SIZE: WindowSize = WindowSize {
    rows: 24,
    columns: 80,
};

/// A terminal that passes every key on, Ctrl-C included. Dropping it restores the terminal.
///
/// The lab does this itself, not QEMU's `stdio`: a QEMU that is killed would leave the terminal raw.
#[derive(Debug)]
pub struct RawTerminal {
    terminal: OwnedFd,
    before: Termios,
}

impl RawTerminal {
    /// Makes `terminal` raw, if it is one.
    ///
    /// # Errors
    ///
    /// When its modes cannot be read or set.
    pub fn enter(terminal: &OwnedFd) -> Result<Option<Self>> {
        if !terminal.is_terminal() {
            return Ok(None);
        }
        let enter = || {
            let terminal = terminal.try_clone()?;
            let before = tcgetattr(&terminal)?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(&terminal, OptionalActions::Now, &raw)?;
            Ok::<_, io::Error>(Some(Self { terminal, before }))
        };
        enter().context("failed to make the terminal pass every key on")
    }
}

impl AsFd for RawTerminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Nothing can be done if the terminal itself is gone, which is how a closed window looks.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// The size of a terminal, or the usual one.
#[must_use]
pub fn size_of(terminal: impl AsFd) -> WindowSize {
    match tcgetwinsize(terminal) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => WindowSize {
            rows: size.ws_row,
            columns: size.ws_col,
        },
        _ => USUAL_SIZE,
    }
}

/// A listener to changes of the terminal's size.
#[derive(Debug)]
pub struct SizeChanges {
    registration: SigId,
    /// Readable after a change.
    pub changed: UnixStream,
}

impl SizeChanges {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a descriptor or the handler.
    pub fn listen() -> io::Result<Self> {
        let (changed, tell) = UnixStream::pair()?;
        tell.set_nonblocking(true)?;
        Ok(Self {
            registration: pipe::register(SIGWINCH, tell)?,
            changed,
        })
    }
}

impl Drop for SizeChanges {
    fn drop(&mut self) {
        low_level::unregister(self.registration);
    }
}

/// Whether the lab's standard input is a terminal that is in the hands of others: the shell has put the lab into the
/// background.
#[must_use]
pub fn is_in_use_by_others() -> bool {
    let terminal = io::stdin();
    terminal.is_terminal() && tcgetpgrp(&terminal).is_ok_and(|user| user != getpgrp())
}

/// The terminal in the hands of a program, such as a debugger, that is to get every key itself, Ctrl-C
/// included. Dropping it takes the terminal back, as it was.
#[derive(Debug)]
pub struct Loan {
    terminal: OwnedFd,
    owner: Pid,
    before: Termios,
}

impl Loan {
    /// Hands the lab's terminal to the process group `to`, if the lab has one and is in its foreground
    /// (tcsetpgrp(3)).
    ///
    /// # Errors
    ///
    /// When its modes cannot be read or set.
    pub fn to(to: Pid) -> io::Result<Option<Self>> {
        let terminal = io::stdin();
        let owner = getpgrp();
        if !terminal.is_terminal() || tcgetpgrp(&terminal) != Ok(owner) {
            return Ok(None);
        }
        let before = tcgetattr(&terminal)?;
        let mut modes = before.clone();
        // The shell that started the lab would not learn that only a part of it was suspended.
        modes.special_codes[SpecialCodeIndex::VSUSP] = 0;
        tcsetattr(&terminal, OptionalActions::Now, &modes)?;
        let loan = Self {
            terminal: terminal.as_fd().try_clone_to_owned()?,
            owner,
            before,
        };
        tcsetpgrp(&terminal, to)?;
        Ok(Some(loan))
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // Whoever is in the background is stopped by SIGTTOU when he sets what belongs to the terminal, unless he
        // blocks that signal.
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTTOU);
        let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK);
        // Nothing can be done if the terminal itself is gone, which is how a closed window looks.
        let _ = tcsetpgrp(&self.terminal, self.owner);
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
        if let Ok(before) = before {
            let _ = before.thread_set_mask();
        }
    }
}
