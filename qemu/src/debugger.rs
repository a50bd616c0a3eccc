//! A debugger for the guest's kernel: where it finds the guest, what it is told, and its process.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use command_fds::{CommandFdExt, FdMapping};
use nix::unistd::pipe2;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

pub use self::place::Place;
use crate::job::Section;
use crate::terminal::{self, Loan};

mod place;

/// Under which descriptor gdb's process finds the gate that it waits at.
const GATE_FD: i32 = 3;

/// Waits until the lab has let go of the gate, and becomes gdb: by then the terminal is gdb's.
const AT_THE_GATE: &str = r#"read -r _ <&3; exec 3<&-; exec "$@""#;

/// A command that keeps gdb from asking the servers of `DEBUGINFOD_URLS`: none has anything about files that the
/// lab has made, and gdb would wait for each answer.
const NO_DOWNLOADS: &str = "set debuginfod enabled off";

/// Who debugs a guest.
pub struct Debugger {
    /// Where QEMU listens for it.
    pub listener: UnixListener,
    /// Called when the module is loaded and the guest waits.
    pub begin: Begin,
}

/// What begins the debugging of a guest, whose module has these sections.
pub type Begin = Box<dyn FnOnce(&[Section]) -> Result<Begun>>;

/// How debugging begins.
#[derive(Debug)]
pub enum Begun {
    /// By this process of the lab's: the guest's work waits for it to attach.
    Here(Gdb),
    /// By somebody else: the guest's work waits for him to attach.
    Elsewhere,
    /// By somebody else, if at all: the guest's work goes on.
    AtLeisure,
}

/// Everything that a debugger has to know of a guest.
#[derive(Clone, Debug)]
pub struct Knowledge {
    /// An ELF file with the kernel's symbols.
    pub kernel: PathBuf,
    /// The module with its debug information, as it is loaded in the guest.
    pub module: PathBuf,
    /// Those of its sections that are in memory when it is loaded.
    pub sections: Vec<String>,
    /// Directories that sources were compiled in, and where these are on the host.
    pub sources: Vec<(PathBuf, PathBuf)>,
}

impl Knowledge {
    /// gdb's commands that tell it, for a module with these sections, and attach it to the guest at `socket`.
    #[must_use]
    pub fn commands(&self, sections: &[Section], socket: &Path) -> String {
        let mut text = String::from(
            "# The guest's kernel, the module where this guest has loaded it, and their sources.\n\
             set confirm off\n",
        );
        let _ = writeln!(text, "file {}", quoted(&self.kernel));
        for (compiled, host) in &self.sources {
            let (compiled, host) = (quoted(compiled), quoted(host));
            let _ = writeln!(text, "set substitute-path {compiled} {host}");
        }
        // gdb repeats the addresses on its standard output, one line for each section.
        let _ = write!(text, "pipe add-symbol-file {}", quoted(&self.module));
        for Section { name, addr } in sections {
            if self.sections.contains(name) {
                let _ = write!(text, " -s {name} {addr:#x}");
            }
        }
        let _ = writeln!(text, " | cat > /dev/null");
        let _ = writeln!(text, "target remote {}", socket.display());
        text
    }
}

/// A path as one word of gdb's (its manual: "Command Syntax").
fn quoted(path: &Path) -> String {
    let escaped = path.to_string_lossy().replace('\\', "\\\\");
    format!("\"{}\"", escaped.replace('"', "\\\""))
}

/// A script for `sh` that starts gdb with `commands`, and with the arguments that it is given itself.
#[must_use]
pub fn script(gdb: &[OsString], env: &[(&str, &Path)], commands: &Path) -> Vec<u8> {
    let mut script = b"#!/bin/sh\nexec env".to_vec();
    for (name, value) in env {
        script.extend([b" ", name.as_bytes(), b"="].concat());
        script.extend(shell_word(value.as_os_str()));
    }
    let own = ["-q", "-iex", NO_DOWNLOADS, "-x"].map(OsStr::new);
    let own = own.into_iter().chain([commands.as_os_str()]);
    for word in gdb.iter().map(OsString::as_os_str).chain(own) {
        script.push(b' ');
        script.extend(shell_word(word));
    }
    script.extend(b" \"$@\"\n");
    script
}

/// A word that no shell reads anything into.
#[must_use]
pub fn shell_word(word: &OsStr) -> Vec<u8> {
    let parts: Vec<&[u8]> = word.as_bytes().split(|&byte| byte == b'\'').collect();
    [b"'", parts.join(&br"'\''"[..]).as_slice(), b"'"].concat()
}

/// gdb's process. Dropping it kills and reaps it, and kills what it has started.
#[derive(Debug)]
pub struct Gdb {
    child: Child,
    /// The process group that it leads, if it does.
    group: Option<Pid>,
    exited: OwnedFd,
    /// Given back when gdb is gone.
    loan: Option<Loan>,
    status: Arc<OnceLock<ExitStatus>>,
}

impl Gdb {
    /// Starts the `script` with `args`. If the lab has a terminal, gdb gets it, keys such as Ctrl-C included:
    /// they are for the guest. `status` gets gdb's end.
    ///
    /// # Errors
    ///
    /// When the process cannot be made, or the terminal not be handed over.
    pub fn start(
        script: &Path,
        args: &[OsString],
        status: Arc<OnceLock<ExitStatus>>,
    ) -> Result<Self> {
        let (gate, holder) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)
            .context("failed to make a pipe for gdb to wait at")?;
        let mut command = Command::new("setpriv");
        // It restores the terminal at that signal.
        command.args(["--pdeathsig", "TERM", "--", "sh", "-c", AT_THE_GATE, "sh"]);
        command.arg("sh").arg(script).args(args);
        // A terminal is lent to a group. A lab in the background has none to lend: the shell that has put it
        // there suspends gdb, when that reads, and the lab as one job, and brings them back together.
        let leads = !terminal::is_in_use_by_others();
        if leads {
            command.process_group(0);
        }
        command
            .fd_mappings(vec![FdMapping {
                parent_fd: gate,
                child_fd: GATE_FD,
            }])
            .context("failed to pass a descriptor to gdb")?;
        let child = command
            .spawn()
            .context("failed to run setpriv, which starts gdb")?;
        // Its end of the gate is the child's only.
        drop(command);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let group = pid.filter(|_| leads);
        let watch = || {
            let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
            let exited = pidfd_open(pid, PidfdFlags::empty())?;
            Ok::<_, io::Error>((exited, group.map_or(Ok(None), Loan::to)?))
        };
        let mut child = child;
        match watch() {
            Ok((exited, loan)) => {
                drop(holder);
                Ok(Self {
                    child,
                    group,
                    exited,
                    loan,
                    status,
                })
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error).context("failed to watch gdb")
            }
        }
    }

    /// Readable once gdb has ended.
    #[must_use]
    pub fn exited(&self) -> BorrowedFd<'_> {
        self.exited.as_fd()
    }

    /// How it has ended, if it has.
    ///
    /// # Errors
    ///
    /// When wait(2) fails.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait();
        status.context("failed to look whether gdb has ended")
    }

    /// Whether it has the lab's terminal.
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        self.loan.is_some()
    }

    /// It has ended like that while the guest was there.
    pub fn note(&self, status: ExitStatus) {
        // The first time is the only one.
        let _ = self.status.set(status);
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// When wait(2) fails.
    pub fn wait(&mut self) -> Result<()> {
        let status = self.child.wait();
        status.map(drop).context("failed to wait for gdb's end")
    }
}

impl Drop for Gdb {
    fn drop(&mut self) {
        // The number of a child that was reaped may be somebody else's by now.
        if let (Some(group), Ok(None)) = (self.group, self.child.try_wait()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        // Again, or for the first time if it is in the lab's own group.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How gdb ended, in words that follow "gdb".
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("was killed by signal {signal}"),
        None => format!("ended with status {}", status.code().unwrap_or(-1)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    /// Milliseconds after which a process that was killed is there for good.
    const PATIENCE: u16 = 60_000;

    #[test]
    fn gdb_is_told_where_everything_is_whatever_its_name() {
        let knowledge = Knowledge {
            kernel: "/cache/vmlinux.symbols".into(),
            module: "/a \"clone\"/mmapdemo.ko".into(),
            sections: vec![".text".into(), ".data".into()],
            sources: vec![("/module".into(), r"/a \clone".into())],
        };
        let sections = [
            (".text", 0xffff_ffff_c020_1000),
            (".symtab", 0x3000),
            (".data", 0x1000),
        ];
        let sections = sections.map(|(name, addr)| {
            let name = name.to_owned();
            Section { name, addr }
        });
        let text = knowledge.commands(&sections, Path::new("/tmp/s"));
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                r#"file "/cache/vmlinux.symbols""#,
                r#"set substitute-path "/module" "/a \\clone""#,
                r#"pipe add-symbol-file "/a \"clone\"/mmapdemo.ko" -s .text 0xffffffffc0201000 -s .data 0x1000 | cat > /dev/null"#,
                "target remote /tmp/s",
            ]
        );
    }

    #[test]
    fn script_keeps_words_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gdb");
        // In the place of gdb, something that shows its arguments and a variable.
        let show = r#"printf '<%s>' "$VALUE" "$@""#;
        let gdb = ["sh", "-c", show, "it's"].map(OsString::from);
        let env = [("VALUE", Path::new("a b"))];
        fs::write(&path, script(&gdb, &env, Path::new("/c d/x"))).unwrap();
        let output = Command::new("sh").arg(&path).arg("e'f g").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            said,
            format!("<a b><-q><-iex><{NO_DOWNLOADS}><-x></c d/x><e'f g>")
        );
    }

    #[test]
    fn gdb_starts_with_its_arguments_and_its_end_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("gdb");
        fs::write(&script, "exit $1\n").unwrap();
        let status = Arc::default();
        let mut gdb = Gdb::start(&script, &["7".into()], Arc::clone(&status)).unwrap();
        let mut fds = [PollFd::new(gdb.exited(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::NONE), Ok(1));
        let ended = gdb.ended().unwrap().unwrap();
        assert_eq!(describe(ended), "ended with status 7");
        gdb.note(ended);
        assert_eq!(status.get().and_then(ExitStatus::code), Some(7));
    }

    #[test]
    fn with_gdb_goes_what_it_has_started() {
        let dir = tempfile::tempdir().unwrap();
        let [script, fifo] = ["gdb", "fifo"].map(|name| dir.path().join(name));
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        fs::write(&script, "exec > \"$1\"; sleep 600 & echo started; wait\n").unwrap();
        let gdb = Gdb::start(&script, &[fifo.clone().into()], Arc::default()).unwrap();
        let mut output = File::open(&fifo).unwrap();
        let mut said = [0; 8];
        output.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"started\n");
        drop(gdb);
        // It hangs up when the last process that writes there is gone.
        let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PATIENCE), Ok(1));
        assert_eq!(output.read(&mut said).unwrap(), 0);
    }
}
