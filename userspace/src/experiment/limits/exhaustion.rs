//! Exhaustion: what becomes of a process that stores to more memory than there is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::overcommit::{MODE, bytes};
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::process::{End, Process};
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};
use crate::sysctl::Sysctl;

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "out-of-memory",
    summary: "Processes that the kernel is to kill first store to every page of a mapping until they end: of twice \
              the memory with MAP_NORESERVE, of as much as there is without it, and, in overcommit mode 2, of half \
              of what may still be promised. There, all of CommitLimit is asked for as well.",
    run: out_of_memory,
}];

/// To store to all memory takes a second or so, and to kill not long.
const TIMEOUT: Duration = Duration::from_secs(60);

fn out_of_memory(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let memory = procfs::memory()?;
    evidence.note("machine.mib", memory.total >> 20);
    evidence.note("machine.swap-mib", memory.swap >> 20);
    let reserved = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let unreserved = reserved | libc::MAP_NORESERVE;
    for (name, mode, flags, len) in [
        ("noreserve", 0, unreserved, 2 * memory.total),
        ("plain", 0, reserved, memory.total),
        (
            "strict",
            2,
            reserved,
            memory.limit.saturating_sub(memory.committed) / 2,
        ),
    ] {
        let changed = Sysctl::set(MODE, mode)?;
        let request = Request::anonymous(0).flags(flags).len(bytes(len));
        let (end, touched) = exhaust(&request)?;
        let more = Request::anonymous(0).flags(flags).len(bytes(memory.limit));
        evidence.note(format!("{name}.more"), more.try_map()?.map(drop));
        changed.restore()?;
        evidence.note(format!("{name}.end"), end);
        evidence.note(format!("{name}.mapped-mib"), len >> 20);
        evidence.note(format!("{name}.touched-mib"), touched >> 20);
    }
    Ok(evidence)
}

/// How a child ends that stores to every page of a mapping, and how many bytes it got to.
fn exhaust(request: &Request) -> Result<(End, u64)> {
    let progress = Request::anonymous(libc::MAP_SHARED).map()?;
    let victim = Process::fork("the victim", || {
        i32::from(store_all(request, &progress).is_err())
    })?;
    let end = victim.wait(TIMEOUT)?;
    let pages = progress.long(0)?.load(Ordering::Acquire);
    Ok((end, pages * PAGE_SIZE as u64))
}

fn store_all(request: &Request, progress: &Mapping) -> Result<()> {
    /// Before any other process, `proc_pid_oom_score_adj(5)`.
    const FIRST: &str = "1000";
    const SCORE: &str = "/proc/self/oom_score_adj";
    std::fs::write(SCORE, FIRST).map_err(Error::file("write", SCORE))?;
    let memory = request.map()?;
    for offset in (0..memory.len()).step_by(PAGE_SIZE) {
        memory.store(offset, 1)?;
        progress.long(0)?.fetch_add(1, Ordering::Release);
    }
    Ok(())
}
