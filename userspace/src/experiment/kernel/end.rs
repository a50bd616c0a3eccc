//! End: the ways in which a process ends, and what they leave of its mappings.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::pipe2;

use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::process::{Process, read_until};
use crate::sys::at_exit;
use crate::turn::{Link, TURN};

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "ways-to-end",
    summary: "Five processes map the device, register a handler by atexit and end without munmap: by exit, by _exit, \
              by SIGKILL, by abort and by becoming another program. Counts the driver's mappings and the references \
              to its page before, meanwhile and afterwards, and notes whether the handler ran.",
    run: ways_to_end,
}];

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Exit,
    ShortExit,
    Kill,
    Abort,
    Exec,
}

const WAYS: [(&str, Way); 5] = [
    ("exit", Way::Exit),
    ("short-exit", Way::ShortExit),
    ("killed", Way::Kill),
    ("aborted", Way::Abort),
    ("replaced", Way::Exec),
];

fn ways_to_end(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    for (name, way) in WAYS {
        let before = counts(fixture)?;
        let (hear, tell) = pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe2()", name))?;
        let (mut ours, mut theirs) = Link::pair(["who counts", name])?;
        let mut tell = Some(File::from(tell));
        let mut child = Process::fork(name, || {
            let lived = live(fixture, &mut theirs, tell.take());
            if lived.is_ok() { end(way) } else { 1 }
        })?;
        drop((tell, theirs));
        let mapped: bool = ours.hear("it had mapped the device")?;
        evidence.note(format!("{name}.mapped"), mapped);
        let alive = counts(fixture)?.0.saturating_sub(before.0);
        evidence.note(format!("{name}.alive"), alive);
        let end = if way == Way::Kill {
            child.kill()?
        } else {
            ours.say(&true)?;
            child.wait(TURN)?
        };
        evidence.note(format!("{name}.end"), end);
        let after = counts(fixture)?;
        evidence.note(format!("{name}.left"), after.0.saturating_sub(before.0));
        let references = after.1.saturating_sub(before.1);
        evidence.note(format!("{name}.references-left"), references);
        let mut told = Vec::new();
        read_until(&mut File::from(hear), &mut told, TURN, |_| false)?;
        evidence.note(format!("{name}.handler-ran"), told == MARK);
    }
    Ok(evidence)
}

/// Mappings that the driver knows of, and references to its first page.
fn counts(fixture: &Fixture) -> Result<(u64, u64)> {
    let (info, page) = (fixture.device.info()?, fixture.device.page_info(0)?);
    Ok((info.mappings, u64::from(page.refcount.unsigned_abs())))
}

const MARK: &[u8] = b"cleaned up";
/// Where the handler of this process says that it ran.
static TELL: OnceLock<File> = OnceLock::new();

extern "C" fn clean_up() {
    if let Some(mut tell) = TELL.get() {
        // Nobody is left to report a failure to; the reader misses the mark.
        let _ = tell.write_all(MARK);
    }
}

/// Maps the device, leaves the mapping behind, and waits for leave to end.
fn live(fixture: &Fixture, link: &mut Link, tell: Option<File>) -> Result<()> {
    if let Some(tell) = tell {
        let _ = TELL.set(tell);
    }
    at_exit(clean_up).map_err(Error::call("atexit()", "a handler"))?;
    // abort(3) would write a core file.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(Error::call("setrlimit()", "core files"))?;
    let mapping = fixture.device.map_shared()?;
    mapping.store(0, 1)?;
    std::mem::forget(mapping);
    link.say(&true)?;
    link.hear_next::<bool>().map(drop)
}

/// The status that is returned becomes that of `_exit(2)`.
#[expect(
    clippy::exit,
    reason = "a child's, whose handlers of exit(3) are looked for"
)]
fn end(way: Way) -> i32 {
    match way {
        Way::Exit => std::process::exit(0),
        Way::ShortExit | Way::Kill => 0,
        Way::Abort => std::process::abort(),
        Way::Exec => {
            let mut command = Command::new("/proc/self/exe");
            command.arg("--version").stdout(Stdio::null());
            // Only a failure comes back.
            let _ = command.exec();
            1
        }
    }
}
