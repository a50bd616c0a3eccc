//! Host tools: run with a purpose, a deadline and ears for Ctrl-C; never left behind.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::failure::Failure;
use crate::interrupt;
use crate::stop::Stop;

/// How much of a failed tool's output its error message shows.
const TAIL_LINES: usize = 30;

/// A host tool that is about to run.
///
/// It gets a process group of its own, is killed with it when the lab stops waiting, and dies with the
/// lab even if that is killed by SIGKILL (`PR_SET_PDEATHSIG`, prctl(2)).
#[derive(Debug)]
pub struct HostCommand {
    purpose: String,
    program: OsString,
    command: Command,
    /// The command line as messages show it.
    shown: Vec<OsString>,
    /// What the lines begin with that are for the lab, not for people.
    status_prefix: Option<&'static str>,
    /// Whether Ctrl-C has to wait for the tool's own end.
    to_the_end: bool,
    timeout: Duration,
}

/// Which of a tool's two outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// How a tool ended, and what it said.
#[derive(Debug)]
pub struct Finished {
    /// Exit status or signal.
    pub status: ExitStatus,
    /// All of standard output.
    pub stdout: String,
    /// The last lines of both outputs, in the order in which they came.
    pub tail: String,
}

/// Whether each command is shown before it is run.
static VERBOSE: AtomicBool = AtomicBool::new(false);

/// From now on, shows each command before it is run, on standard error.
pub fn show_all() {
    VERBOSE.store(true, Ordering::Relaxed);
}

impl HostCommand {
    /// A run of `program`; `purpose` completes the sentence "failed to ...".
    pub fn new(purpose: impl Into<String>, program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&program);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
            .env("LC_ALL", "C")
            .env("PATH", search_path())
            .process_group(0);
        Self {
            purpose: purpose.into(),
            shown: vec![program.clone()],
            status_prefix: None,
            to_the_end: false,
            program,
            command,
            timeout: Duration::from_secs(30 * 60),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown.push(arg.as_ref().to_owned());
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(self, args: I) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Leaves what was given so far out of messages: the wrapping of a command that says more by itself.
    #[must_use]
    pub fn hide_wrapping(mut self) -> Self {
        self.shown.clear();
        self
    }

    /// Sets one variable of the tool's environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Removes one variable from the tool's environment.
    #[must_use]
    pub fn env_remove(mut self, key: &str) -> Self {
        self.command.env_remove(key);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Sets what standard input reads from (nothing, unless this is called).
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Sets how long the tool may take; half an hour, unless this is called.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Keeps lines that begin with `prefix` out of messages; `on_line` gets them all the same.
    #[must_use]
    pub fn status_lines(mut self, prefix: &'static str) -> Self {
        self.status_prefix = Some(prefix);
        self
    }

    /// Lets the tool come to its end when the lab is asked to stop: half done would be worse than done.
    #[must_use]
    pub fn to_the_end(mut self) -> Self {
        self.to_the_end = true;
        self
    }

    /// Runs the tool to its end, whatever its status, showing each line to `on_line` as it comes.
    ///
    /// # Errors
    ///
    /// When it cannot be started, overruns its time, or the lab is asked to stop.
    pub fn finish(
        mut self,
        stop: &Stop,
        mut on_line: impl FnMut(Stream, &str),
    ) -> Result<Finished> {
        find_program(&self.program).ok_or_else(|| Failure::SetUpMissing {
            what: format!(
                "failed to {}: no program `{}`",
                self.purpose,
                Path::new(&self.program).display()
            ),
            remedy: "cargo lab doctor    (says which package brings it)".into(),
        })?;
        if VERBOSE.load(Ordering::Relaxed) {
            eprintln!("  + {}", shown(&self.shown));
        }
        let child = self.command.spawn().with_context(|| {
            format!(
                "failed to {}: cannot start `{}`",
                self.purpose,
                shown(&self.shown)
            )
        })?;
        let mut running = Running(child);
        let until = Until {
            deadline: Instant::now() + self.timeout,
            stop: (!self.to_the_end).then_some(stop),
        };
        let mut output = Output::default();
        let prefix = self.status_prefix;
        running
            .read_to_end(&until, &mut |stream, line| {
                if !prefix.is_some_and(|prefix| line.starts_with(prefix)) {
                    output.keep(stream, line);
                }
                on_line(stream, line);
            })
            .map_err(|end| self.explain(end, &output.tail()))?;
        let status = running
            .0
            .wait()
            .with_context(|| format!("failed to {}", self.purpose))?;
        Ok(Finished {
            status,
            tail: output.tail(),
            stdout: output.stdout,
        })
    }

    /// Runs the tool and wants success from it.
    ///
    /// # Errors
    ///
    /// As [`Self::finish`], and when the tool fails: with its command line and the end of its output.
    pub fn run(self, stop: &Stop, on_line: impl FnMut(Stream, &str)) -> Result<Finished> {
        let (purpose, shown) = (self.purpose.clone(), shown(&self.shown));
        let finished = self.finish(stop, on_line)?;
        if finished.status.success() {
            return Ok(finished);
        }
        let how = match finished.status.signal() {
            Some(signal) => format!("was killed by signal {signal}"),
            None => format!("exited with {}", finished.status.code().unwrap_or(-1)),
        };
        Err(anyhow!(
            "failed to {purpose}: the command {how}\n  {shown}\n{}",
            finished.tail
        ))
    }

    /// Runs the tool, wants success, and returns its standard output.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub fn stdout(self, stop: &Stop) -> Result<String> {
        Ok(self.run(stop, |_, _| ())?.stdout)
    }

    fn explain(&self, end: End, tail: &str) -> anyhow::Error {
        let purpose = &self.purpose;
        match end {
            End::Interrupted => Failure::Interrupted(format!("about to {purpose}")).into(),
            End::Stopped => anyhow!(Cancelled(purpose.clone())),
            End::Overran => anyhow!(
                "failed to {purpose}: not done within {} s\n  {}\n{tail}",
                self.timeout.as_secs(),
                shown(&self.shown)
            ),
            End::Io(error) => {
                anyhow!(error).context(format!("failed to {purpose}: lost its output"))
            }
        }
    }
}

/// The end of a tool that was stopped because another job failed; that other job has the real error.
#[derive(Debug, thiserror::Error)]
#[error("gave up to {0}, because something else failed")]
pub struct Cancelled(String);

impl Cancelled {
    /// Nothing came of it; `purpose` completes the sentence "gave up to ...".
    pub(crate) fn to(purpose: &str) -> Self {
        Self(purpose.to_owned())
    }
}

/// Where `program` is found, as execvp(3) looks for it.
#[must_use]
pub fn find_program(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let program = Path::new(program.as_ref());
    if program.components().count() > 1 {
        return program.exists().then(|| program.to_owned());
    }
    std::env::split_paths(&search_path())
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// `PATH`, and the directories with tools such as chroot that Debian leaves out of an ordinary user's.
fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    path.push(":/usr/sbin:/sbin");
    path
}

/// A command line, for people.
fn shown(argv: &[OsString]) -> String {
    argv.iter()
        .map(|arg| arg.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Why a tool's output was not read to its end.
enum End {
    Interrupted,
    Stopped,
    Overran,
    Io(io::Error),
}

/// What ends the wait for a tool that does not end by itself.
struct Until<'a> {
    deadline: Instant,
    /// Requests to stop, together with signals; nothing for a tool that has to come to its end.
    stop: Option<&'a Stop>,
}

/// A tool that runs. Dropping it kills its whole process group and reaps it.
struct Running(Child);

impl Running {
    fn read_to_end(
        &mut self,
        until: &Until<'_>,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<(), End> {
        let mut out = self
            .0
            .stdout
            .take()
            .map(|pipe| Lines::new(Stream::Out, pipe));
        let mut err = self
            .0
            .stderr
            .take()
            .map(|pipe| Lines::new(Stream::Err, pipe));
        while out.is_some() || err.is_some() {
            let (ready_out, ready_err) = wait(out.as_ref(), err.as_ref(), until)?;
            if ready_out {
                Lines::advance(&mut out, on_line).map_err(End::Io)?;
            }
            if ready_err {
                Lines::advance(&mut err, on_line).map_err(End::Io)?;
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already reaped by `finish` on the good way out: then there is nothing to kill, and the
        // process group's number may belong to somebody else.
        if let Ok(None) = self.0.try_wait() {
            if let Ok(group) = i32::try_from(self.0.id()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let _ = self.0.wait();
        }
    }
}

/// Waits until one of the two outputs has something, and says which.
fn wait<A: AsFd, B: AsFd>(
    out: Option<&Lines<A>>,
    err: Option<&Lines<B>>,
    until: &Until<'_>,
) -> Result<(bool, bool), End> {
    let requests = until.stop.map(|stop| [interrupt::fd(), stop.fd()]);
    let requests = requests.iter().flatten();
    let mut fds: Vec<_> = requests
        .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
        .collect();
    fds.extend(out.map(|lines| PollFd::new(lines.pipe.as_fd(), PollFlags::POLLIN)));
    fds.extend(err.map(|lines| PollFd::new(lines.pipe.as_fd(), PollFlags::POLLIN)));
    let left = until.deadline.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Err(Errno::EINTR) => return Ok((false, false)),
        Err(errno) => return Err(End::Io(errno.into())),
        Ok(0) if left.is_zero() => return Err(End::Overran),
        Ok(_) => {}
    }
    let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
    let mut next = || ready.next().unwrap_or(false);
    if until.stop.is_some() && next() {
        return Err(End::Interrupted);
    }
    if until.stop.is_some() && next() {
        return Err(End::Stopped);
    }
    let ready_out = out.is_some() && next();
    let ready_err = err.is_some() && next();
    Ok((ready_out, ready_err))
}

/// One output pipe, cut into lines.
struct Lines<P> {
    stream: Stream,
    pipe: P,
    partial: Vec<u8>,
}

impl<P: Read> Lines<P> {
    fn new(stream: Stream, pipe: P) -> Self {
        Self {
            stream,
            pipe,
            partial: Vec::new(),
        }
    }

    /// Reads once (the pipe is known to be ready); at the end of the output, `lines` becomes `None`.
    fn advance(lines: &mut Option<Self>, on_line: &mut dyn FnMut(Stream, &str)) -> io::Result<()> {
        let Some(this) = lines else { return Ok(()) };
        let mut chunk = [0; 16 * 1024];
        let len = this.pipe.read(&mut chunk)?;
        this.partial.extend_from_slice(&chunk[..len]);
        while let Some(end) = this.partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = this.partial.drain(..=end).collect();
            on_line(
                this.stream,
                String::from_utf8_lossy(&line[..end]).trim_end_matches('\r'),
            );
        }
        if len == 0 {
            if !this.partial.is_empty() {
                on_line(this.stream, &String::from_utf8_lossy(&this.partial));
            }
            *lines = None;
        }
        Ok(())
    }
}

/// What is kept of a tool's output.
#[derive(Default)]
struct Output {
    stdout: String,
    last: VecDeque<String>,
}

impl Output {
    fn keep(&mut self, stream: Stream, line: &str) {
        if stream == Stream::Out {
            self.stdout.push_str(line);
            self.stdout.push('\n');
        }
        if self.last.len() == TAIL_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }

    fn tail(&self) -> String {
        self.last.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "  | {line}");
            text
        })
    }
}
