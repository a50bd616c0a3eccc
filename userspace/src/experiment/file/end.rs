//! End: what a mapping shows where the file, or the mapping itself, is over.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::mman::{MsFlags, ProtFlags};

use crate::actor::Actor;
use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::{CallEnd, Evidence};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Mode, Request, open};
use crate::probe::{Access, touch};
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "tail-of-page",
        summary: "Writes a page to a file in memory and to one on disk, cuts both to 100 bytes and maps them. Stores \
                  behind their end, looks from another process, by read, after msync, from a new mapping, and once \
                  the file has grown again.",
        run: tail_of_page,
    },
    Experiment {
        name: "beyond-end",
        summary: "Maps files further than they reach: one of 100 bytes, one of a page, an empty one, one that then \
                  grows, one that then is cut. Loads, stores and system calls behind the end; the same on the device.",
        run: beyond_end,
    },
    Experiment {
        name: "short-map",
        summary: "Maps only the first byte of a file of three pages, and 100 bytes of the device, with another file's \
                  page right behind, then with nothing there.",
        run: short_map,
    },
    Experiment {
        name: "size-check",
        summary: "Maps what a check of st_size lets through, then has another process cut the file; the same with a \
                  file sealed against that. Puts the device and an empty file to the check.",
        run: size_check,
    },
];

/// The length of files that end within their first page.
const SHORT: usize = 100;
/// Behind the end of such a file, in its last page.
const BEHIND: usize = 200;

fn set_len(file: &File, path: &Path, len: usize) -> Result<()> {
    let set = file.set_len(len as u64);
    set.map_err(Error::file("size", path))
}

fn len(file: &File, path: &Path) -> Result<u64> {
    let meta = file.metadata().map_err(Error::file("look at", path))?;
    Ok(meta.len())
}

fn tail_of_page(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    evidence.note("tail.stored", vec![b'T']);
    evidence.note("tail.zero", vec![0]);
    let tmpfs = MemFile::filled(PAGE_SIZE)?;
    look_at_tail("tmpfs", tmpfs.file(), tmpfs.path(), &mut evidence)?;
    let ext4 = fixture.disk()?.file("tail", &[1; PAGE_SIZE])?;
    look_at_tail("ext4", ext4.file(), ext4.path(), &mut evidence)?;
    Ok(evidence)
}

fn look_at_tail(name: &str, file: &File, path: &Path, evidence: &mut Evidence) -> Result<()> {
    set_len(file, path, SHORT)?;
    let request = Request::shared(path);
    let mapping = request.map()?;
    let page = mapping.load_bytes(0, PAGE_SIZE)?;
    let count = |page: &[u8]| page.iter().filter(|byte| **byte != 0).count() as u64;
    let (content, tail) = page.split_at(SHORT);
    evidence.note(format!("{name}.content-bytes"), count(content));
    evidence.note(format!("{name}.tail-nonzero"), count(tail));

    mapping.store(BEHIND, b'T')?;
    let mut other = Actor::start("the other")?;
    other.map(&request)?;
    evidence.note(format!("{name}.other-sees"), other.load(BEHIND, 1)?.bytes);
    let synced = mapping.sync(MsFlags::MS_SYNC);
    synced.map_err(Error::call("msync(MS_SYNC)", path.display().to_string()))?;
    let mut read = vec![0; PAGE_SIZE];
    let nr_read = file.read_at(&mut read, 0);
    let nr_read = nr_read.map_err(Error::file("read", path))?;
    evidence.note(format!("{name}.read-len"), nr_read as u64);
    evidence.note(format!("{name}.len"), len(file, path)?);
    other.kill()?;
    drop(mapping);
    let again = request.map()?;
    evidence.note(format!("{name}.mapped-again"), again.load_bytes(BEHIND, 1)?);
    drop(again);
    set_len(file, path, PAGE_SIZE)?;
    let mut byte = vec![0];
    file.read_exact_at(&mut byte, BEHIND as u64)
        .map_err(Error::file("read", path))?;
    evidence.note(format!("{name}.grown"), byte);
    Ok(())
}

fn beyond_end(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let tail = MemFile::new(SHORT)?;
    let mapping = Request::shared(tail.path()).map()?;
    evidence.note(
        "tail.store",
        touch(mapping.addr() + BEHIND, Access::Store(1))?,
    );
    evidence.note("tail.len", len(tail.file(), tail.path())?);

    let file = MemFile::new(PAGE_SIZE)?;
    let request = Request::shared(file.path()).len(2 * PAGE_SIZE);
    let Ok(mapping) = request.try_map()? else {
        evidence.note("page.mmap", false);
        return Ok(evidence);
    };
    evidence.note("page.mmap", CallEnd::Ok);
    let end = mapping.addr() + PAGE_SIZE;
    evidence.note("page.last-byte", touch(end - 1, Access::Load)?);
    evidence.note("beyond.load", touch(end, Access::Load)?);
    evidence.note("beyond.store", touch(end, Access::Store(1))?);
    let taken = mapping.write_to(tail.file().as_fd(), PAGE_SIZE, 1);
    evidence.note("beyond.kernel-copy", taken);
    evidence.note("beyond.len", len(file.file(), file.path())?);
    set_len(file.file(), file.path(), PAGE_SIZE + 1)?;
    evidence.note("grown.load", touch(end, Access::Load)?);
    set_len(file.file(), file.path(), 0)?;
    evidence.note("cut.load", touch(mapping.addr(), Access::Load)?);
    nothing_in_it(&mut evidence)?;
    evidence.note(
        "device.len",
        len(&fixture.device.open()?, fixture.device.node())?,
    );
    let device = fixture.device.map_shared()?;
    evidence.note("device.load", touch(device.addr(), Access::Load)?);
    Ok(evidence)
}

/// Files that are empty or do not even exist.
fn nothing_in_it(evidence: &mut Evidence) -> Result<()> {
    let file = MemFile::new(0)?;
    let mapped = Request::shared(file.path()).try_map()?;
    evidence.note(
        "empty.mmap",
        CallEnd::from(mapped.as_ref().map_err(|errno| *errno)),
    );
    if let Ok(mapping) = mapped {
        evidence.note("empty.load", touch(mapping.addr(), Access::Load)?);
        evidence.note("empty.store", touch(mapping.addr(), Access::Store(1))?);
        evidence.note("empty.len", len(file.file(), file.path())?);
        set_len(file.file(), file.path(), 1)?;
        let last = mapping.addr() + PAGE_SIZE - 1;
        evidence.note("sized.load", touch(last, Access::Load)?);
    }
    let missing = std::env::temp_dir().join("mmapdemo-no-such-file");
    let opened = File::open(&missing).map_err(|error| {
        error
            .raw_os_error()
            .map_or(Errno::UnknownErrno, Errno::from_raw)
    });
    evidence.note("missing.open", opened);
    Ok(())
}

/// A reserved range of two pages whose first one shows `len` bytes of the object.
fn followed(path: &Path, len: usize) -> Result<Mapping> {
    let nothing = Request::anonymous(libc::MAP_PRIVATE).prot(ProtFlags::PROT_NONE);
    let mut range = nothing.len(2 * PAGE_SIZE).map()?;
    place(&mut range, 0, path, len)?;
    Ok(range)
}

fn place(range: &mut Mapping, offset: usize, path: &Path, len: usize) -> Result<()> {
    let file = open(path, Mode::ReadWrite)?;
    let call = Request::shared(path).len(len).call();
    let placed = range.replace_page(offset, call, Some(file.as_fd()));
    placed.map_err(Error::call("mmap(MAP_FIXED)", path.display().to_string()))?;
    Ok(())
}

fn short_map(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let file = MemFile::filled(3 * PAGE_SIZE)?;
    let neighbour = MemFile::new(PAGE_SIZE)?;
    Request::shared(neighbour.path()).map()?.store(0, b'N')?;
    fixture.device.fill(1)?;
    let objects = [
        ("file", file.path(), 1),
        ("device", fixture.device.node(), SHORT),
    ];
    for (name, path, len) in objects {
        let mut range = followed(path, len)?;
        let behind = range.addr() + PAGE_SIZE;
        evidence.note(
            format!("{name}.rest-of-page"),
            touch(behind - 1, Access::Load)?,
        );
        place(&mut range, PAGE_SIZE, neighbour.path(), PAGE_SIZE)?;
        evidence.note(format!("{name}.neighbour"), touch(behind, Access::Load)?);
        let rest = range.split_off(PAGE_SIZE)?;
        rest.unmap()
            .map_err(Error::call("munmap()", "the neighbour"))?;
        evidence.note(
            format!("{name}.hole-is-free"),
            procfs::vma(behind)?.is_none(),
        );
        evidence.note(format!("{name}.hole"), touch(behind, Access::Load)?);
    }
    Ok(evidence)
}

fn size_check(fixture: &Fixture) -> Result<Evidence> {
    /// What the documents' example does before it maps.
    fn passes(file: &File, path: &Path) -> Result<bool> {
        Ok(len(file, path)? >= PAGE_SIZE as u64)
    }
    let mut evidence = Evidence::new();
    let file = MemFile::filled(PAGE_SIZE)?;
    let empty = MemFile::new(0)?;
    evidence.note("file.passes", passes(file.file(), file.path())?);
    evidence.note("empty.passes", passes(empty.file(), empty.path())?);

    let shared = Request::shared(file.path()).map()?;
    let copied = Request::private(file.path()).map()?;
    copied.store(0, 2)?;
    errand::run("who cuts the file", || set_len(file.file(), file.path(), 0))?;
    evidence.note("cut.load", touch(shared.addr(), Access::Load)?);
    evidence.note("cut.load-of-copy", touch(copied.addr(), Access::Load)?);

    let sealed = MemFile::unshrinkable(PAGE_SIZE)?;
    let mapping = Request::shared(sealed.path()).map()?;
    let cut = nix::unistd::ftruncate(sealed.file(), 0);
    evidence.note("sealed.ftruncate", cut);
    evidence.note("sealed.load", touch(mapping.addr(), Access::Load)?);

    let node = fixture.device.node();
    let mut device = fixture.device.open()?;
    evidence.note("device.passes", passes(&device, node)?);
    let end = device.seek(SeekFrom::End(0));
    evidence.note(
        "device.seek-end",
        end.map_err(Error::file("seek in", node))?,
    );
    let mapping = fixture.device.map_shared()?;
    evidence.note("device.load", touch(mapping.addr(), Access::Load)?);
    Ok(evidence)
}
