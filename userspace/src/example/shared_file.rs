//! A file mapped shared, to be written: the file must be there, and long enough.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::child::{end, killed_by};
use super::{Example, Story};
use crate::error::{Error, Result};
use crate::evidence::Touch;
use crate::object::{MemFile, Mode, Request, open};
use crate::probe::{Access, touch};
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const EXAMPLE: Example = Example {
    name: "shared-file",
    source: "000, common combinations",
    about: "map a file shared for reading and writing",
    right,
    as_written: Some(as_written),
};

/// Maps `len` bytes of an existing file, which is made that long if it is shorter.
fn map_shared(path: &Path, len: usize) -> Result<Mapping> {
    let file = open(path, Mode::ReadWrite)?;
    let meta = file.metadata().map_err(Error::file("look at", path))?;
    if meta.len() < len as u64 {
        file.set_len(len as u64)
            .map_err(Error::file("lengthen", path))?;
    }
    Mapping::shared(&file, len).map_err(Error::file("map", path))
}

fn right() -> Result<Story> {
    let mut story = Story::default();
    let file = MemFile::new(0)?;
    let mapping = map_shared(file.path(), PAGE_SIZE)?;
    mapping.store_bytes(0, b"hello")?;
    story.did("opened an empty file, made it a page long, mapped it, closed it, stored hello");
    let read = read(file.file(), file.path())?;
    story.expect(
        read == *b"hello",
        "who reads the file with read(2) gets hello",
    );

    let missing = map_shared(Path::new("/proc/self/no-such-file"), PAGE_SIZE);
    story.did("tried the same with a file that does not exist");
    let refused = missing.map_or_else(|error| error.to_string(), |_| "mapped".to_owned());
    let named = refused.contains("cannot open");
    story.expect(named, format!("the program says why and stops: {refused}"));
    story.why(
        "Each call can fail, and what follows needs its result: so each failure is where it ends.",
    );
    Ok(story)
}

fn read(file: &File, path: &Path) -> Result<[u8; 5]> {
    let mut bytes = [0; 5];
    file.read_exact_at(&mut bytes, 0)
        .map_err(Error::file("read", path))?;
    Ok(bytes)
}

fn as_written() -> Result<Story> {
    let mut story = Story::default();
    let file = MemFile::new(0)?;
    let mapping = Request::shared(file.path()).map()?;
    story.did("mapped a page of an empty file without looking at its size, and stored a byte");
    let ended = end("the writer", || mapping.store(0, 1))?;
    let seen = killed_by(ended, Signal::SIGBUS);
    story.expect(
        seen,
        "mmap succeeds, and the store ends the process by SIGBUS",
    );
    story.why("There is no page of the file to store to. mmap lengthens no file; ftruncate does.");

    let without_file = Request::shared("").call();
    let refused = Mapping::new(without_file, None).err();
    story.did("used the -1 of an open that failed as the descriptor, as nobody looked at it");
    story.expect(
        refused == Some(Errno::EBADF),
        "mmap says EBADF, which is not what went wrong",
    );
    // MAP_FAILED is (void *) -1.
    let stored = touch(usize::MAX, Access::Store(1))?;
    story.did("printed that, went on, and stored to the address that mmap had returned");
    let seen = matches!(&stored, Touch::Faulted(fault) if fault.signal == "SIGSEGV");
    story.expect(seen, "the store to MAP_FAILED ends the process by SIGSEGV");
    story.why("perror only prints: the program has to stop by itself.");
    Ok(story)
}
