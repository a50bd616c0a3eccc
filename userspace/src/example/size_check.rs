//! A file's size, looked at before mapping: what that tells, and what it does not.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::sys::stat::fstat;

use super::child::{end, killed_by};
use super::{Example, Story};
use crate::error::{Error, Result};
use crate::object::{MemFile, Mode, Request, open};
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const EXAMPLE: Example = Example {
    name: "size-check",
    source: "000, common problems 4",
    about: "look at a file's size before mapping it",
    right,
    as_written: Some(as_written),
};

const ZERO: &str = "/dev/zero";

/// How many bytes of a file can be touched if it is asked for `len`: of a regular file those that it has; a
/// device has no size, and decides in mmap.
fn usable(file: &File, len: usize) -> io::Result<usize> {
    let meta = file.metadata()?;
    if meta.file_type().is_char_device() {
        return Ok(len);
    }
    Ok(usize::try_from(meta.len()).map_or(len, |has| has.min(len)))
}

fn right() -> Result<Story> {
    let mut story = Story::default();
    let look = |file: &File| usable(file, PAGE_SIZE).map_err(Error::file("look at", "a file"));
    let short = MemFile::filled(100)?;
    let mapping = Request::shared(short.path()).map()?;
    let len = look(short.file())?;
    story.did("asked for a page of a file of 100 bytes, and used as much as it has");
    let bytes = mapping.load_bytes(0, len)?;
    story.expect(
        bytes == [1; 100],
        format!("{len} bytes, all as in the file"),
    );

    let zero = open(ZERO.as_ref(), Mode::ReadWrite)?;
    let len = look(&zero)?;
    story.did(format!(
        "asked for a page of {ZERO}, whose size is {}",
        size(&zero)?
    ));
    let mapped = Mapping::shared(&zero, len).map_err(Error::file("map", ZERO))?;
    story.expect(
        mapped.load(PAGE_SIZE - 1)? == 0,
        "mapped, and its last byte is there",
    );

    let sealed = memfd_create(
        c"mmapdemo",
        MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
    );
    let sealed = File::from(sealed.map_err(Error::call("memfd_create()", "a file in memory"))?);
    let sized = sealed.set_len(PAGE_SIZE as u64);
    sized.map_err(Error::file("size", "a file in memory"))?;
    let seal = fcntl(&sealed, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK));
    seal.map_err(Error::call("fcntl(F_SEAL_SHRINK)", "a file in memory"))?;
    story.did("sealed a file against shrinking, and tried to truncate it");
    let refused = sealed
        .set_len(0)
        .err()
        .and_then(|error| error.raw_os_error());
    story.expect(
        refused == Some(libc::EPERM),
        "EPERM: what was checked stays true",
    );
    story.why(
        "A size is true when it is read. Between processes that do not trust each other, a seal keeps it; \
         elsewhere, who maps a file that others may truncate has to be ready for SIGBUS.",
    );
    Ok(story)
}

fn size(file: &File) -> Result<u64> {
    let stat = fstat(file).map_err(Error::call("fstat()", "a file"))?;
    Ok(stat.st_size.unsigned_abs())
}

/// The test as it was written.
fn too_small(file: &File) -> Result<bool> {
    Ok(size(file)? < PAGE_SIZE as u64)
}

fn as_written() -> Result<Story> {
    let mut story = Story::default();
    let short = MemFile::filled(100)?;
    Errno::clear();
    let refused = too_small(short.file())?;
    let message = io::Error::from_raw_os_error(Errno::last_raw()).to_string();
    let message = message.replace(" (os error 0)", "");
    story.did("asked for a page of a file of 100 bytes");
    story.expect(
        refused && message == "Success",
        format!("refused, and perror gives as the reason: {message}"),
    );
    story.why("fstat succeeded. That a file is short is no error of a call, and errno says nothing of it.");
    let mapping = Request::shared(short.path()).map()?;
    story.expect(
        mapping.load(99)? == 1,
        "mmap itself takes the file, and its 100 bytes are there",
    );

    let zero = open(ZERO.as_ref(), Mode::ReadWrite)?;
    let refused = too_small(&zero)?;
    let mapped = Mapping::shared(&zero, PAGE_SIZE).is_ok();
    story.did(format!("asked for a page of {ZERO}"));
    story.expect(
        refused && mapped,
        "refused as well, although it can be mapped",
    );
    story
        .why("The size of a character device is 0, whatever it maps; so is that of /dev/mmapdemo.");

    let long = MemFile::filled(PAGE_SIZE)?;
    let passed = !too_small(long.file())?;
    let mapping = Request::shared(long.path()).map()?;
    let cut = long.file().set_len(0);
    cut.map_err(Error::file("truncate", long.path()))?;
    let ended = end("the reader", || mapping.load(0).map(drop))?;
    story.did("asked for a page of a file that is long enough, which somebody then truncated");
    let seen = passed && killed_by(ended, Signal::SIGBUS);
    story.expect(
        seen,
        "it passes, and the first load ends the process by SIGBUS",
    );
    story.why("The file was looked at earlier than it was used.");
    Ok(story)
}
