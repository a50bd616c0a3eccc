//! Fixture: what the experiments of one run find on this machine.

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::claim::Setting;
use crate::device::Device;
use crate::error::{Error, Result};

/// The machine as the experiments see it.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// The device under test, whether it is there or not.
    pub device: Device,
    /// The CPUs this process may run on.
    pub cpus: Vec<usize>,
    /// `uname -r`.
    pub release: String,
    node: String,
}

impl Fixture {
    /// Looks around; `device` need not exist.
    ///
    /// # Errors
    ///
    /// If the kernel does not answer what every kernel answers.
    pub fn new(device: Device) -> Result<Self> {
        let this = Pid::from_raw(0);
        let allowed =
            sched_getaffinity(this).map_err(Error::call("sched_getaffinity()", "self"))?;
        let is_allowed = |cpu: &usize| allowed.is_set(*cpu).unwrap_or(false);
        let uname = nix::sys::utsname::uname().map_err(Error::call("uname()", "the kernel"))?;
        Ok(Self {
            node: device.node().display().to_string(),
            device,
            cpus: (0..CpuSet::count()).filter(is_allowed).collect(),
            release: uname.release().to_string_lossy().into_owned(),
        })
    }

    /// What decides which verdict is expected.
    #[must_use]
    pub fn setting(&self) -> Setting<'_> {
        Setting {
            release: &self.release,
            node: &self.node,
        }
    }
}
