//! Need: what an experiment cannot do without, and whether this machine has it.

use std::env;
use std::fmt;
use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::boot::Boot;
use crate::btf;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::procfs;

/// Something that an experiment cannot do without.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// The device node of the module.
    Device,
    /// Frame numbers in `/proc/PID/pagemap`, which only `CAP_SYS_ADMIN` may see (proc(5)).
    Pagemap,
    /// A block device with an ext4 of its own.
    Disk,
    /// The rights of root: to become another user, or to change how the kernel behaves.
    Root,
    /// Two processes that really run at the same time.
    TwoCpus,
    /// Two boots of one disk, the first of which lost its power.
    PowerCut,
    /// A boot with little memory.
    SmallMemory,
    /// A boot whose clock counts instructions.
    Counting,
    /// The kernel's function tracer, for root (`Documentation/trace/ftrace.rst`).
    Ftrace,
    /// The kernel's description of its own types (`Documentation/bpf/btf.rst`).
    Btf,
    /// Debian's pmap(1) and strace(1).
    Tools,
    /// Software that is no part of this project and cannot be brought along.
    ExternalSoftware,
}

impl Need {
    /// The boot that it asks for.
    #[must_use]
    pub fn boot(self) -> Option<Boot> {
        match self {
            Self::PowerCut => Some(Boot::PowerCut),
            Self::SmallMemory => Some(Boot::SmallMemory),
            Self::Counting => Some(Boot::Counting),
            _ => None,
        }
    }

    /// The need as a word for whoever sets up the machine.
    #[must_use]
    pub fn requirement(self) -> String {
        match self {
            Self::Device => "device".to_owned(),
            Self::Pagemap => "pagemap".to_owned(),
            Self::Disk => "disk".to_owned(),
            Self::Root => "root".to_owned(),
            Self::TwoCpus => "two-cpus".to_owned(),
            Self::PowerCut => format!("boot {}", Boot::PowerCut),
            Self::SmallMemory => format!("boot {}", Boot::SmallMemory),
            Self::Counting => format!("boot {}", Boot::Counting),
            Self::Ftrace => "ftrace".to_owned(),
            Self::Btf => "btf".to_owned(),
            Self::Tools => "tools".to_owned(),
            Self::ExternalSoftware => "external-software".to_owned(),
        }
    }

    /// Why it is not met here, or `None` if it is.
    #[must_use]
    pub fn unmet(self, fixture: &Fixture) -> Option<String> {
        match self {
            Self::Device => fixture.device.unusable(),
            Self::Disk => fixture.disk_missing(),
            Self::Pagemap => no_frame_numbers(),
            Self::Ftrace => not_a_guest().or_else(|| fixture.tracer_missing()),
            Self::Btf => no_types(),
            Self::Tools => TOOLS.iter().find_map(|tool| not_in_path(tool)),
            Self::Root if !nix::unistd::geteuid().is_root() => Some("not root".to_owned()),
            Self::Root => not_a_guest(),
            Self::TwoCpus if fixture.cpus.len() < 2 => {
                Some("one CPU: nothing happens at the same time".to_owned())
            }
            // What another boot does, the run asks for by experiment.
            Self::TwoCpus | Self::PowerCut | Self::SmallMemory | Self::Counting => None,
            Self::ExternalSoftware => {
                Some("it is about software that cannot be brought along".to_owned())
            }
        }
    }
}

/// The programs that [`Need::Tools`] is about.
const TOOLS: [&str; 2] = ["pmap", "strace"];

fn not_in_path(program: &str) -> Option<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let there = env::split_paths(&path).any(|dir| dir.join(program).is_file());
    (!there).then(|| format!("no program {program}"))
}

/// The port by which the lab talks to its guest.
const LABS_PORT: &str = "/dev/virtio-ports/lab.control";

/// What an experiment changes for a moment, such as how memory is promised, is the whole system's.
fn not_a_guest() -> Option<String> {
    let is_guest = Path::new(LABS_PORT).exists();
    (!is_guest).then(|| "it changes settings of the system: only in the lab's guest".to_owned())
}

fn no_types() -> Option<String> {
    let opened = File::open(btf::VMLINUX);
    let error = opened.err()?;
    Some(format!("cannot open {}: {error}", btf::VMLINUX))
}

/// Looks up a page that is certainly there.
fn no_frame_numbers() -> Option<String> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    let looked = Request::anonymous(0)
        .flags(flags)
        .map()
        .and_then(|it| procfs::page(it.addr()));
    match looked {
        Ok(page) if page.pfn.is_some_and(|pfn| pfn != 0) => None,
        Ok(_) => Some("not root: pagemap shows no frame numbers".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Device => "the device",
            Self::Disk => "a disk",
            Self::Pagemap => "pagemap as root",
            Self::Root => "root",
            Self::TwoCpus => "two CPUs",
            Self::PowerCut => "a power cut",
            Self::SmallMemory => "a boot with little memory",
            Self::Counting => "a boot that counts instructions",
            Self::Ftrace => "ftrace",
            Self::Btf => "the kernel's types",
            Self::Tools => "pmap and strace",
            Self::ExternalSoftware => "other software",
        })
    }
}
