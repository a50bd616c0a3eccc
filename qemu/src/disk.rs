//! A disk of a guest: its name, and the bytes that it holds.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::sparse;

/// Which disk it is. The guest finds it by its serial number, `/sys/block/*/device/serial`: the kernel
/// gives `nvme0n1` to the controller that answers first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Empty at each start.
    Scratch,
    /// What a power cut left of it is there at the next start.
    Cut,
}

impl Name {
    /// The serial number, at most 20 bytes (NVM Express Base Specification, "Identify Controller").
    #[must_use]
    pub fn serial(self) -> &'static str {
        match self {
            Self::Scratch => "lab-scratch",
            Self::Cut => "lab-cut",
        }
    }
}

/// A disk, and what is on it. It can be attached to one machine after another, and keeps its content.
///
/// The content is a file in memory without a name: none is left behind, whatever becomes of the lab. All
/// that QEMU was given to write is in it as soon as QEMU says so to the guest, by pwrite(2), and stays
/// there if QEMU is killed. The disk is thus one without a volatile cache of its own: what a power cut
/// takes away is what the guest's kernel had not given to it.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Which one it is.
    pub name: Name,
    content: Arc<File>,
}

impl Disk {
    /// A disk that holds a copy of the file at `image`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or there is not enough memory.
    pub fn copy_of(image: &Path, name: Name) -> Result<Self> {
        let copy = || {
            let content = File::from(memfd_create(name.serial(), MemfdFlags::CLOEXEC)?);
            sparse::copy(&File::open(image)?, &content)?;
            Ok::<_, io::Error>(content)
        };
        let content = copy().with_context(|| format!("failed to copy {}", image.display()))?;
        Ok(Self {
            name,
            content: Arc::new(content),
        })
    }

    /// A descriptor of the content, for QEMU.
    ///
    /// # Errors
    ///
    /// When no descriptor is left.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.content.as_fd().try_clone_to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom};
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn a_copy_has_the_bytes_and_not_the_holes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let image = File::create(&path).unwrap();
        image.set_len(1 << 20).unwrap();
        for at in [0, 300_000, (1 << 20) - 5] {
            image.write_all_at(b"here", at).unwrap();
        }
        let disk = Disk::copy_of(&path, Name::Scratch).unwrap();
        let mut copied = Vec::new();
        File::from(disk.descriptor().unwrap())
            .seek(SeekFrom::Start(0))
            .unwrap();
        (&*disk.content).read_to_end(&mut copied).unwrap();
        assert!(copied == std::fs::read(&path).unwrap(), "the copies differ");
        let bytes = disk.content.metadata().unwrap().blocks() * 512;
        assert!(bytes < 1 << 19, "{bytes} bytes of memory for three words");
    }

    #[test]
    fn an_image_that_is_not_there_is_named() {
        let error = Disk::copy_of(Path::new("/nonexistent"), Name::Cut).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent"), "{error:#}");
    }
}
