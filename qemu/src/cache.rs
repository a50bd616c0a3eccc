//! Entries of the cache: directories made once, whole or not at all, shared by concurrent runs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::lock::Lock;
use crate::progress::Progress;
use crate::seal::{self, Check};

/// What is known of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Made, and untouched since.
    Whole,
    /// Not made yet.
    Absent,
    /// Made, but this file has changed since.
    Damaged(PathBuf),
}

/// Looks at the entry at `dir`.
///
/// # Errors
///
/// When it is there and cannot be read.
pub fn state(dir: &Path) -> Result<Entry> {
    Ok(match seal::check(dir)? {
        Check::Whole => Entry::Whole,
        Check::Absent => Entry::Absent,
        Check::Damaged(path) => Entry::Damaged(path),
    })
}

/// Makes the entry at `dir` by `make`, which fills a new directory, unless a whole one is there.
///
/// One run makes it while others wait; it appears under its name when it is complete and sealed. What a
/// killed run left half-made is removed first.
///
/// # Errors
///
/// Those of `make`; then nothing of the entry is left behind.
pub fn make(
    dir: &Path,
    what: &str,
    progress: &Progress,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if state(dir)? == Entry::Whole {
        return Ok(());
    }
    let _lock = Lock::take(&beside(dir, ".lock"), what, progress)?;
    match state(dir)? {
        Entry::Whole => return Ok(()),
        Entry::Absent => {}
        Entry::Damaged(path) => {
            progress.note(&format!(
                "  {} has changed; {} is made again",
                path.display(),
                dir.display()
            ));
        }
    }
    remove(dir)?;
    let partial = Partial(beside(dir, ".partial"));
    remove(&partial.0)?;
    fs::create_dir_all(&partial.0)
        .with_context(|| format!("failed to make {}", partial.0.display()))?;
    make(&partial.0)?;
    seal::seal(&partial.0)?;
    fs::rename(&partial.0, dir).with_context(|| {
        format!(
            "failed to rename {} to {}",
            partial.0.display(),
            dir.display()
        )
    })
}

/// `dir` with `suffix` behind its name; a version number's dots are no extension.
fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A half-made entry; dropping it removes what is still there.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        let _ = remove(&self.0);
    }
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_failed_entry_leaves_nothing_and_the_next_try_succeeds() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("entry-7.3.4");
        let progress = Progress::new(true);
        let failed = make(&dir, "test", &progress, |root| {
            fs::write(root.join("half"), "x")?;
            bail!("no space")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no space");
        assert!(!dir.exists() && !beside(&dir, ".partial").exists());
        make(&dir, "test", &progress, |root| {
            Ok(fs::write(root.join("whole"), "x")?)
        })
        .unwrap();
        assert_eq!(state(&dir).unwrap(), Entry::Whole);
    }

    #[test]
    fn a_damaged_entry_is_made_again_and_a_whole_one_is_not() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("entry-7.3.4");
        let progress = Progress::new(true);
        let fill = |root: &Path| Ok(fs::write(root.join("file"), "content")?);
        make(&dir, "test", &progress, fill).unwrap();
        make(&dir, "test", &progress, |_| bail!("made twice")).unwrap();
        fs::write(dir.join("file"), "conten").unwrap();
        assert_eq!(state(&dir).unwrap(), Entry::Damaged(dir.join("file")));
        make(&dir, "test", &progress, fill).unwrap();
        assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "content");
    }
}
