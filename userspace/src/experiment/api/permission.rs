//! Permission: what mmap refuses with EPERM.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::path::Path;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::ProtFlags;

use super::locking::limit_locking;
use super::note_map;
use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "permission-refused",
    summary: "Maps for execution a file of a file system mounted noexec; writable and shared, a memfd sealed \
              against that; over a sealed page; and, without privileges, with MAP_LOCKED at limit 0 and below \
              vm.mmap_min_addr. Beside each a call that differs in one thing.",
    run: permission_refused,
}];

const EXECUTABLE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_EXEC);

fn permission_refused(_fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = errand::run("who mounts and seals", || {
        let mut evidence = Evidence::new();
        noexec_file(&mut evidence)?;
        sealed_file(&mut evidence)?;
        sealed_page(&mut evidence)?;
        note_map(&mut evidence, "privileged-low", low());
        Ok(evidence)
    })?;
    evidence.extend(errand::run_as_nobody("who may nothing", || {
        let mut evidence = Evidence::new();
        note_map(&mut evidence, "low", low());
        let locked = Request::anonymous(libc::MAP_PRIVATE | libc::MAP_LOCKED);
        note_map(&mut evidence, "locked", locked.try_map()?);
        limit_locking(0)?;
        note_map(&mut evidence, "locked-limit-0", locked.try_map()?);
        Ok(evidence)
    })?);
    Ok(evidence)
}

/// In a mount name space of its own, which ends with the child.
fn noexec_file(evidence: &mut Evidence) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("mmapdemo-noexec-{}", std::process::id()));
    fs::create_dir_all(&dir).map_err(Error::file("make", &dir))?;
    let mounted = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| {
            let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        })
        .and_then(|()| {
            let tmpfs = Some("tmpfs");
            mount(tmpfs, &dir, tmpfs, MsFlags::MS_NOEXEC, None::<&str>)
        });
    let noted = mounted
        .map_err(Error::call(
            "mount(tmpfs, MS_NOEXEC)",
            dir.display().to_string(),
        ))
        .and_then(|()| map_file(evidence, &dir.join("code")));
    // The folder below the mount; the mount itself ends with its name space.
    let _ = nix::mount::umount2(&dir, nix::mount::MntFlags::MNT_DETACH);
    fs::remove_dir(&dir).map_err(Error::file("remove", &dir))?;
    noted
}

fn map_file(evidence: &mut Evidence, path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let file = options.open(path).map_err(Error::file("open", path))?;
    let sized = file.set_len(PAGE_SIZE as u64);
    sized.map_err(Error::file("size", path))?;
    let request = Request::private(path);
    note_map(evidence, "noexec-readable", request.clone().try_map()?);
    note_map(
        evidence,
        "noexec-executable",
        request.prot(EXECUTABLE).try_map()?,
    );
    Ok(())
}

fn sealed_file(evidence: &mut Evidence) -> Result<()> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = memfd_create(c"sealed", flags).map(File::from);
    let file = file.map_err(Error::call("memfd_create()", "a file in memory"))?;
    let sized = file.set_len(PAGE_SIZE as u64);
    sized.map_err(Error::file("size", "a file in memory"))?;
    let (shared, private) = (Request::shared(""), Request::private(""));
    let map = |request: &Request| Mapping::new(request.call(), Some(file.as_fd()));
    note_map(evidence, "unsealed-shared", map(&shared));
    let sealed = fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE));
    sealed.map_err(Error::call("fcntl(F_ADD_SEALS)", "a file in memory"))?;
    note_map(evidence, "sealed-shared", map(&shared));
    note_map(evidence, "sealed-private", map(&private));
    Ok(())
}

fn sealed_page(evidence: &mut Evidence) -> Result<()> {
    let request = Request::anonymous(libc::MAP_PRIVATE);
    let mut page = request.map()?;
    evidence.note(
        "unsealed-page.map",
        page.replace_page(0, request.call(), None),
    );
    let sealed = page.seal();
    sealed.map_err(Error::call("mseal()", "a page"))?;
    evidence.note(
        "sealed-page.map",
        page.replace_page(0, request.call(), None),
    );
    Ok(())
}

/// A page that nothing else can have, below where addresses begin.
fn low() -> Result<Mapping, nix::errno::Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE;
    Mapping::placed(PAGE_SIZE, Request::anonymous(flags).call(), None)
}
