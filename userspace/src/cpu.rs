//! CPU: which ones this thread may run on, and that it runs on one of them only.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::error::{Error, Result};

/// `sched_setaffinity(2)`, `sched_getaffinity(2)`: the calling thread.
const THIS_THREAD: Pid = Pid::from_raw(0);

/// The CPUs that the calling thread may run on, by number.
///
/// # Errors
///
/// If the kernel knows of more CPUs than [`CpuSet`] has room for (`EINVAL`).
pub fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(THIS_THREAD);
    let set = set.map_err(Error::call("sched_getaffinity()", "this thread"))?;
    let is_allowed = |cpu: &usize| set.is_set(*cpu).unwrap_or(false);
    Ok((0..CpuSet::count()).filter(is_allowed).collect())
}

/// Keeps the calling thread, and what it starts, on one CPU.
///
/// # Errors
///
/// If there is no such CPU, or it is not allowed (`EINVAL`).
pub fn pin(cpu: usize) -> Result<()> {
    let to_one = || -> Result<(), Errno> {
        let mut set = CpuSet::new();
        set.set(cpu)?;
        sched_setaffinity(THIS_THREAD, &set)
    };
    to_one().map_err(Error::call("sched_setaffinity()", format!("CPU {cpu}")))
}
