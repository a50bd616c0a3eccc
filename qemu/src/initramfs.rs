//! The guest's files: archives that stay the same, and a small one for each run.
//!
//! All are cpio archives in the "newc" format, not compressed. The kernel unpacks one after the other, and
//! a later file replaces an earlier one (`Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cpio::newc::{self, ModeFileType};
use rustix::fs::{MemfdFlags, memfd_create};
use tempfile::NamedTempFile;

/// Directories that exist before anything is mounted.
const DIRECTORIES: &[&str] = &[
    "bin", "dev", "etc", "lab", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "usr/bin",
    "usr/sbin", "var", "var/tmp",
];

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
student:x:1000:1000:student:/tmp:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
";

const GROUP: &str = "root:x:0:\nstudent:x:1000:\nnogroup:x:65534:\n";

const PROFILE: &str = r#"export PATH=/bin:/sbin:/usr/bin:/usr/sbin
export PS1='\u@guest:\w\$ ' PAGER=less
if [ -e /sys/module/mmapdemo ]; then
    echo "mmapdemo.ko is loaded: rmmod mmapdemo unloads it, insmod mmapdemo.ko loads it again."
elif [ -e /root/mmapdemo.ko ]; then
    echo "mmapdemo.ko is here but not loaded; dmesg may say why. insmod mmapdemo.ko loads it."
fi
echo "mmapdemo run tries the claims, mmapdemo list names them, dmesg shows the kernel's log."
echo "exit, or Ctrl-D, powers off; Ctrl-] ends the guest at once, even one that hangs."
"#;

/// Files of the base archive, and what is in them.
const TEXTS: [(&str, &str); 5] = [
    ("/etc/passwd", PASSWD),
    ("/etc/group", GROUP),
    ("/etc/profile", PROFILE),
    ("/etc/hostname", "guest\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n"),
];

/// Everything that goes into the base archive of any guest, whatever its programs are.
#[must_use]
pub fn fixed_part() -> String {
    format!("{DIRECTORIES:?} {TEXTS:?}")
}

/// A file of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFile {
    /// Its path in the guest, absolute; missing directories are made.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// What is in it.
    pub content: Content,
}

/// Where a guest file's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A file of the host.
    HostFile(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
}

impl GuestFile {
    /// A copy of the host's file `from`, executable or not.
    pub fn copy(from: impl Into<PathBuf>, path: impl Into<PathBuf>, mode: u32) -> Self {
        Self {
            path: path.into(),
            mode,
            content: Content::HostFile(from.into()),
        }
    }

    /// A data file with the given bytes.
    pub fn data(path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            mode: 0o644,
            content: Content::Bytes(bytes.into()),
        }
    }
}

/// The programs that every guest has.
#[derive(Clone, Debug)]
pub struct BasePrograms<'a> {
    /// PID 1, static.
    pub init: &'a Path,
    /// Busybox, static.
    pub busybox: &'a Path,
    /// The experiments, static.
    pub experiments: &'a [GuestFile],
}

/// Writes the archive that all runs have in common to `to`.
///
/// # Errors
///
/// When a program cannot be read, busybox cannot say which applets it has, or `to` cannot be written.
pub fn write_base(programs: &BasePrograms<'_>, to: &Path) -> Result<()> {
    // Under its name only when it is whole: another run may be reading the one before.
    let (mut archive, temporary) = Archive::create(to)?;
    for directory in DIRECTORIES {
        let mode = if directory.ends_with("tmp") {
            0o1777
        } else {
            0o755
        };
        archive.directory(directory, mode)?;
    }
    archive.file(&GuestFile::copy(programs.init, "/init", 0o755))?;
    archive.file(&GuestFile::copy(programs.busybox, "/bin/busybox", 0o755))?;
    for applet in applets(programs.busybox)? {
        archive.symlink(&format!("bin/{applet}"), "busybox")?;
    }
    for experiment in programs.experiments {
        archive.file(experiment)?;
    }
    for (path, text) in TEXTS {
        archive.file(&GuestFile::data(path, text))?;
    }
    archive.finish()?;
    let named = temporary.persist(to).map(drop);
    named.with_context(|| format!("failed to write {}", to.display()))
}

/// Writes an archive of `files`, to be put behind the base, to `to`.
///
/// # Errors
///
/// When a file cannot be read, or `to` cannot be written.
pub fn write(files: &[GuestFile], to: &Path) -> Result<()> {
    let (mut archive, temporary) = Archive::create(to)?;
    for file in files {
        archive.file(file)?;
    }
    archive.finish()?;
    let named = temporary.persist(to).map(drop);
    named.with_context(|| format!("failed to write {}", to.display()))
}

/// What the kernel is given: copies of `archives`, the base first, then an archive of `files`.
///
/// It is a file in memory without a name, so that none is left behind, and no disk need have room.
///
/// # Errors
///
/// When a file cannot be read, or there is not enough memory.
pub fn assemble(archives: &[PathBuf], files: &[GuestFile]) -> Result<File> {
    let memory = memfd_create("initramfs", MemfdFlags::CLOEXEC)
        .context("failed to make the guest's initramfs")?;
    let mut archive = Archive::new("the guest's initramfs", memory.into());
    for path in archives {
        let mut source =
            File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
        io::copy(&mut source, &mut archive.out)
            .with_context(|| format!("failed to copy {}", path.display()))?;
    }
    for file in files {
        archive.file(file)?;
    }
    archive.finish()
}

/// The names under which busybox can be called.
///
/// Asked from the program itself: it is static and of the host's architecture, and knowing the names
/// beforehand saves the guest some 300 symlink(2) calls at each boot.
fn applets(busybox: &Path) -> Result<Vec<String>> {
    let output = Command::new(busybox)
        .arg("--list")
        .output()
        .with_context(|| format!("failed to run {} --list", busybox.display()))?;
    let names: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|name| !name.is_empty() && !name.contains('/') && *name != "busybox")
        .map(str::to_owned)
        .collect();
    ensure!(
        output.status.success() && names.iter().any(|name| name == "sh"),
        "failed to learn the applets of {}: {} says {}",
        busybox.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(names)
}

/// A newc archive that is being written.
struct Archive {
    name: String,
    out: BufWriter<File>,
    made: Vec<String>,
    ino: u32,
}

impl Archive {
    /// Begins an archive that is to become the file `to`.
    fn create(to: &Path) -> Result<(Self, NamedTempFile)> {
        let dir = to.parent().unwrap_or(Path::new("."));
        let create = || {
            NamedTempFile::new_in(dir).and_then(|temporary| Ok((temporary.reopen()?, temporary)))
        };
        let (file, temporary) =
            create().with_context(|| format!("failed to create {}", to.display()))?;
        Ok((Self::new(to.display().to_string(), file), temporary))
    }

    /// Begins to write to `file`, which error messages call `name`.
    fn new(name: impl Into<String>, file: File) -> Self {
        Self {
            name: name.into(),
            out: BufWriter::with_capacity(1 << 20, file),
            made: Vec::new(),
            ino: 0,
        }
    }

    fn directory(&mut self, name: &str, mode: u32) -> Result<()> {
        if !self.made.iter().any(|made| made == name) {
            self.entry(name, ModeFileType::Directory, mode, &[])?;
            self.made.push(name.to_owned());
        }
        Ok(())
    }

    fn symlink(&mut self, name: &str, target: &str) -> Result<()> {
        self.entry(name, ModeFileType::Symlink, 0o777, target.as_bytes())
    }

    fn file(&mut self, file: &GuestFile) -> Result<()> {
        let name = entry_name(&file.path)?;
        for parent in Path::new(&name)
            .ancestors()
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            if let Some(parent) = parent.to_str().filter(|parent| !parent.is_empty()) {
                self.parent(parent)?;
            }
        }
        match &file.content {
            Content::Bytes(bytes) => self.entry(&name, ModeFileType::Regular, file.mode, bytes),
            Content::HostFile(from) => {
                let bytes = std::fs::read(from)
                    .with_context(|| format!("failed to read {} for the guest", from.display()))?;
                self.entry(&name, ModeFileType::Regular, file.mode, &bytes)
            }
        }
    }

    /// A directory that a file needs. Those of the base archive are left as they are: repeating one would
    /// reset its mode.
    fn parent(&mut self, name: &str) -> Result<()> {
        if DIRECTORIES.contains(&name) {
            Ok(())
        } else {
            self.directory(name, 0o755)
        }
    }

    fn entry(&mut self, name: &str, kind: ModeFileType, mode: u32, bytes: &[u8]) -> Result<()> {
        let size = u32::try_from(bytes.len())
            .with_context(|| format!("{name} is too long for a newc archive: 4 GiB at most"))?;
        self.ino += 1; // entries with one inode number would be hard links of each other
        let mut entry = newc::Builder::new(name)
            .ino(self.ino)
            .mode(mode)
            .set_mode_file_type(kind)
            .write(&mut self.out, size);
        entry
            .write_all(bytes)
            .and_then(|()| entry.finish().map(drop))
            .with_context(|| format!("failed to write {name} to {}", self.name))
    }

    fn finish(self) -> Result<File> {
        let Self { name, out, .. } = self;
        let out = newc::trailer(out).with_context(|| format!("failed to write {name}"))?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error);
        file.with_context(|| format!("failed to write {name}"))
    }
}

/// The name of an absolute guest path in an archive: relative, without `..`.
fn entry_name(path: &Path) -> Result<String> {
    let name = path
        .strip_prefix("/")
        .ok()
        .filter(|name| {
            name.components()
                .all(|part| matches!(part, std::path::Component::Normal(_)))
        })
        .and_then(Path::to_str)
        .filter(|name| !name.is_empty());
    name.map(str::to_owned).with_context(|| {
        format!(
            "not a path for the guest: {} (absolute, UTF-8, no `..`)",
            path.display()
        )
    })
}
