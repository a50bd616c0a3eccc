//! The same bytes written in pieces of several sizes, by write and by stores.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::{Example, Story};
use crate::error::{Error, Result};
use crate::faults;
use crate::object::{MemFile, Request};
use crate::sys::PAGE_SIZE;

pub(super) const EXAMPLE: Example = Example {
    name: "write-sizes",
    source: "003, an example",
    about: "write a file in pieces of several sizes, by write(2) and by mmap",
    right,
    as_written: None,
};

const LEN: usize = 64 * PAGE_SIZE;
/// Each is timed this often, and the middle one counts: a machine has other things to do as well.
const ROUNDS: usize = 5;

fn right() -> Result<Story> {
    let mut story = Story::default();
    story.did(format!(
        "wrote a file of {LEN} bytes, whose pages are in memory, in pieces"
    ));
    for piece in [16, 256, PAGE_SIZE, LEN] {
        let written = MemFile::filled(LEN)?;
        let bytes = vec![2; piece];
        let by_write = median(|| {
            for offset in (0..LEN).step_by(piece) {
                let wrote = written.file().write_all_at(&bytes, offset as u64);
                wrote.map_err(Error::file("write", written.path()))?;
            }
            Ok(())
        })?;
        let stored = MemFile::filled(LEN)?;
        let by_mmap = median(|| {
            let mapping = Request::shared(stored.path()).len(LEN).map()?;
            for offset in (0..LEN).step_by(piece) {
                mapping.store_bytes(offset, &bytes)?;
            }
            Ok(())
        })?;
        let same = content(&written)? == content(&stored)?;
        let calls = LEN / piece;
        story.expect(
            same,
            format!("{piece:>6} bytes: {calls:>5} calls of write {by_write:>8.0?}, mmap and stores {by_mmap:>8.0?}"),
        );
    }
    let file = MemFile::filled(LEN)?;
    let mapping = Request::shared(file.path()).len(LEN).map()?;
    let (first, second) = (
        faults::count(&mapping, |it| it.store_pages(3))?.1,
        faults::count(&mapping, |it| it.store_pages(3))?.1,
    );
    let pages = LEN / PAGE_SIZE;
    story.expect(
        first > 0 && second == 0,
        format!(
            "the {pages} pages cost {first} faults when they are stored to first, then {second}"
        ),
    );
    story.why(
        "write(2) costs a call a piece, so small pieces are dear; a mapping costs at most a fault a page, whatever the \
         pieces are. The stores here are made byte by byte, so with large pieces the kernel's copy wins. Times \
         are of this machine and this moment: compare them with each other only.",
    );
    Ok(story)
}

fn content(file: &MemFile) -> Result<Vec<u8>> {
    std::fs::read(file.path()).map_err(Error::file("read", file.path()))
}

fn median(mut work: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut times = [Duration::ZERO; ROUNDS];
    for time in &mut times {
        let begin = Instant::now();
        work()?;
        *time = begin.elapsed();
    }
    times.sort();
    Ok(times.get(ROUNDS / 2).copied().unwrap_or_default())
}
