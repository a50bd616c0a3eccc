//! Message: a text that a writer leaves in a shared page for a reader in another process.
//!
//! ```text
//! 0      4      8                            4096
//! | state | len  | text ...                     |
//! ```
//!
//! `state` is [`FULL`] while there is a text to take. The writer stores the text first and `state` last, with
//! release order; the reader loads `state` first, with acquire order: so nobody reads half a text. Neither makes a
//! system call between.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::cli::{Reader, SharedPage, Writer};
use crate::error::{Error, Result};
use crate::exit_code::ExitCode;
use crate::object::{Mode, open};
use crate::sys::{Mapping, PAGE_SIZE};

const STATE: usize = 0;
const LEN: usize = 4;
const TEXT: usize = 8;

/// `state` while a text is there to take: "mmap" in ASCII, which no fill pattern resembles.
pub const FULL: u32 = u32::from_be_bytes(*b"mmap");
/// `state` when it has been taken.
const TAKEN: u32 = 0;

/// Runs the writer.
///
/// # Errors
///
/// If the page cannot be mapped or the text does not fit.
pub fn write(device: &Path, Writer { text, wait, page }: &Writer) -> Result<ExitCode> {
    let mapping = map(device, page)?;
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
    mapping.store_bytes(TEXT, text.as_bytes())?;
    mapping.word(LEN)?.store(len, Ordering::Relaxed);
    mapping.word(STATE)?.store(FULL, Ordering::Release);
    note(&format!(
        "writer {}: left {len} bytes at {:#x}",
        std::process::id(),
        mapping.addr()
    ));
    if !wait {
        return Ok(ExitCode::AsExpected);
    }
    let taken = wait_until(page.timeout, || {
        Ok(mapping.word(STATE)?.load(Ordering::Acquire) != FULL)
    })?;
    note(if taken {
        "writer: taken"
    } else {
        "writer: nobody took it in time"
    });
    Ok(if taken {
        ExitCode::AsExpected
    } else {
        ExitCode::NotAsExpected
    })
}

/// Runs the reader.
///
/// # Errors
///
/// If the page cannot be mapped or the text cannot be printed.
pub fn read(device: &Path, Reader { page }: &Reader) -> Result<ExitCode> {
    let mapping = map(device, page)?;
    let state = mapping.word(STATE)?;
    note(&format!(
        "reader {}: watching {:#x}",
        std::process::id(),
        mapping.addr()
    ));
    if !wait_until(page.timeout, || Ok(state.load(Ordering::Acquire) == FULL))? {
        note("reader: nobody wrote in time");
        return Ok(ExitCode::NotAsExpected);
    }
    let len = mapping.word(LEN)?.load(Ordering::Relaxed) as usize;
    let text = mapping.load_bytes(TEXT, len.min(PAGE_SIZE - TEXT))?;
    state.store(TAKEN, Ordering::Release);
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(&text).and_then(|()| out.write_all(b"\n"));
    printed.map_err(Error::file("write", "standard output"))?;
    Ok(ExitCode::AsExpected)
}

fn map(device: &Path, page: &SharedPage) -> Result<Mapping> {
    let path = page.file.as_deref().unwrap_or(device);
    let file = open(path, Mode::ReadWrite)?;
    let meta = file.metadata().map_err(Error::file("look at", path))?;
    if meta.is_file() && meta.len() < PAGE_SIZE as u64 {
        // Beyond the end of a file there is no page; the first store would raise SIGBUS (mmap(2)).
        return Err(Error::Garbled {
            what: path.display().to_string(),
            detail: format!("{} bytes are less than a page of {PAGE_SIZE}", meta.len()),
        });
    }
    Mapping::shared(&file, PAGE_SIZE).map_err(Error::file("map", path))
}

/// Looks again and again, giving the CPU away in between; the page can wake nobody.
fn wait_until(timeout: Duration, mut happened: impl FnMut() -> Result<bool>) -> Result<bool> {
    let deadline = Instant::now() + timeout;
    while !happened()? {
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::yield_now();
    }
    Ok(true)
}

/// What is not the text itself goes to standard error.
fn note(text: &str) {
    // In one piece: what others write may come between two.
    let line = format!("{text}\n");
    eprint!("{line}");
}
