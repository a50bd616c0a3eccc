//! Place: the directory where the files of one debugged run are.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::process::getuid;
use tempfile::TempDir;

use crate::failure::Failure;
use crate::lock::Lock;

/// How long the name of a socket may be (`sun_path`, unix(7)), without the byte that ends it.
const LONGEST_SOCKET: usize = 107;

/// What the names of these directories begin with.
const PREFIX: &str = "mmapdemo-";

/// The lock file of a directory, which is locked as long as its run lives.
const LOCK: &str = "lock";

/// A directory of this run's own, which nobody else can enter, with the socket and gdb's files. Dropping it
/// removes it; of a run that was killed, the next one removes it.
#[derive(Debug)]
pub struct Place {
    dir: TempDir,
    /// Keeps other runs from removing it.
    #[expect(dead_code, reason = "held for its Drop")]
    lock: Lock,
}

impl Place {
    /// Makes it, and listens there.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or its name is too long for a socket.
    pub fn make() -> Result<(Self, UnixListener)> {
        Self::make_in(&env::temp_dir())
    }

    fn make_in(tmp: &Path) -> Result<(Self, UnixListener)> {
        sweep(tmp);
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(tmp)
            .with_context(|| {
                format!(
                    "failed to make a directory for the debugger's socket in {}; TMPDIR names another",
                    tmp.display()
                )
            })?;
        let lock = lock(dir.path())?;
        let place = Self { dir, lock };
        let socket = place.socket();
        if socket.as_os_str().len() > LONGEST_SOCKET {
            return Err(Failure::Usage(format!(
                "{} is too long for the name of a socket: set TMPDIR to a shorter directory",
                socket.display()
            ))
            .into());
        }
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("failed to listen on {}", socket.display()))?;
        Ok((place, listener))
    }

    /// Where QEMU listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("gdb.socket")
    }

    /// The commands for a debugger.
    #[must_use]
    pub fn commands(&self) -> PathBuf {
        self.dir.path().join("guest.gdb")
    }

    /// A script that starts gdb with them.
    #[must_use]
    pub fn script(&self) -> PathBuf {
        self.dir.path().join("gdb")
    }

    /// The module that the guest has loaded.
    #[must_use]
    pub fn module(&self) -> PathBuf {
        self.dir.path().join("mmapdemo.ko")
    }

    /// Writes the files whose content is known when the guest has loaded the module.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn write(&self, commands: &str, script: &[u8]) -> Result<()> {
        write(&self.commands(), commands.as_bytes(), 0o600)?;
        write(&self.script(), script, 0o700)
    }

    /// Writes the module.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_module(&self, elf: &[u8]) -> Result<()> {
        write(&self.module(), elf, 0o600)
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let write = || {
        fs::write(path, bytes)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    write().with_context(|| format!("failed to write {}", path.display()))
}

/// Locks a new directory. The lock file has its name only when it is locked: another run that looks for what
/// was left behind finds no lock that is free yet.
fn lock(dir: &Path) -> Result<Lock> {
    let (new, path) = (dir.join("lock.new"), dir.join(LOCK));
    let context = || format!("failed to lock {}", dir.display());
    let lock = Lock::take_if_free(&new)?.with_context(context)?;
    fs::rename(&new, &path).with_context(context)?;
    Ok(lock)
}

/// Removes what killed runs of this user have left in `tmp`. What cannot be removed is in nobody's way.
fn sweep(tmp: &Path) {
    let Ok(entries) = fs::read_dir(tmp) else {
        // Making a directory there will tell why.
        return;
    };
    for entry in entries.flatten() {
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
        {
            let _ = remove_if_left(&entry.path());
        }
    }
}

/// Removes the directory if its run is gone. Somebody else's, or a link, may lead anywhere.
fn remove_if_left(dir: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(dir)?;
    let lock = dir.join(LOCK);
    if !metadata.is_dir() || metadata.uid() != getuid().as_raw() || !lock.is_file() {
        return Ok(());
    }
    if let Some(_lock) = Lock::take_if_free(&lock)? {
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_nobody_elses_and_leaves_nothing() {
        let (place, _listener) = Place::make().unwrap();
        let socket = place.socket();
        assert!(socket.exists());
        let dir = socket.parent().unwrap().to_owned();
        let mode = fs::metadata(&dir).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700);
        place.write("commands", b"script").unwrap();
        place.write_module(b"module").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(place.script()), 0o700);
        assert_eq!(mode(place.module()), 0o600);
        drop(place);
        assert!(!dir.exists());
    }

    #[test]
    fn what_a_killed_run_has_left_goes_and_what_others_use_stays() {
        let tmp = tempfile::tempdir().unwrap();
        // Without a lock file, nobody knows whose it is.
        let [left, unknown] =
            ["left", "unknown"].map(|name| tmp.path().join(format!("{PREFIX}{name}")));
        for dir in [&left, &unknown] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("guest.gdb"), "").unwrap();
        }
        fs::write(left.join(LOCK), "").unwrap();
        let link = tmp.path().join(format!("{PREFIX}link"));
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join(LOCK), "").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
        let (first, _listener) = Place::make_in(tmp.path()).unwrap();
        assert!(!left.exists());
        let (_second, _listener) = Place::make_in(tmp.path()).unwrap();
        assert!(first.socket().exists() && unknown.exists());
        assert!(link.exists() && elsewhere.path().join(LOCK).exists());
    }
}
