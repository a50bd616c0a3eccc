//! Overcommit: how much memory the kernel promises in each of its three modes.

use serde::{Deserialize, Serialize};

use nix::sys::mman::ProtFlags;

use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::{CallEnd, Evidence};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::process::Process;
use crate::procfs;
use crate::sys::Mapping;
use crate::sysctl::{self, Sysctl};
use crate::turn::TURN;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "overcommit-table",
        summary: "In each overcommit mode, with MAP_NORESERVE and without, maps a quarter of the memory, 64 MiB more \
                  than all of it, 1 TiB, and more than all addresses; looks at the flags of the first and at what \
                  is committed; then maps eighths of the memory until one is refused, up to 50.",
        run: overcommit_table,
    },
    Experiment {
        name: "uncharged",
        summary: "In overcommit mode 2, maps 1 TiB for reading only, makes it writable, and maps a file of 1 TiB \
                  shared. In mode 0, maps the device privately 500 times, with MAP_NORESERVE and without, and looks \
                  at what is committed.",
        run: uncharged,
    },
    Experiment {
        name: "overcommit-ratio",
        summary: "Reads vm.overcommit_ratio and CommitLimit, computes the limit from the memory, and does so again \
                  with another ratio.",
        run: overcommit_ratio,
    },
    Experiment {
        name: "fork-and-overcommit",
        summary: "A process with three fifths of CommitLimit in private memory forks, in overcommit mode 2 and in \
                  mode 1; another process, which changed nothing, reads the mode.",
        run: fork_and_overcommit,
    },
];

/// The sysctl that chooses the mode, `proc_sys_vm(5)`.
pub(super) const MODE: &str = "vm.overcommit_memory";

const MIB: u64 = 1 << 20;
const TEBI: usize = 1 << 40;
/// More than all addresses of a process that does not ask for 57 bits.
const ALL_ADDRESSES: usize = 1 << 47;

/// What one process was promised.
#[derive(Serialize, Deserialize)]
struct Promises {
    sizes: Vec<(String, CallEnd)>,
    flags: Vec<String>,
    charged: u64,
    eighths: u64,
}

/// Rounded down to whole pages.
pub(super) fn bytes(len: u64) -> usize {
    usize::try_from(len).unwrap_or(0) & !(crate::sys::PAGE_SIZE - 1)
}

fn memory(flags: i32, len: usize) -> Request {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    Request::anonymous(0).flags(flags).len(len)
}

fn overcommit_table(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let machine = procfs::memory()?;
    evidence.note("machine.mib", (machine.total + machine.swap) / MIB);
    evidence.note("half-quarter.mib", machine.total / 8 / MIB);
    evidence.note("limit.mib", machine.limit / MIB);
    for mode in 0..=2 {
        let changed = Sysctl::set(MODE, mode)?;
        for (kind, flags) in [("plain", 0), ("noreserve", libc::MAP_NORESERVE)] {
            // A process of its own, so that nothing is left over for the next.
            let promises = errand::run("a customer", || promises(flags))?;
            let who = format!("{kind}-{mode}");
            for (size, end) in promises.sizes {
                evidence.note(format!("{who}.{size}"), end);
            }
            evidence.note(format!("{who}.flags"), promises.flags);
            evidence.note(format!("{who}.charged-mib"), promises.charged / MIB);
            evidence.note(format!("{who}.eighths"), promises.eighths);
            let sum = promises.eighths * (machine.total / 8) / MIB;
            evidence.note(format!("{who}.sum-mib"), sum);
        }
        changed.restore()?;
    }
    Ok(evidence)
}

fn promises(flags: i32) -> Result<Promises> {
    const MOST: usize = 50;
    let before = procfs::memory()?;
    let all = before.total + before.swap;
    let mut sizes = Vec::new();
    for (name, len) in [
        ("quarter", bytes(before.total / 4)),
        ("more", bytes(all + 64 * MIB)),
        ("tebi", TEBI),
        ("addresses", ALL_ADDRESSES),
    ] {
        let mapped = memory(flags, len).try_map()?;
        sizes.push((name.to_owned(), CallEnd::from(mapped)));
    }
    let quarter = memory(flags, bytes(before.total / 4)).map()?;
    let charged = procfs::memory()?.committed.saturating_sub(before.committed);
    let area = procfs::vma(quarter.addr())?;
    drop(quarter);
    let mut eighths = Vec::new();
    while eighths.len() < MOST {
        let Ok(eighth) = memory(flags, bytes(before.total / 8)).try_map()? else {
            break;
        };
        eighths.push(eighth);
    }
    Ok(Promises {
        sizes,
        flags: area.map_or_else(Vec::new, |area| area.flags),
        charged,
        eighths: eighths.len() as u64,
    })
}

fn uncharged(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let file = MemFile::new(TEBI)?;
    let strict = Sysctl::set(MODE, 2)?;
    evidence.note("writable.call", memory(0, TEBI).try_map()?);
    let mut readonly = memory(0, TEBI).prot(ProtFlags::PROT_READ).try_map()?;
    evidence.note("readonly.call", readonly.as_ref().map_err(|errno| *errno));
    if let Ok(mapping) = &mut readonly {
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        evidence.note("readonly.made-writable", mapping.protect(both));
    }
    drop(readonly);
    let shared = Request::shared(file.path()).len(TEBI).try_map()?;
    evidence.note("shared-file.call", shared);
    strict.restore()?;
    let guessing = Sysctl::set(MODE, 0)?;
    for (name, flags) in [("plain", 0), ("noreserve", libc::MAP_NORESERVE)] {
        let kib = charge_of_device(fixture, flags)? / 1024;
        evidence.note(format!("device.{name}-kib"), kib);
    }
    guessing.restore()?;
    Ok(evidence)
}

/// What 500 private mappings of the device commit, in bytes.
fn charge_of_device(fixture: &Fixture, flags: i32) -> Result<u64> {
    let before = procfs::memory()?.committed;
    let request = Request::private(fixture.device.node()).flags(libc::MAP_PRIVATE | flags);
    let mappings: Result<Vec<Mapping>> = (0..500).map(|_| request.map()).collect();
    let after = procfs::memory()?.committed;
    mappings.map(|_| after.saturating_sub(before))
}

fn overcommit_ratio(_: &Fixture) -> Result<Evidence> {
    const RATIO: &str = "vm.overcommit_ratio";
    let mut evidence = Evidence::new();
    let default = sysctl::number(RATIO)?;
    evidence.note("default.ratio", default);
    note_limit(&mut evidence, "default", default)?;
    let changed = Sysctl::set(RATIO, 80)?;
    note_limit(&mut evidence, "changed", 80)?;
    changed.restore()?;
    Ok(evidence)
}

fn note_limit(evidence: &mut Evidence, name: &str, ratio: u64) -> Result<()> {
    let memory = procfs::memory()?;
    let page = crate::sys::PAGE_SIZE as u64;
    let computed = memory.total / page * ratio / 100 * page + memory.swap;
    evidence.note(format!("{name}.limit-kib"), memory.limit / 1024);
    evidence.note(format!("{name}.computed-kib"), computed / 1024);
    Ok(())
}

fn fork_and_overcommit(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let limit = procfs::memory()?.limit;
    evidence.note("before.mode", sysctl::number(MODE)?);
    for mode in [2, 1] {
        let changed = Sysctl::set(MODE, mode)?;
        let (mapped, forked) = errand::run("a database", || fork_with(bytes(limit / 5 * 3)))?;
        evidence.note(format!("mode-{mode}.map"), mapped);
        evidence.note(format!("mode-{mode}.fork"), forked);
        let seen = errand::run("another process", || sysctl::number(MODE))?;
        evidence.note(format!("mode-{mode}.seen-by-another"), seen);
        changed.restore()?;
    }
    evidence.note("after.mode", sysctl::number(MODE)?);
    Ok(evidence)
}

/// Maps private memory and forks.
fn fork_with(len: usize) -> Result<(CallEnd, CallEnd)> {
    let mapped = memory(0, len).try_map()?;
    let forked = match Process::fork("the copy", || 0) {
        Ok(copy) => copy.wait(TURN).map(|_| CallEnd::Ok)?,
        Err(Error::Call { errno, .. }) => CallEnd::from(Err::<(), _>(errno)),
        Err(error) => return Err(error),
    };
    Ok((
        CallEnd::from(mapped.as_ref().map_err(|errno| *errno)),
        forked,
    ))
}
