//! Fixture: what the experiments of one run find on this machine.

use std::rc::Rc;

use crate::actor::{Actor, Troupe};
use crate::boot::Boot;
use crate::claim::Setting;
use crate::cpu;
use crate::device::Device;
use crate::disk::{self, Disk, LazyDisk};
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::record::Records;
use crate::strategy::Strategy;
use crate::tracer::{LazyTracer, Tracer};

/// The machine as the experiments see it.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// The device under test, whether it is there or not.
    pub device: Device,
    /// How that device maps its buffer; `None` if it is not there or not the driver's.
    pub strategy: Option<Strategy>,
    /// Which of the boots of a run this is.
    pub boot: Boot,
    /// The CPUs this process may run on.
    pub cpus: Vec<usize>,
    /// `uname -r`.
    pub release: String,
    records: Rc<Records>,
    disk: Rc<LazyDisk>,
    cut_disk: Rc<LazyDisk>,
    tracer: Rc<LazyTracer>,
    troupe: Rc<Troupe>,
}

impl Fixture {
    /// Looks around; `device` need not exist.
    ///
    /// # Errors
    ///
    /// If the kernel does not answer what every kernel answers.
    pub fn new(device: Device) -> Result<Self> {
        let uname = nix::sys::utsname::uname().map_err(Error::call("uname()", "the kernel"))?;
        Ok(Self {
            strategy: Strategy::of(&device),
            device,
            boot: Boot::Main,
            records: Rc::default(),
            cpus: cpu::allowed()?,
            release: uname.release().to_string_lossy().into_owned(),
            disk: Rc::new(LazyDisk::new(disk::SCRATCH)),
            cut_disk: Rc::new(LazyDisk::new(disk::CUT)),
            tracer: Rc::default(),
            troupe: Rc::default(),
        })
    }

    /// The same in another boot of the run, with what earlier ones saw.
    #[must_use]
    pub fn in_boot(self, boot: Boot, records: Records) -> Self {
        let records = Rc::new(records);
        let cut_disk = match boot {
            Boot::PowerCut => Rc::new(LazyDisk::staying(disk::CUT)),
            _ => self.cut_disk,
        };
        Self {
            boot,
            records,
            cut_disk,
            ..self
        }
    }

    /// The same with these actors.
    #[must_use]
    pub fn with_troupe(self, troupe: Rc<Troupe>) -> Self {
        Self { troupe, ..self }
    }

    /// The same with another device under test.
    #[must_use]
    pub fn with_device(&self, device: Device) -> Self {
        Self {
            strategy: Strategy::of(&device),
            device,
            ..self.clone()
        }
    }

    /// What an experiment saw in an earlier boot, on this device if it is about the device, otherwise anywhere.
    #[must_use]
    pub fn recorded(&self, boot: Boot, experiment: &str) -> Option<&Evidence> {
        let of = |node| self.records.find(boot, experiment, node);
        of(self.strategy).or_else(|| of(None))
    }

    /// A process that is unrelated to this one, and has nothing mapped of what it was told to map.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn actor(&self, name: &str) -> Result<Actor> {
        self.troupe.cast(name)
    }

    /// An ext4 on a block device, mounted when it is first asked for and unmounted at the end.
    ///
    /// # Errors
    ///
    /// If there is none, or if it cannot be mounted.
    pub fn disk(&self) -> Result<&Disk> {
        self.disk.get()
    }

    /// The disk that was attached when the power was cut, or will be.
    ///
    /// # Errors
    ///
    /// As [`Fixture::disk`].
    pub fn cut_disk(&self) -> Result<&Disk> {
        self.cut_disk.get()
    }

    /// Why there is no disk, or `None` if there is.
    #[must_use]
    pub fn disk_missing(&self) -> Option<String> {
        self.disk.missing()
    }

    /// What records the kernel's functions, made when it is first asked for.
    ///
    /// # Errors
    ///
    /// If the kernel has no ftrace, or not for this user.
    pub fn tracer(&self) -> Result<&Tracer> {
        self.tracer.get()
    }

    /// Why nothing can be recorded, or `None` if it can.
    #[must_use]
    pub fn tracer_missing(&self) -> Option<String> {
        self.tracer.missing()
    }

    /// What decides which verdict is expected.
    #[must_use]
    pub fn setting(&self) -> Setting<'_> {
        Setting {
            release: &self.release,
            node: self.strategy,
        }
    }
}
