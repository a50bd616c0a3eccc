//! A mapping that is gone when the process is, however that ends.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, raise};

use super::child::end;
use super::{Example, Story};
use crate::error::{Error, Result};
use crate::sys::{Mapping, PAGE_SIZE, at_exit};

pub(super) const EXAMPLE: Example = Example {
    name: "cleanup",
    source: "000, common problems 1",
    about: "end a process in six ways and see whether its mapping is left over",
    right,
    as_written: Some(as_written),
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Exit,
    Return,
    Exec,
    Abort,
    Terminated,
    Killed,
}

const ENDINGS: [(Ending, &str); 6] = [
    (Ending::Exit, "exit"),
    (Ending::Return, "_exit"),
    (Ending::Exec, "execve"),
    (Ending::Abort, "abort"),
    (Ending::Terminated, "SIGTERM"),
    (Ending::Killed, "SIGKILL"),
];

impl Ending {
    /// Ends this child; returns only if it is to end by `_exit`, as forked children here do.
    fn come(self) -> Result<()> {
        let signal = |signal| raise(signal).map_err(Error::call("raise()", "the child"));
        match self {
            Self::Exit => std::process::exit(0),
            Self::Return => Ok(()),
            Self::Exec => {
                let mut other = Command::new("/proc/self/exe");
                let failed = other.arg("--version").stdout(Stdio::null()).exec();
                Err(Error::file("run", "/proc/self/exe")(failed))
            }
            Self::Abort => std::process::abort(),
            Self::Terminated => signal(Signal::SIGTERM),
            Self::Killed => signal(Signal::SIGKILL),
        }
    }
}

/// A file in memory that can be sealed, fcntl(2).
fn sealable() -> Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let made = memfd_create(c"mmapdemo", flags);
    let file = File::from(made.map_err(Error::call("memfd_create()", "a file in memory"))?);
    file.set_len(PAGE_SIZE as u64)
        .map_err(Error::file("size", "a file in memory"))?;
    Ok(file)
}

fn map(file: &File) -> Result<Mapping> {
    Mapping::shared(file, PAGE_SIZE).map_err(Error::file("map", "a file in memory"))
}

/// Asks the kernel to forbid writing, which it refuses while a writable shared mapping exists anywhere.
fn forbid_writing(file: &File) -> Result<i32, Errno> {
    fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE))
}

fn right() -> Result<Story> {
    let mut story = Story::default();
    let file = sealable()?;
    let own = map(&file)?;
    story.did("mapped a file shared and writable, and asked the kernel to seal it against writing");
    story.expect(
        forbid_writing(&file) == Err(Errno::EBUSY),
        "EBUSY: the kernel knows of the mapping",
    );
    drop(own);
    for (ending, name) in ENDINGS {
        let file = sealable()?;
        end(name, || {
            let mapping = map(&file)?;
            mapping.store(0, 1)?;
            // It must still be mapped when the child ends.
            std::mem::forget(mapping);
            ending.come()
        })?;
        let gone = forbid_writing(&file).is_ok();
        story.expect(
            gone,
            format!("after {name} without munmap, no mapping is left"),
        );
    }
    story.why(
        "The kernel drops an address space with the last process that has it, exec included. What stays is \
         what has a name: files, and objects made by shm_open(3) or shmget(2). To give memory back earlier, \
         let the owner unmap it, as Drop does here.",
    );
    Ok(story)
}

/// Where the handler says that it was run.
static NOTICES: OnceLock<File> = OnceLock::new();

extern "C" fn clean_up() {
    if let Some(mut notices) = NOTICES.get() {
        // Nobody is left to tell if this fails; the parent then misses it.
        let _ = notices.write_all(b"x");
    }
}

fn as_written() -> Result<Story> {
    let mut story = Story::default();
    story.did("registered a handler by atexit(3) in six children, and ended each in another way");
    let notices = sealable()?;
    let clone = notices.try_clone();
    let _ = NOTICES.set(clone.map_err(Error::file("duplicate", "a file in memory"))?);
    for (ending, name) in ENDINGS {
        notices
            .set_len(0)
            .map_err(Error::file("empty", "the notices"))?;
        end(name, || {
            at_exit(clean_up).map_err(Error::call("atexit()", "the child"))?;
            ending.come()
        })?;
        let meta = notices.metadata();
        let ran = meta.map_err(Error::file("look at", "the notices"))?.len() > 0;
        let verb = if ran { "runs" } else { "does not run" };
        story.expect(
            ran == (ending == Ending::Exit),
            format!("with {name} the handler {verb}"),
        );
    }
    story.why(
        "atexit handlers are a matter of the C library: only exit(3), and a return from main, runs them. But \
         nothing leaks without them either, as the kernel unmaps by itself.",
    );
    Ok(story)
}
