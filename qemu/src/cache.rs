//! Entries of the cache: directories made once, whole or not at all, shared by concurrent runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lock::Lock;
use crate::progress::Progress;
use crate::seal::{self, Check};

/// What the names of entries begin with.
const ENTRIES: [&str; 7] = [
    "sysroot-",
    "linux-",
    "kit-",
    "stressor-",
    "gdb-",
    "symbols-",
    "warm-",
];

/// The suffix of an entry's lock file.
const LOCK: &str = ".lock";

/// The suffix of an entry that is being made.
const PARTIAL: &str = ".partial";

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
    let _lock = Lock::take(&beside(dir, LOCK), what, progress)?;
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
    let partial = Partial(beside(dir, PARTIAL));
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

/// Says that this run uses the entry at `dir`, so that no other removes it.
///
/// # Errors
///
/// When its lock file cannot be opened.
pub fn hold(dir: &Path) -> Result<Lock> {
    Lock::share(&beside(dir, LOCK))
}

/// Takes the seal from the entry at `dir`, which turned out to be of no use: the next run makes it again.
///
/// # Errors
///
/// When it cannot be removed.
pub fn disown(dir: &Path) -> Result<()> {
    seal::remove(dir)
}

/// Removes all but the `nr_kept` entries of `cache` that were used last, of those whose names begin with
/// `prefix`. What another run uses stays.
///
/// # Errors
///
/// As [`prune`].
pub fn thin(cache: &Path, prefix: &str, nr_kept: usize) -> Result<()> {
    let mut entries = entries(cache, &[prefix])?;
    entries.sort_by_key(|(_, idle)| *idle);
    for (dir, _) in entries.split_off(nr_kept.min(entries.len())) {
        remove_if_free(&dir)?;
    }
    Ok(())
}

/// Removes the entries of `cache` that nobody has used for `age` and that are not among `kept`; returns
/// their directories. What another run uses stays.
///
/// # Errors
///
/// When the cache cannot be read, or an entry cannot be removed.
pub fn prune(cache: &Path, kept: &[&Path], age: Duration) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for (dir, idle) in entries(cache, &ENTRIES)? {
        let spared = kept.contains(&dir.as_path()) || idle < age;
        if !spared && remove_if_free(&dir)? {
            removed.push(dir);
        }
    }
    Ok(removed)
}

/// The entries whose names begin with one of `prefixes`, and for how long each was not used.
fn entries(cache: &Path, prefixes: &[&str]) -> Result<Vec<(PathBuf, Duration)>> {
    let mut entries = Vec::new();
    let context = || format!("failed to read {}", cache.display());
    for entry in fs::read_dir(cache).with_context(context)? {
        let lock_path = entry.with_context(context)?.path();
        let Some(dir) = lock_path
            .to_str()
            .and_then(|path| path.strip_suffix(LOCK))
            .map(PathBuf::from)
        else {
            continue;
        };
        let is_entry = prefixes.iter().any(|prefix| {
            dir.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        });
        if !is_entry {
            continue;
        }
        let used = fs::metadata(&lock_path).and_then(|metadata| metadata.modified());
        let idle = used
            .ok()
            .and_then(|used| used.elapsed().ok())
            .unwrap_or_default();
        entries.push((dir, idle));
    }
    Ok(entries)
}

/// Removes the entry at `dir`, unless another run uses it; says whether it did.
fn remove_if_free(dir: &Path) -> Result<bool> {
    let lock_path = beside(dir, LOCK);
    let Some(_lock) = Lock::take_if_free(&lock_path)? else {
        return Ok(false);
    };
    remove(dir)?;
    remove(&beside(dir, PARTIAL))?;
    fs::remove_file(&lock_path)
        .with_context(|| format!("failed to remove {}", lock_path.display()))?;
    Ok(true)
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

    use std::fs::File;
    use std::time::SystemTime;

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
        assert!(!dir.exists() && !beside(&dir, PARTIAL).exists());
        make(&dir, "test", &progress, |root| {
            Ok(fs::write(root.join("whole"), "x")?)
        })
        .unwrap();
        assert_eq!(state(&dir).unwrap(), Entry::Whole);
    }

    #[test]
    fn what_is_kept_held_or_young_is_not_pruned() {
        let tmp = tempfile::tempdir().unwrap();
        let progress = Progress::new(true);
        let [kept, held, old] = ["linux-7.3.4-a", "linux-7.3.4-b", "sysroot-c"].map(|name| {
            let dir = tmp.path().join(name);
            make(&dir, "test", &progress, |root| {
                Ok(fs::write(root.join("file"), "x")?)
            })
            .unwrap();
            dir
        });
        fs::create_dir(tmp.path().join("packages")).unwrap();
        assert!(
            prune(tmp.path(), &[], Duration::from_secs(3600))
                .unwrap()
                .is_empty()
        );
        let lock = hold(&held).unwrap();
        assert_eq!(
            prune(tmp.path(), &[&kept], Duration::ZERO).unwrap(),
            std::slice::from_ref(&old)
        );
        assert!(kept.exists() && held.exists() && !old.exists());
        drop(lock);
        assert_eq!(prune(tmp.path(), &[&kept], Duration::ZERO).unwrap(), [held]);
        assert!(tmp.path().join("packages").exists());
    }

    #[test]
    fn only_the_entries_that_were_used_last_are_left_when_there_are_too_many() {
        let tmp = tempfile::tempdir().unwrap();
        let progress = Progress::new(true);
        // The kernel's clock for files advances in steps, which several uses may fall into.
        let minutes = [("warm-a", 4), ("warm-b", 3), ("warm-c", 2), ("linux-d", 5)];
        let [first, second, third, other] = minutes.map(|(name, minutes)| {
            let dir = tmp.path().join(name);
            make(&dir, "test", &progress, |_| Ok(())).unwrap();
            let lock = tmp.path().join(format!("{name}{LOCK}"));
            let lock = File::options().write(true).open(lock).unwrap();
            let used = SystemTime::now() - Duration::from_secs(60 * minutes);
            lock.set_modified(used).unwrap();
            dir
        });
        drop(hold(&first).unwrap());
        thin(tmp.path(), "warm-", 2).unwrap();
        let there = [first, second, third, other].map(|dir| dir.exists());
        assert_eq!(there, [true, false, true, true]);
    }

    #[test]
    fn a_disowned_entry_is_made_again() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("warm-a");
        let progress = Progress::new(true);
        make(&dir, "test", &progress, |_| Ok(())).unwrap();
        disown(&dir).unwrap();
        assert_eq!(state(&dir).unwrap(), Entry::Absent);
        make(&dir, "test", &progress, |_| Ok(())).unwrap();
        assert_eq!(state(&dir).unwrap(), Entry::Whole);
        drop(disown(&tmp.path().join("none")).unwrap_err());
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
