//! Sysctl: a setting of the running kernel, changed for as long as it takes; see `proc_sys(5)`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A setting that gets its old value back when this is dropped.
#[derive(Debug)]
pub struct Sysctl {
    path: PathBuf,
    before: String,
}

impl Sysctl {
    /// Changes a setting, for example `vm.max_map_count`, for all processes. Takes root.
    ///
    /// # Errors
    ///
    /// If there is no such setting, or it cannot be changed.
    pub fn set(name: &str, value: u64) -> Result<Self> {
        let (path, before) = (path_of(name), read(name)?);
        let sysctl = Self { path, before };
        sysctl.write(&value.to_string())?;
        Ok(sysctl)
    }

    /// Chooses a word from those that a file of `/sys` offers, as in `always [madvise] never`. Takes root.
    ///
    /// # Errors
    ///
    /// If there is no such file, nothing is chosen there, or the choice cannot be changed.
    pub fn choose(path: impl Into<PathBuf>, word: &str) -> Result<Self> {
        let path = path.into();
        let offered = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let before = chosen(&offered).ok_or_else(|| Error::Garbled {
            what: path.display().to_string(),
            detail: offered.clone(),
        })?;
        let sysctl = Self { path, before };
        sysctl.write(word)?;
        Ok(sysctl)
    }

    /// Gives it its old value back, and says whether that worked.
    ///
    /// # Errors
    ///
    /// If it cannot be changed.
    pub fn restore(self) -> Result<()> {
        self.write(&self.before)
    }

    fn write(&self, value: &str) -> Result<()> {
        fs::write(&self.path, value).map_err(Error::file("write", &self.path))
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        // After an error, which somebody else reports. Writing the old value twice changes nothing.
        let _ = self.write(&self.before);
    }
}

/// The value of a setting that is a number.
///
/// # Errors
///
/// If there is no such setting, or it is no number.
pub fn number(name: &str) -> Result<u64> {
    let text = read(name)?;
    text.parse().map_err(|_| Error::Garbled {
        what: path_of(name).display().to_string(),
        detail: text,
    })
}

fn read(name: &str) -> Result<String> {
    let path = path_of(name);
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    Ok(text.trim().to_owned())
}

/// The word in brackets.
fn chosen(offered: &str) -> Option<String> {
    let mut words = offered.split_whitespace();
    words.find_map(|word| Some(word.strip_prefix('[')?.strip_suffix(']')?.to_owned()))
}

fn path_of(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_found_by_its_name() {
        assert_eq!(
            path_of("vm.max_map_count"),
            Path::new("/proc/sys/vm/max_map_count")
        );
        assert!(number("vm.max_map_count").unwrap() > 0);
        assert!(number("vm.no_such_thing").is_err());
    }

    #[test]
    fn the_choice_is_the_word_in_brackets() {
        assert_eq!(
            chosen("always [madvise] never\n").as_deref(),
            Some("madvise")
        );
        assert_eq!(chosen("always madvise never\n"), None);
    }

    #[test]
    fn the_old_value_comes_back() {
        let path = std::env::temp_dir().join(format!("mmapdemo-sysctl-{}", std::process::id()));
        fs::write(&path, "new").unwrap();
        let sysctl = Sysctl {
            path: path.clone(),
            before: "old".to_owned(),
        };
        drop(sysctl);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        fs::remove_file(path).unwrap();
    }
}
