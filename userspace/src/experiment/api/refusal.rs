//! Refusal: arguments and objects that mmap does not take.

use std::fs::{self, OpenOptions, Permissions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use nix::sys::mman::ProtFlags;
use nix::unistd::pipe2;

use super::locking::{MEMLOCK, limit_locking};
use super::note_map;
use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::map_call::MapCall;
use crate::object::{MemFile, Mode, Request, open};
use crate::sys::{self, Mapping, PAGE_SIZE};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "access-refused",
        summary: "Maps the device in ways that its open mode does not allow, and anonymous memory writable and \
                  executable in a process that has given that up. Maps a file that nobody may open any more, and \
                  one open for appending.",
        run: access_refused,
    },
    Experiment {
        name: "locked-twice",
        summary: "While this process holds both kinds of write lock on the device, another maps it and stores. A \
                  child without privileges maps with MAP_LOCKED within and beyond its RLIMIT_MEMLOCK.",
        run: locked_twice,
    },
    Experiment {
        name: "invalid-arguments",
        summary: "Makes a valid call of mmap on the device, and six of which one argument each is invalid.",
        run: invalid_arguments,
    },
    Experiment {
        name: "unmappable-objects",
        summary: "Maps a folder, a pipe, a socket, /dev/null and two files of /proc; and, to compare, a file.",
        run: unmappable_objects,
    },
];

const ALL_RIGHTS: ProtFlags = ProtFlags::PROT_READ
    .union(ProtFlags::PROT_WRITE)
    .union(ProtFlags::PROT_EXEC);

fn access_refused(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let device = || Request::shared(fixture.device.node());
    let readable = device().mode(Mode::ReadOnly);
    let anonymous = Request::anonymous(libc::MAP_PRIVATE).prot(ALL_RIGHTS);
    let cases = [
        ("write-only", device().mode(Mode::WriteOnly)),
        ("read-only", readable.clone()),
        ("read-only-read", readable.prot(ProtFlags::PROT_READ)),
        ("read-write", device()),
        ("write-execute", anonymous.clone()),
    ];
    for (who, request) in cases {
        note_map(&mut evidence, who, request.try_map()?);
    }
    odd_permissions(&mut evidence)?;
    let refused = errand::run("who has given up to execute what it writes", || {
        let denied = sys::deny_write_execute();
        denied.map_err(Error::call("prctl(PR_SET_MDWE)", "a child"))?;
        let mut evidence = Evidence::new();
        note_map(&mut evidence, "given-up", anonymous.try_map()?);
        Ok(evidence)
    })?;
    evidence.extend(refused);
    Ok(evidence)
}

/// A descriptor that can only append, and a file that nobody may open any more.
fn odd_permissions(evidence: &mut Evidence) -> Result<()> {
    let call = Request::shared("").call();
    let file = MemFile::new(PAGE_SIZE)?;
    let mut append = OpenOptions::new();
    let append = append.read(true).append(true).open(file.path());
    let append = append.map_err(Error::file("open", file.path()))?;
    let mapped = Mapping::new(call, Some(append.as_fd()));
    note_map(evidence, "appending", mapped);
    let closed = fs::set_permissions(file.path(), Permissions::from_mode(0o000));
    closed.map_err(Error::file("change the mode of", file.path()))?;
    let mapped = Mapping::new(call, Some(file.file().as_fd()));
    note_map(evidence, "mode-000", mapped);
    Ok(())
}

fn locked_twice(fixture: &Fixture) -> Result<Evidence> {
    const TEXT: &[u8] = b"past the locks";
    let node = fixture.device.node();
    fixture.device.fill(0)?;
    let (device, flocked) = (fixture.device.open()?, fixture.device.open()?);
    let lock = |fd: BorrowedFd<'_>| fcntl(fd, FcntlArg::F_SETLK(&write_lock()));
    lock(device.as_fd()).map_err(Error::call("fcntl(F_SETLK)", "the device"))?;
    let flock = Flock::lock(flocked, FlockArg::LockExclusiveNonblock);
    let held = flock.map_err(|(_, errno)| Error::call("flock()", "the device")(errno))?;
    let mut evidence = errand::run("who holds no lock", || {
        let mut evidence = Evidence::new();
        let own = fixture.device.open()?;
        evidence.note("rival.fcntl", lock(own.as_fd()));
        let flock = Flock::lock(own, FlockArg::LockExclusiveNonblock);
        evidence.note("rival.flock", flock.map_err(|(_, errno)| errno));
        if let Some(mapping) = note_map(&mut evidence, "rival", Request::shared(node).try_map()?) {
            mapping.store_bytes(0, TEXT)?;
        }
        Ok(evidence)
    })?;
    drop(held);
    evidence.note("rival.stored", TEXT);
    evidence.note("kernel.bytes", fixture.device.read(0, TEXT.len())?);
    let limited = errand::run_as_nobody("who may lock little", || {
        let mut evidence = Evidence::new();
        limit_locking(MEMLOCK)?;
        let request = Request::anonymous(libc::MAP_PRIVATE | libc::MAP_LOCKED);
        for (who, nr_pages) in [("little", 4), ("much", 64)] {
            let mapped = request.clone().len(nr_pages * PAGE_SIZE).try_map()?;
            note_map(&mut evidence, who, mapped);
        }
        Ok(evidence)
    })?;
    evidence.extend(limited);
    Ok(evidence)
}

/// Of the whole file.
#[expect(
    clippy::cast_possible_truncation,
    reason = "both constants are below 4"
)]
fn write_lock() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn invalid_arguments(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let device = fixture.device.open()?;
    let valid = Request::shared(fixture.device.node()).call();
    let end = i64::try_from(fixture.device.buffer_len()?).unwrap_or(i64::MAX);
    let with_flags = |flags| MapCall { flags, ..valid };
    let with_offset = |offset| MapCall { offset, ..valid };
    let cases = [
        ("valid", valid),
        ("no-length", MapCall { len: 0, ..valid }),
        ("uneven-offset", with_offset(1)),
        ("no-type", with_flags(0)),
        ("unknown-type", with_flags(libc::MAP_TYPE)),
        (
            "shared-stack",
            with_flags(valid.flags | libc::MAP_GROWSDOWN),
        ),
        ("driver", with_offset(end)),
    ];
    for (who, call) in cases {
        note_map(&mut evidence, who, Mapping::new(call, Some(device.as_fd())));
    }
    let fixed = with_flags(valid.flags | libc::MAP_FIXED_NOREPLACE);
    let mapping = fixture.device.map_shared()?;
    let uneven = Mapping::placed(mapping.addr() + 1, fixed, Some(device.as_fd()));
    note_map(&mut evidence, "uneven-address", uneven);
    Ok(evidence)
}

fn unmappable_objects(_fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let call = Request::shared("").prot(ProtFlags::PROT_READ).call();
    let map = |fd: BorrowedFd<'_>| -> Result<Mapping, Errno> { Mapping::new(call, Some(fd)) };
    let named = [
        ("folder", "/"),
        ("null", "/dev/null"),
        ("maps", "/proc/self/maps"),
        ("cpuinfo", "/proc/cpuinfo"),
    ];
    for (who, path) in named {
        let file = open(path.as_ref(), Mode::ReadOnly)?;
        note_map(&mut evidence, who, map(file.as_fd()));
    }
    let (pipe, _end) =
        pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe2()", "what cannot be mapped"))?;
    note_map(&mut evidence, "pipe", map(pipe.as_fd()));
    let (socket, _end) = UnixStream::pair().map_err(Error::file("make", "a socket"))?;
    note_map(&mut evidence, "socket", map(socket.as_fd()));
    let file = MemFile::new(PAGE_SIZE)?;
    note_map(&mut evidence, "file", map(file.file().as_fd()));
    Ok(evidence)
}
