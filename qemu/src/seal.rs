//! Seals: how the lab knows, cheaply, that a cached directory is whole and untouched.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The seal's file name, inside the directory that it seals.
const SEAL: &str = ".seal";

/// Writes the seal of a finished directory: kind, size and modification time of everything in it.
///
/// Reading 20,000 sizes takes a tenth of a second, hashing their content ten; a file that was truncated,
/// overwritten or lost changes one of the three.
///
/// # Errors
///
/// When the directory cannot be read or the seal cannot be written.
pub fn seal(dir: &Path) -> Result<()> {
    let listing = list(dir)?;
    let path = dir.join(SEAL);
    fs::write(&path, listing).with_context(|| format!("failed to write {}", path.display()))
}

/// Removes the seal from a directory.
///
/// # Errors
///
/// When there is none, or it cannot be removed.
pub fn remove(dir: &Path) -> Result<()> {
    let path = dir.join(SEAL);
    fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))
}

/// What the check of a sealed directory found.
#[derive(Debug, PartialEq, Eq)]
pub enum Check {
    /// Everything is as it was when the directory was sealed.
    Whole,
    /// There is no such directory, or it never got its seal.
    Absent,
    /// This entry is not as it was.
    Damaged(PathBuf),
}

/// Compares a directory with its seal.
///
/// # Errors
///
/// When the directory exists and cannot be read.
pub fn check(dir: &Path) -> Result<Check> {
    let Ok(sealed) = fs::read(dir.join(SEAL)) else {
        return Ok(Check::Absent);
    };
    let found = match list(dir) {
        // Another run, which has the entry's lock, is removing it.
        Err(error) if is_not_found(&error) => return Ok(Check::Absent),
        found => found?,
    };
    if found == sealed {
        return Ok(Check::Whole);
    }
    Ok(Check::Damaged(dir.join(first_difference(&sealed, &found))))
}

fn is_not_found(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// The path in the first line that only one of the two listings has.
fn first_difference(sealed: &[u8], found: &[u8]) -> PathBuf {
    let (mut sealed, mut found) = (sealed.split(|&b| b == b'\n'), found.split(|&b| b == b'\n'));
    loop {
        let (was, is) = (sealed.next(), found.next());
        if was != is || was.is_none() {
            let line = was
                .filter(|line| !line.is_empty())
                .or(is)
                .unwrap_or_default();
            let path = line.splitn(4, |&b| b == b' ').nth(3).unwrap_or_default();
            return PathBuf::from(std::ffi::OsStr::from_bytes(path));
        }
    }
}

/// One line an entry, sorted by path: kind, size, modification time, path.
fn list(dir: &Path) -> Result<Vec<u8>> {
    let mut lines = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(parent) = pending.pop() {
        let context = || format!("failed to read the directory {}", parent.display());
        for entry in fs::read_dir(&parent).with_context(context)? {
            let entry = entry.with_context(context)?;
            let metadata = entry.metadata().with_context(context)?;
            let path = entry.path();
            if metadata.is_dir() {
                pending.push(path);
                continue;
            }
            let inside = path.strip_prefix(dir).unwrap_or(&path);
            if inside == Path::new(SEAL) {
                continue;
            }
            let mut line = String::new();
            let _ = write!(
                line,
                "{:o} {} {}.{:09} ",
                metadata.mode(),
                metadata.len(),
                metadata.mtime(),
                metadata.mtime_nsec()
            );
            let mut line = line.into_bytes();
            line.extend_from_slice(inside.as_os_str().as_bytes());
            lines.push((inside.to_owned(), line));
        }
    }
    lines.sort();
    Ok(lines
        .into_iter()
        .map(|(_, line)| line)
        .collect::<Vec<_>>()
        .join(&b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed_tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        fs::write(dir.path().join("usr/bin/rustc"), "compiler").unwrap();
        fs::write(dir.path().join("with space"), "x").unwrap();
        seal(dir.path()).unwrap();
        dir
    }

    #[test]
    fn an_untouched_tree_is_whole() {
        assert_eq!(check(sealed_tree().path()).unwrap(), Check::Whole);
    }

    #[test]
    fn an_unsealed_tree_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check(dir.path()).unwrap(), Check::Absent);
        assert_eq!(check(&dir.path().join("none")).unwrap(), Check::Absent);
    }

    #[test]
    fn a_truncated_file_is_named() {
        let dir = sealed_tree();
        fs::write(dir.path().join("usr/bin/rustc"), "comp").unwrap();
        assert_eq!(
            check(dir.path()).unwrap(),
            Check::Damaged(dir.path().join("usr/bin/rustc"))
        );
    }

    #[test]
    fn a_lost_file_is_named_with_its_spaces() {
        let dir = sealed_tree();
        fs::remove_file(dir.path().join("with space")).unwrap();
        assert_eq!(
            check(dir.path()).unwrap(),
            Check::Damaged(dir.path().join("with space"))
        );
    }

    #[test]
    fn an_added_file_is_noticed() {
        let dir = sealed_tree();
        fs::write(dir.path().join("usr/bin/zz"), "").unwrap();
        assert_ne!(check(dir.path()).unwrap(), Check::Whole);
    }
}
