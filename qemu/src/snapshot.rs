//! Snapshots: machines that were saved when their guest had booted, as entries of the cache.
//!
//! An entry is named after everything that a boot depends on, so that none is ever stale.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{MemfdFlags, memfd_create};
use sha2::{Digest, Sha256};

use crate::allowed;
use crate::cache::{self, Entry};
use crate::initramfs;
use crate::layout::Layout;
use crate::machine::{Birth, Machine};
use crate::package::hex;
use crate::phase::Deadlines;
use crate::prepare;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::session::{self, Resting};
use crate::sparse;
use crate::vm::Saved;

/// Changes whenever the lines of this file that shape a snapshot do.
const RECIPE: &str = "warm 1";

/// What the names of its cache entries begin with.
const PREFIX: &str = "warm-";

/// How many snapshots stay in the cache, of 120 MB each: with Debian's tools and without, or of two kernels.
const NR_KEPT: usize = 2;

/// The guest's memory, as large as that, with holes.
const MEMORY: &str = "memory";
/// The state of the processors and devices.
const STATE: &str = "state";
/// What the kernel said when it booted.
const CONSOLE: &str = "console.log";

/// What a snapshot is made of.
#[derive(Debug)]
pub struct Ingredients<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The kernel's release.
    pub release: &'a str,
    /// Names what the kernel was made of.
    pub kernel_key: &'a str,
    /// PID 1 and the experiments.
    pub programs: &'a Programs,
    /// Archives that come behind the base, of which the cache has one for each content.
    pub archives: &'a [PathBuf],
}

/// A snapshot, whether or not it has been made.
#[derive(Clone, Debug)]
pub struct Snapshot {
    dir: PathBuf,
}

impl Snapshot {
    /// The snapshot of these ingredients.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub fn of(layout: &Layout, ingredients: &Ingredients<'_>) -> Result<Self> {
        let key = key(ingredients)?;
        let name = format!("{PREFIX}{}-{key}", ingredients.release);
        Ok(Self {
            dir: layout.cache.join(name),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Boots a guest with the archive `base` and saves it, unless that was done.
    ///
    /// # Errors
    ///
    /// When the disk has no room, the boot fails, or QEMU does not save it; nothing half-made is left.
    pub fn make(
        &self,
        layout: &Layout,
        ingredients: &Ingredients<'_>,
        base: impl FnOnce() -> Result<PathBuf>,
        progress: &Progress,
    ) -> Result<()> {
        cache::make(&self.dir, "save a booted machine", progress, |dir| {
            let stage = progress.stage("boot a machine and save it");
            let Ingredients { machine, .. } = ingredients;
            let len = u64::from(machine.hardware.memory_mib) << 20;
            prepare::require_space(layout, len)?;
            // Not in the cache's file system: the guest writes to its memory all the time.
            let memory = memory(len).context("failed to make the guest's memory")?;
            let devices = create(&dir.join(STATE))?;
            let mut archives = vec![base()?];
            archives.extend_from_slice(ingredients.archives);
            let saved = Saved {
                memory: memory.try_clone().context("failed to make a descriptor")?,
                state: devices,
            };
            let allowed = allowed::complaints()?;
            let log = session::save(machine, &archives, saved, &allowed, &Deadlines::default())?;
            sparse::copy(&memory, &create(&dir.join(MEMORY))?)
                .with_context(|| format!("failed to write {}", dir.join(MEMORY).display()))?;
            let path = dir.join(CONSOLE);
            fs::write(&path, log).with_context(|| format!("failed to write {}", path.display()))?;
            stage.done();
            Ok(())
        })?;
        cache::thin(&layout.cache, PREFIX, NR_KEPT)
    }

    /// Restores it, if it is there and whole.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or QEMU cannot be started.
    pub fn restore(&self, machine: &Machine) -> Result<Option<Resting>> {
        // Until its files are open: what is open stays, even if another run removes the entry.
        let _held = cache::hold(&self.dir)?;
        if cache::state(&self.dir)? != Entry::Whole {
            return Ok(None);
        }
        let open = |name| {
            let path = self.dir.join(name);
            File::open(&path).with_context(|| format!("failed to open {}", path.display()))
        };
        let saved = Saved {
            memory: open(MEMORY)?,
            state: open(STATE)?,
        };
        Resting::restore(machine, saved, &self.read(CONSOLE)?).map(Some)
    }

    /// Has the next run make it again.
    ///
    /// # Errors
    ///
    /// When its seal cannot be removed.
    pub fn discard(&self) -> Result<()> {
        cache::disown(&self.dir)
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.dir.join(name);
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    }
}

/// Names everything that a boot of `ingredients` depends on.
fn key(ingredients: &Ingredients<'_>) -> Result<String> {
    let Ingredients { machine, .. } = ingredients;
    // The guest measures the host's clock when it boots, and relies on that for ever after: QEMU passes
    // the host's TSC on. So a snapshot is of no use to another host, nor perhaps after a reboot.
    let host = "/proc/sys/kernel/random/boot_id";
    let host = fs::read_to_string(host).with_context(|| format!("failed to read {host}"))?;
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    add(RECIPE.as_bytes());
    add(host.as_bytes());
    // The sysroot, which QEMU and busybox come from, is named after its content, and so are the archives.
    let args = [Birth::BootToSave, Birth::Restore].map(|birth| machine.args_for(birth));
    for word in machine.qemu.argv_prefix.iter().chain(args.iter().flatten()) {
        add(word.as_encoded_bytes());
    }
    for (name, value) in &machine.qemu.env {
        add(name.as_encoded_bytes());
        add(value.as_encoded_bytes());
    }
    add(ingredients.kernel_key.as_bytes());
    add(initramfs::fixed_part().as_bytes());
    let Programs {
        init,
        mmapdemo,
        actor,
    } = ingredients.programs;
    for program in [init, mmapdemo, actor] {
        add(&digest(program)?);
    }
    for archive in ingredients.archives {
        add(archive.as_os_str().as_encoded_bytes());
    }
    Ok(hex(&hash.finalize()[..6]))
}

fn digest(path: &Path) -> Result<Vec<u8>> {
    let mut hash = Sha256::new();
    File::open(path)
        .and_then(|mut file| io::copy(&mut file, &mut hash))
        .with_context(|| format!("failed to read {}", path.display()))?;
    Ok(hash.finalize().to_vec())
}

fn memory(len: u64) -> io::Result<File> {
    let file = File::from(memfd_create("guest-memory", MemfdFlags::CLOEXEC)?);
    file.set_len(len)?;
    Ok(file)
}

fn create(path: &Path) -> Result<File> {
    File::create_new(path).with_context(|| format!("failed to create {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Accel, Hardware, QemuProgram};

    fn machine() -> Machine {
        Machine {
            qemu: QemuProgram {
                argv_prefix: vec!["qemu".into()],
                env: Vec::new(),
            },
            kernel: "/vmlinux".into(),
            accel: Accel::Tcg,
            hardware: Hardware::USUAL,
            disks: Vec::new(),
            extra_cmdline: Vec::new(),
        }
    }

    /// What may be changed of the ingredients.
    struct Kitchen {
        machine: Machine,
        archives: Vec<PathBuf>,
        kernel: String,
        programs: Programs,
    }

    fn key_with(change: impl FnOnce(&mut Kitchen)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let [init, mmapdemo, actor] =
            ["init", "mmapdemo", "actor"].map(|name| dir.path().join(name));
        for program in [&init, &mmapdemo, &actor] {
            fs::write(program, "program").unwrap();
        }
        let mut kitchen = Kitchen {
            machine: machine(),
            archives: Vec::new(),
            kernel: "kernel".into(),
            programs: Programs {
                init,
                mmapdemo,
                actor,
            },
        };
        change(&mut kitchen);
        key(&Ingredients {
            machine: &kitchen.machine,
            release: "7.3.4",
            kernel_key: &kitchen.kernel,
            programs: &kitchen.programs,
            archives: &kitchen.archives,
        })
        .unwrap()
    }

    #[test]
    fn whatever_a_boot_depends_on_changes_the_key() {
        let same = key_with(|_| ());
        assert_eq!(same, key_with(|_| ()));
        let mut keys = vec![
            same,
            key_with(|it| it.machine.hardware.memory_mib += 1),
            key_with(|it| it.machine.hardware.nr_cpus += 1),
            key_with(|it| it.machine.kernel = "/other".into()),
            key_with(|it| it.machine.extra_cmdline.push("quiet".into())),
            key_with(|it| it.machine.qemu.argv_prefix.push("-L".into())),
            key_with(|it| it.machine.accel = Accel::Kvm),
            key_with(|it| it.archives.push("/kit-1/tools.cpio".into())),
            key_with(|it| it.kernel.push_str(" built again")),
            key_with(|it| fs::write(&it.programs.init, "other").unwrap()),
            key_with(|it| fs::write(&it.programs.mmapdemo, "other").unwrap()),
            key_with(|it| fs::write(&it.programs.actor, "other").unwrap()),
        ];
        let nr_keys = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), nr_keys);
    }

    #[test]
    fn what_is_not_there_cannot_be_restored() {
        let tmp = tempfile::tempdir().unwrap();
        let snapshot = Snapshot {
            dir: tmp.path().join("warm-7.3.4"),
        };
        assert!(snapshot.restore(&machine()).unwrap().is_none());
    }
}
