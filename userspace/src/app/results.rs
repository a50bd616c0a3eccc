//! Results: findings on their way to files.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::report::ktap;
use crate::run::Finding;

/// Makes a file or opens a character device, such as a virtio port, which cannot be truncated.
fn open(file: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.write(true);
    if !file.exists() || file.is_file() {
        options.create(true).truncate(true);
    }
    options.open(file).map_err(Error::file("open", file))
}

/// Writes a whole report.
pub(super) fn write(file: &Path, text: &str) -> Result<(), Error> {
    let mut opened = open(file)?;
    let written = opened
        .write_all(text.as_bytes())
        .and_then(|()| opened.flush());
    written.map_err(Error::file("write", file))
}

/// KTAP on its way to a file, flushed line by line: after a crash the missing lines tell.
pub(super) struct Ktap {
    file: File,
    name: PathBuf,
    lines: usize,
}

impl Ktap {
    /// Writes the plan.
    pub(super) fn begin(file: &Path, planned: usize) -> Result<Self, Error> {
        let mut ktap = Self {
            file: open(file)?,
            name: file.to_owned(),
            lines: 0,
        };
        ktap.write(&ktap::head(planned))?;
        Ok(ktap)
    }

    /// Writes a result.
    pub(super) fn add(&mut self, finding: &Finding<'_>) -> Result<(), Error> {
        self.lines += 1;
        self.write(&ktap::line(self.lines, finding))
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        let written = self
            .file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.flush());
        written.map_err(Error::file("write", &self.name))
    }
}
