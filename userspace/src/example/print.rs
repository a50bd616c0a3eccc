//! The text of a file, printed out of a mapping.

use std::fs::File;
use std::io::Write;

use nix::sys::mman::ProtFlags;
use nix::sys::signal::Signal;

use super::child::{end, killed_by, text};
use super::{Example, Story};
use crate::error::{Error, Result};
use crate::object::{MemFile, Mode, Request};
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const EXAMPLE: Example = Example {
    name: "print",
    source: "001, §3.1",
    about: "map a text file and print it",
    right,
    as_written: Some(as_written),
};

/// All bytes of a file, by way of a read-only mapping: its size tells how many, not a zero among them.
fn content(request: &Request, file: &File) -> Result<Vec<u8>> {
    let meta = file.metadata().map_err(Error::file("look at", "a file"))?;
    let Ok(len @ 1..) = usize::try_from(meta.len()) else {
        // mmap(2) refuses a length of 0.
        return Ok(Vec::new());
    };
    let request = request.clone().mode(Mode::ReadOnly).len(len);
    let mapping = request.prot(ProtFlags::PROT_READ).map()?;
    mapping.load_bytes(0, len)
}

fn written(text: &[u8]) -> Result<MemFile> {
    let file = MemFile::new(0)?;
    let wrote = file.file().write_all(text);
    wrote.map_err(Error::file("write", file.path()))?;
    Ok(file)
}

fn right() -> Result<Story> {
    let mut story = Story::default();
    let full = [b'x'; PAGE_SIZE];
    for (what, bytes) in [
        ("a word", &b"hello"[..]),
        ("a page without a zero byte", &full),
        ("nothing", b""),
    ] {
        let file = written(bytes)?;
        let printed = content(&Request::shared(file.path()), file.file())?;
        story.did(format!(
            "mapped a file that holds {what}, as long as the file is"
        ));
        let len = printed.len();
        story.expect(
            printed == bytes,
            format!("{len} bytes, all of the file's and no others"),
        );
    }
    story.why("A file has a length and need not have a zero byte; who reads needs PROT_READ and O_RDONLY alone.");
    Ok(story)
}

/// A page of the file, then a page of other memory of the program if `neighbour` says so, then no memory.
fn laid_out(file: &MemFile, neighbour: bool) -> Result<Mapping> {
    let none = Request::anonymous(libc::MAP_PRIVATE).prot(ProtFlags::PROT_NONE);
    let mut all = none.len(3 * PAGE_SIZE).map()?;
    let replaced = Error::call("mmap(MAP_FIXED)", "reserved addresses");
    let fd = std::os::fd::AsFd::as_fd(file.file());
    let call = Request::shared("").call();
    all.replace_page(0, call, Some(fd)).map_err(replaced)?;
    if neighbour {
        let replaced = Error::call("mmap(MAP_FIXED)", "reserved addresses");
        let call = Request::anonymous(libc::MAP_PRIVATE).call();
        all.replace_page(PAGE_SIZE, call, None).map_err(replaced)?;
        all.store_bytes(PAGE_SIZE, b"a password of somebody else")?;
    }
    Ok(all)
}

fn as_written() -> Result<Story> {
    let mut story = Story::default();
    let full = written(&[b'x'; PAGE_SIZE])?;
    let printed = text(&laid_out(&full, true)?)?;
    story.did(
        "printed a page-long file without a zero byte by %s, with other memory behind the mapping",
    );
    let (file, beyond) = printed
        .split_at_checked(PAGE_SIZE)
        .unwrap_or((&printed, ""));
    let seen = file.bytes().all(|byte| byte == b'x') && beyond.starts_with("a password");
    let len = printed.len();
    story.expect(
        seen,
        format!("{len} bytes are printed, the last of them: {beyond}"),
    );

    let mapping = laid_out(&full, false)?;
    let ended = end("the printer", || text(&mapping).map(drop))?;
    story.did("did the same with no memory behind the mapping");
    story.expect(
        killed_by(ended, Signal::SIGSEGV),
        "SIGSEGV, one byte after the file's last",
    );
    story.why("%s stops at a zero byte. A mapping has one only if the file has, or ends within its last page.");

    let empty = written(b"")?;
    let mapping = Request::shared(empty.path()).map()?;
    let ended = end("the printer", || text(&mapping).map(drop))?;
    story.did("did the same with an empty file");
    story.expect(killed_by(ended, Signal::SIGBUS), "SIGBUS at the first byte");
    story.why("A mapping may be longer than the file, but pages that lie wholly behind its end do not exist.");
    Ok(story)
}
