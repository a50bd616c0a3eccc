//! Msync: what the call does to memory, and what it refuses.

use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::mman::{MsFlags, shm_open};
use nix::sys::stat::Mode as Permissions;

use crate::actor::Watch;
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::procfs;
use crate::sys::{self, PAGE_SIZE, ioctl, sysv};
use crate::turn::TURN;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "store-without-msync",
        summary: "A stores into the device while B, on another CPU, watches without any system call; the kernel \
                  reads, and the frame is looked up. Only then msync is called, in three ways, and all is looked at \
                  again.",
        run: store_without_msync,
    },
    Experiment {
        name: "ms-invalidate",
        summary: "Stores a byte into a file in memory, one on disk and the device, calls msync with MS_INVALIDATE and \
                  looks whether the byte is there; then the same with the page locked.",
        run: ms_invalidate,
    },
    Experiment {
        name: "msync-errors",
        summary: "Calls msync with wrong addresses and flags, over a hole, on a locked page with MS_INVALIDATE, and on a \
                  file system that was shut down.",
        run: msync_errors,
    },
    Experiment {
        name: "shm-and-shmctl",
        summary: "Gives shmctl the descriptor that shm_open returned, and the identifier that shmget returned; looks \
                  whether a store into the memory of the first needs any of it to be seen.",
        run: shm_and_shmctl,
    },
];

const TEXT: &[u8] = b"news";

fn store_without_msync(fixture: &Fixture) -> Result<Evidence> {
    const FLAG: usize = 64;
    let mut evidence = Evidence::new();
    let node = fixture.device.node();
    fixture.device.fill(0)?;
    let own = fixture.device.map_shared()?;
    let device = fixture.device.open()?;
    let look = |when: &str, evidence: &mut Evidence| -> Result<()> {
        let kernel = ioctl::page_info(device.as_fd(), 0);
        let kernel = kernel.map_err(Error::call("ioctl(PAGE_INFO)", node.display().to_string()))?;
        own.load(0)?;
        let pfn = procfs::page(own.addr())?.pfn;
        evidence.note(format!("{when}.pfn"), Value::Pfn(pfn));
        evidence.note(format!("{when}.kernel-pfn"), Value::Pfn(Some(kernel.pfn)));
        evidence.note(
            format!("{when}.kernel-sees"),
            fixture.device.read(0, TEXT.len())?,
        );
        Ok(())
    };
    look("old", &mut evidence)?;
    let (mut a, mut b) = (fixture.actor("A")?, fixture.actor("B")?);
    a.map(&Request::shared(node))?;
    b.map(&Request::shared(node))?;
    b.watch(Watch {
        offset: FLAG,
        word: 1,
        timeout: TURN,
        then: (0, TEXT.len()),
    })?;
    a.store(0, TEXT)?;
    a.publish(FLAG, 1)?;
    evidence.note("a.stored", TEXT);
    if let Some(seen) = b.watched()? {
        evidence.note("before.b-sees", seen.bytes);
    }
    look("before", &mut evidence)?;
    for (name, flags) in [
        ("sync", MsFlags::MS_SYNC),
        ("async", MsFlags::MS_ASYNC),
        ("invalidate", MsFlags::MS_INVALIDATE),
    ] {
        evidence.note(format!("msync.{name}"), own.sync(flags));
    }
    look("after", &mut evidence)?;
    evidence.note("after.b-sees", b.load(0, TEXT.len())?.bytes);
    Ok(evidence)
}

fn ms_invalidate(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let disk = fixture.disk()?;
    let (memory, file) = (
        MemFile::new(PAGE_SIZE)?,
        disk.file("invalidate", &[0; PAGE_SIZE])?,
    );
    evidence.note("stored.byte", vec![7]);
    for (name, path) in [
        ("memory", memory.path()),
        ("disk", file.path()),
        ("device", fixture.device.node()),
    ] {
        let mapping = Request::shared(path).map()?;
        mapping.store(0, 7)?;
        let before = disk.sectors()?;
        evidence.note(
            format!("{name}.msync"),
            mapping.sync(MsFlags::MS_INVALIDATE),
        );
        let written = disk.sectors()?.since(before).written;
        evidence.note(format!("{name}.sectors-written"), written);
        evidence.note(format!("{name}.byte"), mapping.load_bytes(0, 1)?);
        evidence.note(format!("{name}.mlock"), mapping.lock());
        evidence.note(
            format!("{name}.locked-msync"),
            mapping.sync(MsFlags::MS_INVALIDATE),
        );
    }
    Ok(evidence)
}

fn msync_errors(fixture: &Fixture) -> Result<Evidence> {
    /// Bit 3 has no meaning in `include/uapi/asm-generic/mman-common.h`, 7.3.
    const UNKNOWN: i32 = 8;
    let mut evidence = Evidence::new();
    let file = MemFile::new(PAGE_SIZE)?;
    let mapping = Request::shared(file.path()).map()?;
    let addr = mapping.addr();
    let call = |addr, flags| sys::msync(addr, PAGE_SIZE, flags);
    evidence.note("plain.msync", call(addr, libc::MS_SYNC));
    evidence.note("no-flags.msync", call(addr, 0));
    evidence.note("unaligned.msync", call(addr + 1, libc::MS_SYNC));
    evidence.note("unknown-flag.msync", call(addr, UNKNOWN));
    evidence.note(
        "both-ways.msync",
        call(addr, libc::MS_SYNC | libc::MS_ASYNC),
    );
    mapping.lock().map_err(Error::call("mlock()", "a file"))?;
    evidence.note("locked.msync", call(addr, libc::MS_INVALIDATE));
    over_a_hole(fixture, &mut evidence)?;
    without_a_disk(fixture, &mut evidence)?;
    Ok(evidence)
}

/// Three pages of a file on disk, of which the middle one is unmapped.
fn over_a_hole(fixture: &Fixture, evidence: &mut Evidence) -> Result<()> {
    let disk = fixture.disk()?;
    let file = disk.file("hole", &[0; 3 * PAGE_SIZE])?;
    let mut first = Request::shared(file.path()).len(3 * PAGE_SIZE).map()?;
    let mut middle = first.split_off(PAGE_SIZE)?;
    let last = middle.split_off(PAGE_SIZE)?;
    middle.unmap().map_err(Error::call("munmap()", "a page"))?;
    first.store(0, 1)?;
    last.store(0, 1)?;
    let before = disk.sectors()?;
    evidence.note(
        "hole.msync",
        sys::msync(first.addr(), 3 * PAGE_SIZE, libc::MS_SYNC),
    );
    let written = disk.sectors()?.since(before).written;
    evidence.note("hole.sectors-written", written);
    Ok(())
}

/// The file system is told that its disk is gone; mounted anew, it is all right again.
fn without_a_disk(fixture: &Fixture, evidence: &mut Evidence) -> Result<()> {
    let disk = fixture.disk()?;
    let file = disk.file("gone", &[0; PAGE_SIZE])?;
    let mapping = Request::shared(file.path()).map()?;
    mapping.store(0, 1)?;
    evidence.note(
        "gone.shutdown",
        sys::filesystem::shut_down(file.file().as_fd()),
    );
    evidence.note("gone.msync", mapping.sync(MsFlags::MS_SYNC));
    drop((mapping, file));
    disk.remount()
}

/// Small numbers are identifiers as well as descriptors: by accident, a segment could have the same one.
const UNLIKE_AN_ID: i32 = 1000;

fn shm_and_shmctl(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let name = format!("/mmapdemo-{}", std::process::id());
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
    let opened = shm_open(
        name.as_str(),
        flags,
        Permissions::S_IRUSR | Permissions::S_IWUSR,
    );
    let fd = opened.map_err(Error::call("shm_open()", &name))?;
    let sized = nix::unistd::ftruncate(&fd, 4096).map_err(Error::call("ftruncate()", &name));
    let path = std::path::Path::new("/dev/shm").join(name.trim_start_matches('/'));
    let seen = sized.and_then(|()| see_a_store(fixture, &path, &mut evidence));
    nix::sys::mman::shm_unlink(name.as_str()).map_err(Error::call("shm_unlink()", &name))?;
    seen?;
    let copy = FcntlArg::F_DUPFD_CLOEXEC(UNLIKE_AN_ID);
    let number = fcntl(&fd, copy).map_err(Error::call("fcntl(F_DUPFD_CLOEXEC)", &name))?;
    evidence.note("shm-fd.shmctl", sysv::stat(number));
    let segment = sysv::Segment::new(PAGE_SIZE).map_err(Error::call("shmget()", "a page"))?;
    evidence.note("shm-id.shmctl", sysv::stat(segment.id()));
    evidence.note("shm-id.len", sysv::stat(segment.id()).unwrap_or(0) as u64);
    let fd_is_an_id = segment.id() == number;
    evidence.note("shm-fd.is-an-id", fd_is_an_id);
    Ok(evidence)
}

/// A writer and a reader that share nothing but the name.
fn see_a_store(fixture: &Fixture, path: &std::path::Path, evidence: &mut Evidence) -> Result<()> {
    let (mut writer, mut reader) = (fixture.actor("the writer")?, fixture.actor("the reader")?);
    writer.map(&Request::shared(path))?;
    reader.map(&Request::shared(path))?;
    writer.store(0, TEXT)?;
    evidence.note("writer.stored", TEXT);
    evidence.note("reader.sees", reader.load(0, TEXT.len())?.bytes);
    Ok(())
}
