//! Lock: what `MAP_LOCKED` does, and who may.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::{CallEnd, Evidence};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::probe::{Access, touch};
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "lock-limit",
        summary: "As nobody, with RLIMIT_MEMLOCK at 64 KiB, maps 32 KiB and 256 KiB with MAP_LOCKED, and then, with \
                  the limit at 0, one page; as root, with the limit at 0, one page.",
        run: lock_limit,
    },
    Experiment {
        name: "map-locked",
        summary: "Maps with MAP_LOCKED and looks at what is present and locked at once: anonymous memory, two pages \
                  of a file that has one, a writable private file and the device. Then mlock on the two pages.",
        run: map_locked,
    },
];

const KIB: usize = 1024;
const LOCKED: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_LOCKED;

fn locked(len: usize) -> Request {
    Request::anonymous(0).flags(LOCKED).len(len)
}

fn limit(bytes: u64) -> Result<()> {
    setrlimit(Resource::RLIMIT_MEMLOCK, bytes, bytes)
        .map_err(Error::call(format!("setrlimit({bytes})"), "RLIMIT_MEMLOCK"))
}

fn vm_flags(mapping: &Mapping) -> Result<Vec<String>> {
    Ok(procfs::vma(mapping.addr())?.map_or_else(Vec::new, |vma| vma.flags))
}

fn lock_limit(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let inherited = getrlimit(Resource::RLIMIT_MEMLOCK);
    let (soft, _) = inherited.map_err(Error::call("getrlimit()", "RLIMIT_MEMLOCK"))?;
    evidence.note("inherited.limit", soft);
    let (flags, large, zero) = errand::run_as_nobody("nobody", || {
        limit(64 * KIB as u64)?;
        let flags = vm_flags(&locked(32 * KIB).map()?)?;
        let large = CallEnd::from(locked(256 * KIB).try_map()?);
        limit(0)?;
        Ok((flags, large, CallEnd::from(locked(PAGE_SIZE).try_map()?)))
    })?;
    evidence.note("nobody.small-flags", flags);
    evidence.note("nobody.large", large);
    evidence.note("nobody.zero", zero);
    let root = errand::run("root", || {
        limit(0)?;
        Ok(CallEnd::from(locked(256 * KIB).try_map()?))
    })?;
    evidence.note("root.zero", root);
    Ok(evidence)
}

fn map_locked(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let file = MemFile::filled(PAGE_SIZE)?;
    let before = procfs::locked_kib()?;
    let private = libc::MAP_PRIVATE | libc::MAP_LOCKED;
    let shared = libc::MAP_SHARED | libc::MAP_LOCKED;
    for (name, request) in [
        ("memory", locked(2 * PAGE_SIZE)),
        (
            "short-file",
            Request::shared(file.path())
                .flags(shared)
                .len(2 * PAGE_SIZE),
        ),
        ("private-file", Request::private(file.path()).flags(private)),
        (
            "device",
            Request::shared(fixture.device.node()).flags(shared),
        ),
    ] {
        let mapping = request.map()?;
        evidence.note(format!("{name}.flags"), vm_flags(&mapping)?);
        evidence.note(format!("{name}.present"), procfs::present(&mapping)?);
        let locked = procfs::locked_kib()?.saturating_sub(before);
        evidence.note(format!("{name}.locked-kib"), locked);
        let own = procfs::vma(mapping.addr())?.map_or(0, |vma| vma.anonymous_kib);
        evidence.note(format!("{name}.own-kib"), own);
    }
    let two = Request::shared(file.path()).len(2 * PAGE_SIZE).map()?;
    evidence.note("short-file.mlock", two.lock());
    let beyond = touch(two.addr() + PAGE_SIZE, Access::Load)?;
    evidence.note("short-file.second-page", beyond);
    evidence.note("plain-memory.present", plain_present()?);
    let plain = Request::shared(fixture.device.node()).map()?;
    evidence.note("device.plain-flags", vm_flags(&plain)?);
    Ok(evidence)
}

/// The contrast: the same memory without the flag.
fn plain_present() -> Result<u64> {
    let plain = Request::anonymous(libc::MAP_PRIVATE).len(2 * PAGE_SIZE);
    procfs::present(&plain.map()?)
}
