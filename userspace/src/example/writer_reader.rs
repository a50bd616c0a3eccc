//! Two programs that know nothing of each other, and a file that both map.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use super::{Example, Story};
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::object::{MemFile, Request};
use crate::process::{self, End, Process, THIS_PROGRAM};
use crate::sys::PAGE_SIZE;
use crate::turn::TURN;

pub(super) const EXAMPLE: Example = Example {
    name: "writer-reader",
    source: "002, unrelated processes",
    about: "let two unrelated programs talk through a file (see `writer`, `reader`)",
    right,
    as_written: Some(as_written),
};

fn program(file: &MemFile, args: &[&str]) -> Result<(Process, OwnedFd)> {
    let path = file.path().display().to_string();
    let args = [args, &["--timeout", "5", "--file", &path]].concat();
    let (process, out, _) = process::start("a program", THIS_PROGRAM, &args, Stdio::null())?;
    Ok((process, out))
}

fn right() -> Result<Story> {
    let mut story = Story::default();
    let file = MemFile::new(PAGE_SIZE)?;
    let (reader, heard) = program(&file, &["reader"])?;
    let (writer, _) = program(&file, &["writer", "--wait", "first words"])?;
    let wrote = writer.wait(TURN)?;
    let ended = reader.wait(TURN)?;
    let mut read = String::new();
    let said = File::from(heard).read_to_string(&mut read);
    said.map_err(Error::file("read", "what the reader says"))?;
    story.did(
        "started `mmapdemo reader` and, while it watched, `mmapdemo writer --wait 'first words'`",
    );
    let well = ended == End::Exited(0) && wrote == End::Exited(0);
    story.expect(
        well && read == "first words\n",
        format!("the reader prints: {read}"),
    );
    story.why(
        "The page begins with a word that says whether there is a text, and with its length. The writer \
         stores it last, the reader takes it back: each knows how far the other is (src/message.rs).",
    );
    Ok(story)
}

fn as_written() -> Result<Story> {
    let mut story = Story::default();
    let file = MemFile::filled(PAGE_SIZE)?;
    let request = Request::shared(file.path());
    let (mut writer, mut reader) = (Actor::start("the writer")?, Actor::start("the reader")?);
    reader.map(&request)?;
    let early = reader.load(0, 4)?.bytes;
    story.did("started a reader, which maps the file and looks at once, before the writer");
    story.expect(
        early == [1; 4],
        "it gets what was in the file before, and takes it for the message",
    );
    writer.map(&request)?;
    writer.store(0, b"one\0")?;
    writer.store(0, b"two\0")?;
    let late = reader.load(0, 4)?.bytes;
    story.did("wrote two messages, then looked again");
    story.expect(
        late == *b"two\0",
        "the first message is lost, and nobody was told",
    );
    let again = reader.load(0, 4)?.bytes;
    story.did("looked once more");
    story.expect(
        again == late,
        "the second message is still there, as if it were a new one",
    );
    story.why(
        "A mapping has no begin and no end of a message, and wakes nobody. What a pipe does by itself, two \
         programs have to agree upon: who may store, and how the other knows.",
    );
    Ok(story)
}
