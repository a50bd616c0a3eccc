//! A file mapped shared, to be read only.

use nix::errno::Errno;
use nix::sys::mman::ProtFlags;

use super::{Example, Story};
use crate::error::Result;
use crate::evidence::Touch;
use crate::object::{MemFile, Mode, Request};
use crate::probe::{Access, touch};

pub(super) const EXAMPLE: Example = Example {
    name: "readonly",
    source: "000, common combinations",
    about: "map a file shared for reading alone, and see what that allows",
    right,
    as_written: None,
};

fn right() -> Result<Story> {
    let mut story = Story::default();
    let file = MemFile::filled(crate::sys::PAGE_SIZE)?;
    let request = Request::shared(file.path()).mode(Mode::ReadOnly);
    let mut reader = request.prot(ProtFlags::PROT_READ).map()?;
    let writer = Request::shared(file.path()).map()?;
    story.did("opened a file O_RDONLY and mapped it PROT_READ, MAP_SHARED");
    story.expect(reader.load(0)? == 1, "its first byte is there");
    writer.store(0, 2)?;
    story.did("had another mapping of the file, a writable one, store a 2");
    story.expect(
        reader.load(0)? == 2,
        "the read-only mapping shows it at once",
    );

    let stored = touch(reader.addr(), Access::Store(3))?;
    story.did("had a child store through the read-only mapping");
    let seen = matches!(&stored, Touch::Faulted(fault) if fault.code == "SEGV_ACCERR");
    story.expect(seen, "SIGSEGV with SEGV_ACCERR: mapped, but not for that");
    let upgraded = reader.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
    story.did("asked mprotect(2) to make it writable");
    story.expect(upgraded == Err(Errno::EACCES), "EACCES");
    story.why(
        "The file was not opened for writing, and a shared mapping must not do more than its descriptor \
         could. A reader needs no more than this.",
    );
    Ok(story)
}
