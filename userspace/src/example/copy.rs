//! A file copied by two mappings.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::ProtFlags;
use nix::sys::signal::Signal;

use super::child::{end, killed_by};
use super::{Example, Story};
use crate::error::{Error, Result};
use crate::object::{MemFile, Mode, Request, open};
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const EXAMPLE: Example = Example {
    name: "copy",
    source: "002, copying a file",
    about: "copy a file by mapping both",
    right,
    as_written: Some(as_written),
};

/// Copies the content of one file over that of another, and says how long it is.
fn copy(from: &Path, to: &Path) -> Result<u64> {
    let source = open(from, Mode::ReadOnly)?;
    let target = open(to, Mode::ReadWrite)?;
    let len = source
        .metadata()
        .map_err(Error::file("look at", from))?
        .len();
    // Before the mapping is touched, or there are no pages to store to.
    target.set_len(len).map_err(Error::file("size", to))?;
    if len == 0 {
        return Ok(0);
    }
    let bytes =
        usize::try_from(len).map_err(|_| Error::call("mmap()", "a file")(Errno::EOVERFLOW))?;
    let read = Request::shared(from).mode(Mode::ReadOnly);
    let source = read.prot(ProtFlags::PROT_READ).len(bytes).map()?;
    let target = Request::shared(to).len(bytes).map()?;
    for offset in 0..bytes {
        target.store(offset, source.load(offset)?)?;
    }
    // Both mappings end here, as long as they are.
    Ok(len)
}

fn right() -> Result<Story> {
    let mut story = Story::default();
    for len in [10_000, 1, 0] {
        let (from, to) = (MemFile::filled(len)?, MemFile::filled(3)?);
        let copied = copy(from.path(), to.path())?;
        story.did(format!("copied a file of {len} bytes over one of 3"));
        let found = std::fs::read(to.path()).map_err(Error::file("read", to.path()))?;
        let same = found == vec![1; len] && copied == len as u64;
        story.expect(
            same,
            format!("{} bytes, all as in the original", found.len()),
        );
    }
    story.why(
        "The target gets its size first, lengths have 64 bits, and an empty file needs no mapping.",
    );
    Ok(story)
}

fn as_written() -> Result<Story> {
    let mut story = Story::default();
    let file = MemFile::filled(10_000)?;
    let mut first = Request::shared(file.path()).len(10_000).map()?;
    let rest = first.split_off(PAGE_SIZE)?;
    first
        .unmap()
        .map_err(Error::call("munmap(4096)", "a file"))?;
    let left = procfs::vma(rest.addr())?.map_or(0, |vma| vma.end - vma.start);
    story.did("mapped a file of 10000 bytes and unmapped it by munmap(address, 4096)");
    story.expect(left == 8192, format!("{left} bytes of it are still mapped"));
    story.why("munmap takes what it is told, not what mmap gave: it may unmap a part, and does so without a word.");

    let empty = Request::shared(MemFile::new(0)?.path())
        .len(0)
        .try_map()?
        .err();
    story.did("copied an empty file");
    story.expect(
        empty == Some(Errno::EINVAL),
        "mmap says EINVAL, so there is no copy",
    );

    big(&mut story)?;
    full(&mut story)?;
    story.why("Of the failures none reaches the shell: the program returns 0 for each.");
    Ok(story)
}

/// A size that does not fit an `int`.
fn big(story: &mut Story) -> Result<()> {
    const SIZE: u64 = 3 << 30;
    let file = MemFile::new(0)?;
    let sized = file.file().set_len(SIZE);
    sized.map_err(Error::file("size", file.path()))?;
    // What an `int` keeps of it, and what that becomes as a `size_t`.
    let [low @ .., _, _, _, _] = SIZE.to_le_bytes();
    let size = i32::from_le_bytes(low);
    let len = usize::MAX - size.unsigned_abs() as usize + 1;
    let refused = Request::shared(file.path()).len(len).try_map()?.err();
    story.did("put the size of a file of 3 GiB into an int");
    let seen = size < 0 && refused == Some(Errno::ENOMEM);
    story.expect(
        seen,
        format!("it becomes {size}, which as a length is {len}: ENOMEM"),
    );
    Ok(())
}

/// A target that cannot grow, as on a full disk.
fn full(story: &mut Story) -> Result<()> {
    let made = memfd_create(
        c"mmapdemo",
        MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
    );
    let target = File::from(made.map_err(Error::call("memfd_create()", "a file in memory"))?);
    let sealed = fcntl(&target, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW));
    sealed.map_err(Error::call("fcntl(F_SEAL_GROW)", "a file in memory"))?;
    let refused = target.set_len(PAGE_SIZE as u64).is_err();
    let mapping = Mapping::shared(&target, PAGE_SIZE).map_err(Error::file("map", "the target"))?;
    let ended = end("the copier", || mapping.store(0, 1))?;
    story.did("copied to a file that cannot grow, without looking at what ftruncate says");
    let seen = refused && killed_by(ended, Signal::SIGBUS);
    story.expect(
        seen,
        "ftruncate fails unheard, and the first store ends the process by SIGBUS",
    );
    Ok(())
}
