//! A terminal with a program on it, for tests that do what a person does there.

#![allow(dead_code, reason = "none of the test programs uses all of it")]

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use rexpect::process::wait::WaitStatus;
use rexpect::session::{PtySession, spawn_command};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// After that, what is waited for does not come.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// The terminal. Dropping it ends the program.
pub struct Screen(PtySession);

impl Screen {
    /// Starts a program on a terminal of so many rows and columns.
    pub fn start(program: &str, args: &[&str], (rows, columns): (u16, u16)) -> Self {
        let mut command = Command::new("sh");
        // The terminal has its size before the program looks.
        let script = r#"stty rows "$0" cols "$1" && shift && exec "$@""#;
        command.args(["-c", script, &rows.to_string(), &columns.to_string()]);
        command.arg(program).args(args).env("TERM", "xterm");
        let patience = PATIENCE.as_millis().try_into().unwrap();
        Self(spawn_command(command, Some(patience)).unwrap())
    }

    /// Waits until this text has come, and returns what came before it.
    pub fn see(&mut self, text: &str) -> String {
        let seen = self.0.exp_string(text);
        seen.unwrap_or_else(|error| unreachable!("{text:?} was not seen: {error}"))
    }

    /// Waits until something has come that matches, and returns it.
    pub fn see_like(&mut self, regex: &str) -> String {
        let seen = self.0.exp_regex(regex);
        let (_, found) = seen.unwrap_or_else(|error| unreachable!("{regex} was not seen: {error}"));
        found
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.0.send(keys).unwrap();
        self.0.flush().unwrap();
    }

    /// Types a line.
    pub fn enter(&mut self, line: &str) {
        self.press(&format!("{line}\r"));
    }

    /// Makes the terminal larger or smaller.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(self.0.process.get_file_handle().unwrap(), size).unwrap();
    }

    /// Whether the terminal passes lines on, and not each key.
    pub fn passes_lines_on(&self) -> bool {
        let modes = tcgetattr(self.0.process.get_file_handle().unwrap()).unwrap();
        modes.local_modes.contains(LocalModes::ICANON)
    }

    /// Waits for the program's end: its exit status, and what came before that.
    pub fn end(&mut self) -> (i32, String) {
        let rest = self.0.exp_eof().unwrap();
        match self.0.process.wait().unwrap() {
            WaitStatus::Exited(_, code) => (code, rest),
            other => unreachable!("the program ended otherwise: {other:?}; {rest}"),
        }
    }

    /// Sends the program a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.0.process.signal(signal).unwrap();
    }
}
