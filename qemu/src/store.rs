//! Store: the downloaded packages in the cache.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::layout::Layout;
use crate::lock::Lock;
use crate::package::Package;

/// The packages in the cache. As long as a run has them open, no other removes any: sets of packages overlap, and what
/// one has unpacked another may be about to unpack.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    _lock: Lock,
}

/// What is locked, in the cache: by many who need packages, or by one who removes some. Who removes does not wait for
/// those who need, so these may wait for whatever they like, such as for another run to make an entry of the cache.
const LOCK: &str = "packages.lock";

impl Store {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// As [`Lock::share`].
    pub fn open(layout: &Layout) -> Result<Self> {
        Ok(Self {
            dir: layout.packages(),
            _lock: Lock::share(&layout.cache.join(LOCK))?,
        })
    }

    /// Where they are; the directory need not be there as long as there are none.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Removes all packages but those that are `kept`, unless a run has the store open: then a later one removes them.
///
/// # Errors
///
/// When the directory is there and cannot be read, or a file in it cannot be removed.
pub fn clean<'a>(layout: &Layout, kept: impl Iterator<Item = &'a Package>) -> Result<()> {
    let Some(_lock) = Lock::take_if_free(&layout.cache.join(LOCK))? else {
        return Ok(());
    };
    let kept: Vec<&str> = kept.map(|package| package.file.as_str()).collect();
    let dir = layout.packages();
    let context = || format!("failed to read {}", dir.display());
    let entries = match fs::read_dir(&dir) {
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

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    #[test]
    fn nobody_removes_packages_that_another_may_be_about_to_unpack() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout {
            project: dir.path().to_owned(),
            cache: dir.path().join("cache"),
        };
        layout.make_cache().unwrap();
        let package = |name: &str| Package {
            name: name.to_owned(),
            version: String::new(),
            file: format!("{name}.deb"),
            len: 0,
            sha256: String::new(),
        };
        let (kernel, compiler) = (package("kernel"), package("compiler"));
        let stores = [Store::open(&layout).unwrap(), Store::open(&layout).unwrap()];
        let is_there = |package: &Package| layout.packages().join(&package.file).exists();
        fs::create_dir(layout.packages()).unwrap();
        for package in [&kernel, &compiler] {
            fs::write(layout.packages().join(&package.file), "").unwrap();
        }
        for store in stores {
            clean(&layout, iter::empty()).unwrap();
            assert!(is_there(&kernel) && is_there(&compiler));
            drop(store);
        }
        clean(&layout, iter::once(&kernel)).unwrap();
        assert!(is_there(&kernel) && !is_there(&compiler));
    }

    #[test]
    fn where_nothing_was_downloaded_nothing_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout {
            project: dir.path().to_owned(),
            cache: dir.path().to_owned(),
        };
        clean(&layout, iter::empty()).unwrap();
    }
}
