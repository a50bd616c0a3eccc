//! Ftrace: an instance of the kernel's tracer that belongs to this process (`Documentation/trace/ftrace.rst`).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::unistd::gettid;

use crate::error::{Error, Result};

const TRACEFS: &str = "/sys/kernel/tracing";

/// What lists the functions that can be traced.
pub const FUNCTIONS: &str = "available_filter_functions";

/// An instance of ftrace, removed when this is dropped: nobody else's tracing changes.
#[derive(Debug)]
pub struct Instance {
    dir: PathBuf,
}

impl Instance {
    /// Makes it, named after `what`; nothing is recorded yet. `settings` are files of it and what is written there.
    ///
    /// # Errors
    ///
    /// If the kernel has no ftrace, or not for this user, or lacks one of the settings.
    pub fn new(what: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let name = format!("instances/{what}-{}", std::process::id());
        let dir = Path::new(TRACEFS).join(name);
        fs::create_dir(&dir).map_err(Error::file("make", &dir))?;
        let instance = Self { dir };
        for (file, value) in settings {
            instance.set(file, value)?;
        }
        for file in ["set_ftrace_pid", "set_event_pid"] {
            instance.set(file, &gettid().to_string())?;
        }
        Ok(instance)
    }

    /// Where a file of it is.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// Writes a file of it anew.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn set(&self, file: &str, value: &str) -> Result<()> {
        let path = self.path(file);
        fs::write(&path, value).map_err(Error::file("write", &path))
    }

    /// Adds to a file of it, which may be a list.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn add(&self, file: &str, value: &str) -> Result<()> {
        let path = self.path(file);
        let opened = OpenOptions::new().append(true).open(&path);
        opened
            .and_then(|mut file| file.write_all(value.as_bytes()))
            .map_err(Error::file("write", &path))
    }

    /// Reads a file of it.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn get(&self, file: &str) -> Result<String> {
        let path = self.path(file);
        fs::read_to_string(&path).map_err(Error::file("read", &path))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // What is left then is an instance that records nothing.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// The names of all functions that can be traced. A function's number for `set_ftrace_filter` is its place here, from 1
/// on, and is far quicker for the kernel to find than the name.
///
/// # Errors
///
/// If the kernel has no ftrace, or not for this user.
pub fn functions() -> Result<Vec<String>> {
    let path = Path::new(TRACEFS).join(FUNCTIONS);
    let list = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    Ok(list.lines().map(name).collect())
}

/// Why a tracer, such as `function`, is not to be had, or `None` if it is.
#[must_use]
pub fn missing(tracer: &str) -> Option<String> {
    let file = Path::new(TRACEFS).join("available_tracers");
    match fs::read_to_string(&file) {
        Ok(tracers) if tracers.split_whitespace().any(|it| it == tracer) => None,
        Ok(_) => Some(format!("the kernel has no {tracer} tracer")),
        Err(error) => Some(format!("cannot read {}: {error}", file.display())),
    }
}

/// The module's name may follow that of the function.
fn name(line: &str) -> String {
    let mut words = line.split([' ', '\t']);
    words.next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_a_module_is_listed_without_the_module() {
        assert_eq!(name("fget"), "fget");
        assert_eq!(name("nf_hook [nf_tables]"), "nf_hook");
    }
}
