//! A parent and its child, and a file that both have mapped.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::child::{end, killed_by};
use super::{Example, Story};
use crate::actor::{Actor, Watch};
use crate::error::Result;
use crate::object::{MemFile, Request};
use crate::sys::PAGE_SIZE;

pub(super) const EXAMPLE: Example = Example {
    name: "related",
    source: "002, related processes",
    about: "let a parent tell its child something through a file",
    right,
    as_written: Some(as_written),
};

const READY: usize = 0;
const TEXT: usize = 64;
/// Not a multiple of the page size, and legal.
const LEN: usize = 4000;

fn right() -> Result<Story> {
    let mut story = Story::default();
    let file = MemFile::new(PAGE_SIZE)?;
    let mapping = Request::shared(file.path()).len(LEN).map()?;
    let mut child = Actor::fork("the child", &mapping)?;
    child.watch(Watch {
        offset: READY,
        word: 1,
        timeout: Duration::from_secs(5),
        then: (TEXT, 4),
    })?;
    mapping.store_bytes(TEXT, b"test")?;
    mapping.word(READY)?.store(1, Ordering::Release);
    let loaded = child.watched()?;
    story.did(
        "made a file, gave it a size, mapped 4000 bytes of it, forked; the child watched a word in the \
         mapping, the parent stored its text and then that word",
    );
    let seen = loaded.is_some_and(|loaded| loaded.bytes == *b"test");
    story.expect(seen, "the child reads: test");
    story.why(
        "The word says when the text is there, so it does not matter who of the two comes first.",
    );
    Ok(story)
}

fn as_written() -> Result<Story> {
    let mut story = Story::default();
    let file = MemFile::new(0)?;
    let mapping = Request::shared(file.path()).len(LEN).map()?;
    let writer = end("the parent's part", || mapping.store_bytes(0, b"test\0"))?;
    let reader = end("the child's part", || mapping.load(0).map(drop))?;
    story.did("made a new file and mapped it without giving it a size; each side did its part");
    let both = [writer, reader].map(|end| killed_by(end, Signal::SIGBUS));
    story.expect(
        both == [true, true],
        "SIGBUS for the one that writes and the one that reads",
    );
    story.why("A file made by O_CREAT is empty, and mmap does not lengthen it. ftruncate(2) does.");

    let file = MemFile::filled(PAGE_SIZE)?;
    let mapping = Request::shared(file.path()).len(LEN).map()?;
    let mut child = Actor::fork("the child", &mapping)?;
    let early = child.load(0, 4)?.bytes;
    mapping.store_bytes(0, b"test\0")?;
    let late = child.load(0, 4)?.bytes;
    story.did("gave the file a size and some content, and let the child be first");
    story.expect(early == [1; 4], "the child reads what was there before");
    story.expect(
        late == *b"test",
        "and the text only if it happens to come later",
    );
    story.why(
        "fork does not say who runs first. To sleep after the store makes the writer slow and the reader no \
         better informed: who waits must be the reader, and for the text.",
    );
    Ok(story)
}
