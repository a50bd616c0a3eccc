//! The packages in the cache: each is there from its download until it is unpacked.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::layout::Layout;
use crate::lock::Lock;
use crate::package::Package;
use crate::progress::Progress;

/// The packages in the cache and apt's lists, for this run of the lab alone.
///
/// Sets of packages overlap, and what one run has unpacked it removes: nobody else may be between download and
/// unpacking then. Never waited for by a run that is making an entry of the cache, since whoever holds them waits for
/// entries.
#[derive(Debug)]
pub struct Packages {
    dir: PathBuf,
    _lock: Lock,
}

/// What is locked, in the cache.
const LOCK: &str = "apt.lock";

impl Packages {
    /// Waits until no other run has them.
    ///
    /// # Errors
    ///
    /// As [`Lock::take`].
    pub fn hold(layout: &Layout, progress: &Progress) -> Result<Self> {
        let lock = Lock::take(
            &layout.cache.join(LOCK),
            "download and unpack packages",
            progress,
        )?;
        Ok(Self::held(layout, lock))
    }

    /// Takes them, unless another run has them.
    ///
    /// # Errors
    ///
    /// As [`Lock::take_if_free`].
    pub fn hold_if_free(layout: &Layout) -> Result<Option<Self>> {
        let lock = Lock::take_if_free(&layout.cache.join(LOCK))?;
        Ok(lock.map(|lock| Self::held(layout, lock)))
    }

    fn held(layout: &Layout, lock: Lock) -> Self {
        Self {
            dir: layout.packages(),
            _lock: lock,
        }
    }

    /// Removes those that are not needed once they are unpacked. A kernel's are kept, since its source package holds
    /// more than was unpacked.
    ///
    /// # Errors
    ///
    /// When one is there and cannot be removed.
    pub fn remove(&self, unpacked: &[Package]) -> Result<()> {
        for package in unpacked {
            let path = self.dir.join(&package.file);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error)
                        .with_context(|| format!("failed to remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes all but those that are `kept`.
    ///
    /// # Errors
    ///
    /// When the directory is there and cannot be read, or a file in it cannot be removed.
    pub fn remove_all_but<'a>(&self, kept: impl Iterator<Item = &'a Package>) -> Result<()> {
        let kept: Vec<&str> = kept.map(|package| package.file.as_str()).collect();
        let context = || format!("failed to read {}", self.dir.display());
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.with_context(context)?,
        };
        for entry in entries {
            let entry = entry.with_context(context)?;
            if !kept.iter().any(|file| entry.file_name() == *file) {
                let path = entry.path();
                fs::remove_file(&path)
                    .with_context(|| format!("failed to remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::Packages;
    use crate::layout::Layout;
    use crate::package::Package;
    use crate::prepare;
    use crate::progress::Progress;

    #[test]
    fn nobody_cleans_up_between_download_and_unpacking() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout {
            project: dir.path().to_owned(),
            cache: dir.path().join("cache"),
        };
        layout.make_cache().unwrap();
        let file = |name: &str| layout.packages().join(name);
        fs::create_dir_all(layout.packages()).unwrap();
        for name in ["unpacked", "downloaded"] {
            fs::write(file(name), name).unwrap();
        }
        let unpacked = Package {
            name: String::new(),
            version: String::new(),
            file: "unpacked".into(),
            len: 0,
            sha256: String::new(),
        };

        let packages = Packages::hold(&layout, &Progress::new(true)).unwrap();
        assert!(Packages::hold_if_free(&layout).unwrap().is_none());
        prepare::clean(&layout, Duration::ZERO).unwrap();
        assert!(file("unpacked").exists() && file("downloaded").exists());
        packages.remove(&[unpacked.clone(), unpacked]).unwrap();
        assert!(!file("unpacked").exists() && file("downloaded").exists());
        drop(packages);
        prepare::clean(&layout, Duration::ZERO).unwrap();
        assert!(!file("downloaded").exists());
    }
}
