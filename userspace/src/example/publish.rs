//! Data handed to another process: first the data, last the word that says so.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::mman::MsFlags;

use super::{Example, Story};
use crate::actor::{Actor, Watch};
use crate::error::{Error, Result};
use crate::object::{MemFile, Request};
use crate::sys::PAGE_SIZE;

pub(super) const EXAMPLE: Example = Example {
    name: "publish",
    source: "000, common problems 2",
    about: "hand a record over to another process, whole",
    right,
    as_written: Some(as_written),
};

/// Where the word is that says that the record is there, and where the record is.
const READY: usize = 0;
const RECORD: usize = 64;
const LEN: usize = 5;

fn right() -> Result<Story> {
    let mut story = Story::default();
    let file = MemFile::new(PAGE_SIZE)?;
    let writer = Request::shared(file.path()).map()?;
    let mut reader = Actor::start("the reader")?;
    reader.map(&Request::shared(file.path()))?;
    let watch = |word| Watch {
        offset: READY,
        word,
        timeout: Duration::from_secs(5),
        then: (RECORD, LEN),
    };
    let mut whole = 0;
    for (word, record) in [(1, b"first"), (2, b"other"), (3, b"third")] {
        reader.watch(watch(word))?;
        writer.store_bytes(RECORD, record)?;
        writer.word(READY)?.store(word, Ordering::Release);
        let loaded = reader.watched()?;
        whole += u64::from(loaded.is_some_and(|loaded| loaded.bytes == *record));
    }
    story.did(
        "stored a record, then by a release store a word that says so; another process watched the word by \
         acquire loads and then loaded the record; three times, without msync",
    );
    story.expect(whole == 3, format!("{whole} of 3 records arrive whole"));
    story.why(
        "Release keeps what comes before it before it, acquire what comes after it after it: who sees the \
         word sees the record. The page is the same, so there is nothing to synchronise.",
    );
    Ok(story)
}

fn as_written() -> Result<Story> {
    let mut story = Story::default();
    let file = MemFile::new(PAGE_SIZE)?;
    let writer = Request::shared(file.path()).map()?;
    let mut reader = Actor::start("the reader")?;
    reader.map(&Request::shared(file.path()))?;

    writer.store_bytes(RECORD, b"older")?;
    writer.word(READY)?.store(1, Ordering::Relaxed);
    let early = reader.load(READY, 1)?.bytes == [1];
    let half = reader.load(RECORD, LEN)?.bytes;
    story.did("stored the word first; another process looked; then came the record, msync and a full barrier");
    story.expect(
        early && half == *b"older",
        "it sees the word, and the old record with it",
    );
    story.why(
        "A barrier orders what is before it and what is after it. Nothing of either lies between the word and \
         the record, and what was read too early cannot be taken back.",
    );

    writer.store_bytes(RECORD, b"newer")?;
    let before = reader.load(RECORD, LEN)?.bytes;
    story.did("stored another record; another process looked before msync");
    story.expect(before == *b"newer", "it sees it all the same");
    let synced = writer.sync(MsFlags::MS_SYNC);
    std::sync::atomic::fence(Ordering::SeqCst);
    synced.map_err(Error::call("msync(MS_SYNC)", "a file in memory"))?;
    let after = reader.load(RECORD, LEN)?.bytes;
    story.expect(
        after == before,
        "msync and the barrier change nothing of that",
    );
    story.why("msync writes a file's pages to where the file is stored. Other mappings show the page itself.");
    Ok(story)
}
