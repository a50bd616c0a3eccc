//! Plan: a guest as a stage wants it, and its boot.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cli::{AccelChoice, Extras};
use crate::disk::{self, Disk};
use crate::initramfs::GuestFile;
use crate::job::{Job, MODULE_PATH, Module, Work};
use crate::kit::Kit;
use crate::phase::Deadlines;
use crate::programs::has_interpreter;
use crate::report::Report;
use crate::session::{self, Guest, Streams};
use crate::workshop::{Built, Workshop};

/// Everything about a guest that stages decide differently.
#[derive(Debug)]
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
    /// Archives of files, to be put behind the base.
    pub archives: Vec<PathBuf>,
    /// Its files, the module among them.
    pub files: Vec<GuestFile>,
    /// Its disks.
    pub disks: Vec<Disk>,
}

impl<'a> Plan<'a> {
    /// A guest that does `work` with the module loaded, by whatever accelerator there is.
    #[must_use]
    pub fn new(built: &'a Built, work: Work) -> Self {
        let module = GuestFile::copy(&built.module.path, MODULE_PATH, 0o644);
        Self {
            built,
            accel: AccelChoice::Auto,
            insmod_args: &[],
            work,
            timeout: Deadlines::default().program,
            archives: Vec::new(),
            files: vec![module],
            disks: Vec::new(),
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
            self.archives.push(kit.tools());
        }
        if let (Some(kit), true) = (kit, wanted.disk) {
            let disk = Disk::copy_of(&kit.disk(), disk::Name::Scratch)?;
            self.disks.push(disk);
        }
        Ok(self)
    }

    /// Boots the guest, and sees it through; keeps its logs below `target/`.
    ///
    /// # Errors
    ///
    /// When it cannot be made or started.
    pub fn boot(self, workshop: &Workshop<'_>, streams: Streams) -> Result<Report> {
        let mut machine = workshop.machine(&self.built.target, self.accel)?;
        machine.disks = self.disks;
        let mut archives = vec![workshop.base_archive(self.built)?];
        archives.extend(self.archives);
        let guest = Guest {
            archives,
            files: self.files,
            job: Job {
                module: Some(Module::mmapdemo(self.insmod_args.join(" "))),
                work: self.work,
            },
            allowed: Vec::new(),
        };
        let deadlines = Deadlines {
            program: self.timeout,
            ..Deadlines::default()
        };
        let began = Instant::now();
        let report = session::run(&machine, &guest, streams, &deadlines)?;
        workshop.keep(&self.built.target, &report, began)?;
        Ok(report)
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
