//! Swap file: a file that pages of anonymous memory can be moved to, for as long as somebody needs it.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::sys::{PAGE_SIZE, swap_off, swap_on};

/// A swap file in use; it is given up and removed when this is dropped.
#[derive(Debug)]
pub struct SwapFile {
    path: PathBuf,
    name: CString,
}

impl SwapFile {
    /// Makes one of `len` bytes, a multiple of the page size, and turns it on. Takes root, and a file
    /// system that can be swapped to, such as ext4.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or the kernel does not take it.
    pub fn new(dir: &Path, len: usize) -> Result<Self> {
        let path = dir.join("swapfile");
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| Error::Garbled {
            what: "the name of a swap file".to_owned(),
            detail: error.to_string(),
        })?;
        // Also removes the file if it cannot be turned on.
        let swap = Self { path, name };
        swap.fill(len).map_err(Error::file("write", &swap.path))?;
        let on = swap_on(&swap.name);
        on.map_err(Error::call("swapon()", swap.path.display().to_string()))?;
        Ok(swap)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it up, and says whether that worked.
    ///
    /// # Errors
    ///
    /// What `swapoff(2)` says.
    pub fn off(self) -> Result<()> {
        let name = self.path.display().to_string();
        swap_off(&self.name).map_err(Error::call("swapoff()", name))
    }

    /// Without holes, which swapon(2) refuses.
    fn fill(&self, len: usize) -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)?;
        file.write_all_at(&vec![0; len], 0)?;
        file.write_all_at(&header(len / PAGE_SIZE), 0)?;
        file.sync_all()
    }
}

/// The first page of a swap file: `union swap_header`, include/linux/swap.h, 7.3.
fn header(nr_pages: usize) -> Vec<u8> {
    const VERSION: u32 = 1;
    const MAGIC: &[u8] = b"SWAPSPACE2";
    let last_page = u32::try_from(nr_pages.saturating_sub(1)).unwrap_or(u32::MAX);
    let mut page = vec![0; 1024];
    page.extend(VERSION.to_ne_bytes());
    page.extend(last_page.to_ne_bytes());
    page.resize(PAGE_SIZE - MAGIC.len(), 0);
    page.extend(MAGIC);
    page
}

impl Drop for SwapFile {
    fn drop(&mut self) {
        // Nobody is left to report to; after `off` the first changes nothing.
        let _ = swap_off(&self.name);
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_page_with_the_number_of_the_last_one() {
        let header = header(16);
        assert_eq!(header.len(), PAGE_SIZE);
        assert_eq!(&header[1024..1032], [1, 0, 0, 0, 15, 0, 0, 0]);
        assert_eq!(&header[PAGE_SIZE - 10..], b"SWAPSPACE2");
    }
}
