//! Whether KVM is of use on this host, which is more than whether it is there.
//!
//! Where virtualisation is nested in software, `/dev/kvm` opens, every capability looks right, tiny guests
//! run, and an ordinary guest hangs. What tells is speed.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use command_fds::FdMapping;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::failure::Failure;
use crate::interrupt;
use crate::machine::{Accel, QemuProgram};
use crate::qemu::{self, Qemu};
use crate::rom;

/// What somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Whatever is best.
    Auto,
    /// This one, for better or worse.
    Only(Accel),
}

/// What is used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The accelerator.
    pub accel: Accel,
    /// The reason, as a clause.
    pub reason: String,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.accel, self.reason)
    }
}

/// How the ROM fared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// It ran to its end, in so many milliseconds.
    Done(u64),
    /// It did not end in time.
    TooSlow,
    /// QEMU could not run it; its words.
    Failed(String),
}

/// What is known of this host's KVM before a ROM is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kvm {
    /// Why `/dev/kvm` cannot be opened, if so.
    pub refused: Option<String>,
    /// Whether the processor says that it can virtualise.
    pub has_cpu_flag: bool,
}

/// How long the ROM may take. TCG itself needs a fraction of this, so what needs more is of no use.
const ROM_LIMIT: Duration = Duration::from_millis(500);

/// How long QEMU may take to start: its libraries may still have to come from a disk.
const START_LIMIT: Duration = Duration::from_secs(20);

const DEVICE: &str = "/dev/kvm";

/// Chooses the accelerator. `answers` keeps what the ROM said until the next boot of the host.
///
/// # Errors
///
/// When KVM was asked for and cannot be opened, or the lab was interrupted.
pub fn choose(wish: Wish, qemu: &QemuProgram, answers: &Path) -> Result<Choice> {
    let kvm = Kvm::look();
    if let Some(choice) = decide(wish, &kvm, None)? {
        return Ok(choice);
    }
    let key = Key::of(qemu)?;
    let probe = if let Some(probe) = Answer::read(answers, &key) {
        probe
    } else {
        let probe = probe(qemu, Accel::Kvm, ROM_LIMIT)?;
        let answer = Answer { key, probe };
        // Without a place to keep the answer, the next run asks again.
        let _ = answer.write(answers);
        answer.probe
    };
    decide(wish, &kvm, Some(&probe))?.context("failed to choose an accelerator")
}

/// The choice, or nothing if that needs a [`Probe`].
///
/// # Errors
///
/// When KVM was asked for and cannot be opened.
pub fn decide(wish: Wish, kvm: &Kvm, probe: Option<&Probe>) -> Result<Option<Choice>> {
    let choose = |accel, reason: String| Ok(Some(Choice { accel, reason }));
    match (wish, &kvm.refused, probe) {
        (Wish::Only(Accel::Tcg), _, _) => choose(Accel::Tcg, "as asked for".into()),
        (Wish::Only(Accel::Kvm), Some(why), _) => bail!(Failure::SetUpMissing {
            what: format!("failed to open {DEVICE}: {why}"),
            remedy: "--accel tcg works everywhere".into(),
        }),
        (Wish::Only(Accel::Kvm), None, _) => choose(Accel::Kvm, "as asked for".into()),
        (Wish::Auto, Some(why), _) => choose(Accel::Tcg, format!("{DEVICE}: {why}")),
        (Wish::Auto, None, _) if !kvm.has_cpu_flag => choose(
            Accel::Tcg,
            format!(
                "{DEVICE} is there, but the processor has neither vmx nor svm, so it would hang"
            ),
        ),
        (Wish::Auto, None, None) => Ok(None),
        (Wish::Auto, None, Some(Probe::Done(ms))) => choose(
            Accel::Kvm,
            format!("{DEVICE} works: a test ROM took {ms} ms"),
        ),
        (Wish::Auto, None, Some(Probe::TooSlow)) => choose(
            Accel::Tcg,
            format!(
                "{DEVICE} is slower than no KVM: a test ROM took over {} ms",
                ROM_LIMIT.as_millis()
            ),
        ),
        (Wish::Auto, None, Some(Probe::Failed(why))) => choose(
            Accel::Tcg,
            format!("{DEVICE} does not run a test ROM: {why}"),
        ),
    }
}

impl Kvm {
    fn look() -> Self {
        let open = OpenOptions::new().read(true).write(true).open(DEVICE);
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            refused: open.err().map(|error| error.to_string()),
            has_cpu_flag: can_virtualise(&cpuinfo),
        }
    }
}

/// Whether a `/proc/cpuinfo` has the flag of Intel's or AMD's virtualisation.
#[must_use]
pub fn can_virtualise(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| {
            line.split_whitespace()
                .any(|flag| flag == "vmx" || flag == "svm")
        })
}

/// What an answer depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    boot_id: String,
    qemu: String,
}

impl Key {
    fn of(qemu: &QemuProgram) -> Result<Self> {
        let path = "/proc/sys/kernel/random/boot_id";
        let boot_id = fs::read_to_string(path).with_context(|| format!("failed to read {path}"))?;
        Ok(Self {
            boot_id: boot_id.trim().to_owned(),
            qemu: format!("{:?}", qemu.argv_prefix),
        })
    }
}

/// What the ROM said, kept in a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Answer {
    key: Key,
    probe: Probe,
}

impl Answer {
    /// A file that cannot be read or understood has no answer.
    fn read(path: &Path, key: &Key) -> Option<Probe> {
        let answer: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (answer.key == *key).then_some(answer.probe)
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
        serde_json::to_writer(&mut file, self)?;
        file.persist(path)?;
        Ok(())
    }
}

/// The descriptor under which QEMU finds its monitor, for [`probe`].
const MONITOR_FD: RawFd = 3;
/// The descriptor under which QEMU finds the ROM.
const ROM_FD: RawFd = 4;

/// Runs the ROM, and says how it fared.
///
/// # Errors
///
/// When QEMU cannot be run at all, or the lab was interrupted.
pub fn probe(program: &QemuProgram, accel: Accel, limit: Duration) -> Result<Probe> {
    let (monitor, qemu_monitor) = UnixStream::pair().context("failed to make a channel to QEMU")?;
    let fds = vec![
        FdMapping {
            parent_fd: qemu_monitor.into(),
            child_fd: MONITOR_FD,
        },
        FdMapping {
            parent_fd: rom_file().context("failed to make a test ROM")?.into(),
            child_fd: ROM_FD,
        },
    ];
    let mut qemu = Qemu::start(program, probe_args(accel), fds)?;
    // The monitor greets; or it ends, if QEMU gives up at once.
    if !wait_for(monitor.as_fd(), START_LIMIT)? {
        return Ok(Probe::Failed("QEMU does not start".into()));
    }
    let started = Instant::now();
    if !wait_for(qemu.exited(), limit)? {
        return Ok(Probe::TooSlow);
    }
    let elapsed = started.elapsed();
    let status = qemu.wait().context("failed to wait for QEMU's end")?;
    if status.code() == Some(rom::EXIT_STATUS) {
        let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        return Ok(Probe::Done(ms));
    }
    let mut words = String::new();
    // QEMU is gone: this ends, and whatever is not UTF-8 is not needed.
    let _ = qemu.stderr().read_to_string(&mut words);
    let how = qemu::describe(status).unwrap_or_else(|| "ended early".into());
    Ok(Probe::Failed(format!("QEMU {how}. {}", words.trim())))
}

/// A machine that has a processor, the ROM, a way out, and a monitor that tells when it began.
fn probe_args(accel: Accel) -> Vec<OsString> {
    let accel = accel.name();
    let port = rom::EXIT_PORT;
    format!(
        "-accel {accel} -M pc -m 16M -nodefaults -no-user-config -display none -no-reboot \
         -bios /proc/self/fd/{ROM_FD} -device isa-debug-exit,iobase={port:#x},iosize=1 \
         -chardev socket,id=monitor,fd={MONITOR_FD} -mon chardev=monitor,mode=control"
    )
    .split(' ')
    .map(OsString::from)
    .collect()
}

fn rom_file() -> io::Result<File> {
    let mut file = File::from(memfd_create("rom", MemfdFlags::CLOEXEC)?);
    file.write_all(&rom::image())?;
    Ok(file)
}

/// Waits until `fd` is readable; false if that takes longer than `limit`.
fn wait_for(fd: BorrowedFd<'_>, limit: Duration) -> Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [interrupt::fd(), fd].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("failed to wait for QEMU"),
            Ok(0) => return Ok(false),
            Ok(_) if fds[0].any().unwrap_or(false) => {
                bail!(Failure::Interrupted("trying KVM".into()))
            }
            Ok(_) => return Ok(true),
        }
    }
}
