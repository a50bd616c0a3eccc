//! The workshop: where one run of the lab gets each of its artefacts from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::accel;
use crate::cache;
use crate::cached_kernel::KernelTree;
use crate::checks::Checks;
use crate::cli::{AccelChoice, Extras, Kernel, KernelArgs};
use crate::command::Cancelled;
use crate::failure::Failure;
use crate::host;
use crate::initramfs::{self, BasePrograms};
use crate::kit::{self, Contents, Kit};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::machine::{Hardware, Machine};
use crate::module::{Builder, KernelModule, Manner};
use crate::own_kernel;
use crate::parallel;
use crate::prepare::{self, Request};
use crate::programs::{Programs, TestProgram};
use crate::progress::Progress;
use crate::report::Report;
use crate::stop::Stop;
use crate::sysroot::Sysroot;

/// What all stages of one run share.
#[derive(Debug)]
pub struct Workshop<'a> {
    /// Where everything is.
    pub layout: Layout,
    /// Who is told what goes on.
    pub progress: &'a Progress,
    /// How one failed job stops the others.
    pub stop: Stop,
    /// How modules are built.
    pub manner: Manner,
}

/// A kernel, and the toolchain for it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The toolchain and QEMU.
    pub sysroot: Sysroot,
    /// The kernel.
    pub kernel: KernelTree,
    /// Keeps other runs from removing the two.
    #[expect(dead_code, reason = "held for its Drop")]
    held: Arc<Vec<Lock>>,
}

/// A kernel and a toolchain that are still being prepared.
#[derive(Debug)]
pub struct TargetSoon(Receiver<Target>);

impl TargetSoon {
    /// Waits until they are there.
    ///
    /// # Errors
    ///
    /// When they will never be.
    pub fn wait(&self) -> Result<Target> {
        self.0
            .recv()
            .map_err(|_| Cancelled::to("wait for the kernel").into())
    }
}

/// Everything that a guest is made of.
#[derive(Debug)]
pub struct Built {
    /// The kernel and QEMU.
    pub target: Target,
    /// The module.
    pub module: KernelModule,
    /// The guest's programs.
    pub programs: Programs,
}

impl<'a> Workshop<'a> {
    /// A workshop for the clone around the working directory.
    ///
    /// # Errors
    ///
    /// When there is no such clone, or no descriptor is left.
    pub fn open(progress: &'a Progress) -> Result<Self> {
        let stop = Stop::new().context("failed to make a pipe")?;
        Ok(Self {
            layout: Layout::find()?,
            progress,
            stop,
            manner: Manner::Whole,
        })
    }

    /// The same, in which nothing was told to stop yet.
    ///
    /// # Errors
    ///
    /// When no descriptor is left.
    pub fn again(&self) -> Result<Self> {
        Ok(Self {
            layout: self.layout.clone(),
            progress: self.progress,
            stop: Stop::new().context("failed to make a pipe")?,
            manner: self.manner,
        })
    }

    /// Prepares the kernel and the toolchain, as far as they are not there.
    ///
    /// # Errors
    ///
    /// As [`prepare::prepare`] and [`own_kernel::describe`].
    pub fn prepare(&self, args: &KernelArgs, update: bool) -> Result<Target> {
        // Before anything is installed on the host for it.
        self.layout.make_cache()?;
        host::complete(self.progress, &self.stop)?;
        let wanted = args.kernel.toolchain()?;
        let request = Request {
            wanted: &wanted,
            mirror: args.mirror.as_deref(),
            update,
        };
        if let Kernel::Own(dir) = &args.kernel {
            let sysroot = prepare::toolchain(&self.layout, &request, self.progress, &self.stop)?;
            let kernel = own_kernel::describe(dir, &sysroot, &self.stop)?;
            let held = Arc::new(vec![cache::hold(&sysroot.root)?]);
            return Ok(Target {
                sysroot,
                kernel,
                held,
            });
        }
        let prepared = prepare::prepare(&self.layout, &request, self.progress, &self.stop)?;
        let held = Arc::new(vec![
            cache::hold(&prepared.sysroot.root)?,
            cache::hold(&prepared.kernel.dir)?,
        ]);
        Ok(Target {
            sysroot: prepared.sysroot,
            kernel: prepared.kernel.tree(),
            held,
        })
    }

    /// What builds the module for `target`.
    #[must_use]
    pub fn builder<'b>(&'b self, target: &'b Target) -> Builder<'b> {
        Builder {
            layout: &self.layout,
            sysroot: &target.sysroot,
            kernel: &target.kernel,
            manner: self.manner,
        }
    }

    /// The absolute path of the directory with the `Kbuild` and the `driver/` that the module is built from: `driver`, or else
    /// the clone.
    ///
    /// # Errors
    ///
    /// When `driver` has none.
    pub fn driver(&self, driver: Option<&Path>) -> Result<PathBuf> {
        let Some(driver) = driver else {
            return Ok(self.layout.project.clone());
        };
        if !driver.join("Kbuild").is_file() || !driver.join("driver").is_dir() {
            return Err(Failure::Usage(format!(
                "{} has no Kbuild and no driver/; `cargo lab new DIR` makes a directory that has",
                driver.display()
            ))
            .into());
        }
        std::path::absolute(driver)
            .with_context(|| format!("failed to name the directory {}", driver.display()))
    }

    /// Builds the module: from the sources in `driver`, or else from those of the clone.
    ///
    /// # Errors
    ///
    /// When `driver` has no such sources, or they do not compile.
    pub fn build_module(&self, target: &Target, driver: Option<&Path>) -> Result<KernelModule> {
        let layout = Layout {
            project: self.driver(driver)?,
            ..self.layout.clone()
        };
        let builder = Builder {
            layout: &layout,
            ..self.builder(target)
        };
        builder.build(self.progress, &self.stop)
    }

    /// Prepares, and builds the module and the programs: the latter while the former wait for the network.
    ///
    /// # Errors
    ///
    /// As [`Self::prepare`], and when something does not compile.
    pub fn build(&self, args: &KernelArgs) -> Result<Built> {
        self.build_and(args, |_| Ok(())).map(|(built, ())| built)
    }

    /// As [`Self::build`]; does `then` as soon as the programs are there, while the kernel may still be
    /// prepared.
    ///
    /// # Errors
    ///
    /// As [`Self::build`] and `then`.
    pub fn build_and<T: Send>(
        &self,
        args: &KernelArgs,
        then: impl FnOnce(&Programs) -> Result<T> + Send,
    ) -> Result<(Built, T)> {
        self.build_meanwhile(args, |programs, _| then(programs))
    }

    /// As [`Self::build_and`]; `meanwhile` can wait for the kernel, and goes on while the module is built.
    ///
    /// # Errors
    ///
    /// As [`Self::build`] and `meanwhile`.
    pub fn build_meanwhile<T: Send>(
        &self,
        args: &KernelArgs,
        meanwhile: impl FnOnce(&Programs, &TargetSoon) -> Result<T> + Send,
    ) -> Result<(Built, T)> {
        self.layout.make_cache()?;
        host::complete(self.progress, &self.stop)?;
        let (there, soon) = mpsc::channel();
        let soon = TargetSoon(soon);
        let (kernel_side, (programs, done)) = parallel::both(
            move || {
                let target = self.prepare(args, false)?;
                // Whoever waited for it may have given up.
                let _ = there.send(target.clone());
                let module = self.build_module(&target, args.driver.as_deref())?;
                Ok((target, module))
            },
            move || {
                let stage = self.progress.stage("build the guest's programs");
                let programs = Programs::build(&self.layout, &self.stop)?;
                stage.done();
                let done = meanwhile(&programs, &soon)?;
                Ok((programs, done))
            },
            &self.stop,
        )?;
        let (target, module) = kernel_side;
        let built = Built {
            target,
            module,
            programs,
        };
        Ok((built, done))
    }

    /// What guests get only if they are asked for, made if it is not there.
    ///
    /// # Errors
    ///
    /// As [`Kit::prepare`].
    pub fn kit(&self, args: &KernelArgs, update: bool) -> Result<Kit> {
        self.kit_of(&kit::TOOLS, args, update)
    }

    /// The kit with these contents, made if it is not there.
    ///
    /// # Errors
    ///
    /// As [`Kit::prepare`].
    pub fn kit_of(&self, contents: &Contents, args: &KernelArgs, update: bool) -> Result<Kit> {
        let mirror = args.mirror.as_deref();
        let (progress, stop) = (self.progress, &self.stop);
        Kit::prepare(contents, &self.layout, mirror, update, progress, stop)
    }

    /// The tests that need a guest, built.
    ///
    /// # Errors
    ///
    /// As [`TestProgram::build_all`].
    pub fn guest_tests(&self, checks: Checks) -> Result<Vec<TestProgram>> {
        let _shown = self.progress.waiting("build the guest's tests");
        TestProgram::build_all(&self.layout, checks, &self.stop)
    }

    /// The kit, if anything of it is wanted.
    ///
    /// # Errors
    ///
    /// As [`Kit::prepare`].
    pub fn kit_for(&self, wanted: Extras, args: &KernelArgs) -> Result<Option<Kit>> {
        (wanted != Extras::default())
            .then(|| self.kit(args, false))
            .transpose()
    }

    /// The machine that boots `target`; `what` is special about it, if anything is.
    ///
    /// # Errors
    ///
    /// When KVM was demanded and is of no use.
    pub fn machine(
        &self,
        target: &Target,
        accel: AccelChoice,
        hardware: Hardware,
        what: Option<&str>,
    ) -> Result<Machine> {
        let machine = self.machine_for(target, accel, hardware)?;
        let release = &target.kernel.release;
        let what = what.map_or_else(String::new, |what| format!(", {what}"));
        self.progress.note(&format!(
            "  boot Linux {release} in QEMU, by {}{what}",
            machine.accel
        ));
        Ok(machine)
    }

    /// As [`Self::machine`], without a word: nothing boots yet.
    ///
    /// # Errors
    ///
    /// As [`Self::machine`].
    pub fn machine_for(
        &self,
        target: &Target,
        accel: AccelChoice,
        hardware: Hardware,
    ) -> Result<Machine> {
        let qemu = target.sysroot.qemu();
        let choice = accel::choose(accel.into(), &qemu, &self.layout.accel_answer())?;
        Ok(Machine {
            qemu,
            kernel: target.kernel.image.clone(),
            accel: choice.accel,
            hardware: target.kernel.checks.enlarge(hardware),
            disks: Vec::new(),
            extra_cmdline: target.kernel.checks.cmdline(),
        })
    }

    /// Writes the archive that all guests of this clone have in common.
    ///
    /// # Errors
    ///
    /// When a program cannot be read, or the disk is full.
    pub fn base_archive(&self, target: &Target, programs: &Programs) -> Result<PathBuf> {
        let dir = self.layout.build(&target.kernel.release);
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("failed to make {}", dir.display()))?;
        let path = dir.join("base.cpio");
        let busybox = target.sysroot.path("usr/bin/busybox");
        let programs = BasePrograms {
            init: &programs.init,
            busybox: &busybox,
            experiments: &programs.experiments(),
        };
        initramfs::write_base(&programs, &path)?;
        Ok(path)
    }

    /// Records a run's phases for `--timings`, and keeps its logs below `target/`; `boot` is the name of one
    /// that is not the main one.
    ///
    /// # Errors
    ///
    /// When the logs cannot be written.
    pub fn keep(
        &self,
        target: &Target,
        report: &Report,
        began: Instant,
        boot: Option<&str>,
    ) -> Result<()> {
        let (guest, suffix) = boot.map_or_else(Default::default, |boot| {
            (format!(", {boot}"), format!("-{boot}"))
        });
        let mut from = began;
        for timing in &report.timings {
            let name = format!("guest{guest}: {}", timing.phase);
            self.progress.record(&name, from, timing.elapsed);
            from += timing.elapsed;
        }
        let dir = self.layout.build(&target.kernel.release);
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("failed to make {}", dir.display()))?;
        for (name, text) in [
            (format!("console{suffix}.log"), &report.console),
            (format!("results{suffix}.ktap"), &report.ktap),
        ] {
            let path = dir.join(name);
            std::fs::write(&path, text)
                .with_context(|| format!("failed to write {}", path.display()))?;
        }
        Ok(())
    }
}
