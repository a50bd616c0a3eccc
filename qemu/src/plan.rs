//! Plan: a guest as a stage wants it, and its boot.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::allowed;
use crate::boot::Boot;
use crate::cli::{AccelChoice, Extras, Furnishing};
use crate::debugger::Debugger;
use crate::disk::{self, Disk};
use crate::initramfs::GuestFile;
use crate::job::{Ending, Job, MODULE_PATH, Module, Work};
use crate::kit::Kit;
use crate::machine::{Clock, Hardware};
use crate::phase::Deadlines;
use crate::programs::has_interpreter;
use crate::report::Report;
use crate::session::{self, Guest, Refused, Streams};
use crate::warm::Start;
use crate::workshop::{Built, Workshop};

/// How long a program may take, if nobody says otherwise: ten times what all claims need on a slow machine.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Everything about a guest that stages decide differently.
pub struct Plan<'a> {
    /// Its kernel, its module and its programs.
    pub built: &'a Built,
    /// What executes its instructions.
    pub accel: AccelChoice,
    /// Parameters of the module.
    pub insmod_args: &'a [String],
    /// What it does.
    pub work: Work,
    /// How long a program may take; `None` is for ever.
    pub timeout: Option<Duration>,
    /// The kind of its boot, if it is not the main one.
    pub earlier: Option<&'static Boot>,
    /// What tells it from the guest of the main boot, if it is not that.
    pub label: Option<Label>,
    /// Archives of files, to be put behind the base.
    pub archives: Vec<PathBuf>,
    /// Its files, the module among them.
    pub files: Vec<GuestFile>,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Whether it boots, or was restored already.
    pub start: Start,
    /// Who debugs it; then it boots.
    pub debugger: Option<Debugger>,
}

/// What tells a guest from that of the main boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// A word for the names of its logs.
    pub name: String,
    /// What is special about it, in words that follow "boot Linux".
    pub what: String,
}

impl<'a> Plan<'a> {
    /// A guest that does `work` with the module loaded, by whatever accelerator there is.
    #[must_use]
    pub fn new(built: &'a Built, work: Work) -> Self {
        let module = GuestFile::data(MODULE_PATH, built.module.elf.as_slice());
        Self {
            built,
            accel: AccelChoice::Auto,
            insmod_args: &[],
            work,
            timeout: Some(TIMEOUT * built.target.kernel.checks.slowdown()),
            earlier: None,
            label: None,
            archives: Vec::new(),
            files: vec![module],
            disks: Vec::new(),
            start: Start::Cold,
            debugger: None,
        }
    }

    /// Puts `files` into the guest.
    #[must_use]
    pub fn files(mut self, files: impl IntoIterator<Item = GuestFile>) -> Self {
        self.files.extend(files);
        self
    }

    /// Adds what of the kit is wanted.
    ///
    /// # Errors
    ///
    /// When there is not enough memory for a disk.
    pub fn extras(mut self, kit: Option<&Kit>, wanted: Extras) -> Result<Self> {
        if let (Some(kit), true) = (kit, wanted.tools) {
            self.archives.push(kit.programs());
        }
        if wanted.disk {
            self.attach(kit, disk::Name::Scratch)?;
        }
        Ok(self)
    }

    /// Makes this a boot of this kind.
    ///
    /// # Errors
    ///
    /// When there is not enough memory for its disk.
    pub fn in_boot(mut self, boot: &'static Boot, kit: Option<&Kit>) -> Result<Self> {
        if boot.hardware.clock == Clock::Instructions {
            // The host's processor does not count them.
            self.accel = AccelChoice::Tcg;
        }
        if let Some(name) = boot.disk {
            self.attach(kit, name)?;
        }
        self.timeout = Some(boot.timeout * self.built.target.kernel.checks.slowdown());
        self.earlier = Some(boot);
        self.label = Some(Label {
            name: boot.name.to_owned(),
            what: boot.what.to_owned(),
        });
        Ok(self)
    }

    /// Gives each program this long, if somebody asks for it: in a boot of any kind.
    #[must_use]
    pub fn time(mut self, asked: Option<Duration>) -> Self {
        self.timeout = asked.or(self.timeout);
        self
    }

    /// Adds what the command line asks for.
    ///
    /// # Errors
    ///
    /// When there is not enough memory for a disk.
    pub fn furnish(self, wanted: &Furnishing, kit: Option<&Kit>) -> Result<Self> {
        let plan = self.extras(kit, wanted.extras)?;
        match wanted.boot {
            Some(boot) => plan.in_boot(boot, kit),
            None => Ok(plan),
        }
    }

    fn attach(&mut self, kit: Option<&Kit>, name: disk::Name) -> Result<()> {
        if self.disks.iter().all(|disk| disk.name != name) {
            let kit = kit.context("failed to find an empty disk: there is no kit")?;
            self.disks.push(Disk::copy_of(&kit.disk(), name)?);
        }
        Ok(())
    }

    /// Boots the guest, unless it was restored, and sees it through; keeps its logs below `target/`.
    ///
    /// # Errors
    ///
    /// When it cannot be made or started.
    pub fn boot(self, workshop: &Workshop<'_>, streams: Streams) -> Result<Report> {
        let (built, label) = (self.built, self.label.clone());
        let began = Instant::now();
        let report = self.run(workshop, streams)?;
        let name = label.as_ref().map(|label| label.name.as_str());
        workshop.keep(&built.target, &report, began, name)?;
        Ok(report)
    }

    fn run(mut self, workshop: &Workshop<'_>, streams: Streams) -> Result<Report> {
        let guest = Guest {
            archives: Vec::new(),
            files: std::mem::take(&mut self.files),
            job: Job {
                module: Some(Module::mmapdemo(self.insmod_args.join(" "))),
                work: self.work.clone(),
                ending: self.earlier.map_or(Ending::PowerOff, |boot| boot.ending),
                debugged: self.debugger.is_some(),
            },
            allowed: allowed::complaints()?,
        };
        let deadlines = Deadlines {
            program: self.timeout,
            ..self.built.target.kernel.checks.deadlines()
        };
        let (why, streams) = match std::mem::take(&mut self.start) {
            Start::Cold => return self.boot_cold(workshop, guest, streams, &deadlines),
            Start::Instead(why) => (why, streams),
            Start::Warm(warm) => {
                let release = &self.built.target.kernel.release;
                workshop
                    .progress
                    .note(&format!("  restore Linux {release} in QEMU"));
                let streams = Streams {
                    waiting: workshop.progress.waiting("load the module"),
                    ..streams
                };
                match warm.run(&guest, streams, &deadlines)? {
                    Ok(report) => return Ok(report),
                    Err(Refused { why, streams }) => {
                        (format!("what was saved is of no use: {why}"), streams)
                    }
                }
            }
        };
        workshop.progress.note(&format!("  cold start: {why}"));
        self.boot_cold(workshop, guest, streams, &deadlines)
    }

    fn boot_cold(
        self,
        workshop: &Workshop<'_>,
        mut guest: Guest,
        streams: Streams,
        deadlines: &Deadlines,
    ) -> Result<Report> {
        let hardware = self.earlier.map_or(Hardware::USUAL, |boot| boot.hardware);
        let Built {
            target, programs, ..
        } = self.built;
        let what = self.label.as_ref().map(|label| label.what.as_str());
        let mut machine = workshop.machine(target, self.accel, hardware, what)?;
        machine.disks = self.disks;
        guest
            .archives
            .push(workshop.base_archive(target, programs)?);
        guest.archives.extend(self.archives);
        let streams = Streams {
            waiting: workshop.progress.waiting("boot, load the module"),
            ..streams
        };
        match self.debugger {
            None => session::run(&machine, &guest, streams, deadlines),
            Some(debugger) => session::debug(debugger, &machine, &guest, streams, deadlines),
        }
    }
}

/// The host's files `paths` in the guest's `/root`, with their permission bits.
///
/// # Errors
///
/// When one is no file that can be read, or a program that the guest could not run.
pub fn copied_files(paths: &[PathBuf]) -> Result<Vec<GuestFile>> {
    paths.iter().map(|path| copied_file(path)).collect()
}

fn copied_file(path: &Path) -> Result<GuestFile> {
    use std::os::unix::fs::PermissionsExt;
    let context = || format!("failed to copy {} into the guest", path.display());
    let metadata = std::fs::metadata(path).with_context(context)?;
    let name = path.file_name().filter(|_| metadata.is_file());
    let name = name.with_context(|| format!("{}: it is no regular file", context()))?;
    let elf = std::fs::read(path).with_context(context)?;
    if has_interpreter(&elf) == Some(true) {
        bail!(
            "{}: it needs a dynamic linker, which the guest has not; link it with -static",
            context()
        );
    }
    let mode = metadata.permissions().mode() & 0o777;
    Ok(GuestFile::copy(path, Path::new("/root").join(name), mode))
}
