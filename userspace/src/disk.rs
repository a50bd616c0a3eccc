//! Disk: an ext4 file system on a block device of its own, mounted for as long as somebody needs it.

use std::cell::OnceCell;
use std::fs::{self, File, OpenOptions};
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use procfs_core::{DiskStat, DiskStats, FromBufRead};

use crate::error::{Error, Result};

/// The serial number of the disk whose content nobody needs.
pub const SCRATCH: &str = "lab-scratch";
/// The serial number of the disk that loses its power.
pub const CUT: &str = "lab-cut";

const BLOCK_DEVICES: &str = "/sys/block";
const STATS: &str = "/proc/diskstats";

/// Nothing is written to the disk but for what the experiments store: no access times, no journal every
/// five seconds, no inode tables that mkfs left out; see `ext4(5)` and `mount(8)`.
const OPTIONS: &str = "commit=600,noinit_itable";

/// A mounted disk, unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    /// The root of its file system.
    pub dir: PathBuf,
    /// The kernel's name for the block device, such as `nvme0n1`.
    pub block: String,
    /// Whether it stays mounted when dropped.
    stays: bool,
}

/// How much has gone from and to a block device, in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sectors {
    /// Read from it.
    pub read: u64,
    /// Written to it.
    pub written: u64,
}

impl Disk {
    /// Mounts the disk that has this serial number; if it `stays`, it is never unmounted, which would write
    /// all that is not written yet.
    ///
    /// # Errors
    ///
    /// If there is none, or if it has no ext4.
    pub fn mount(serial: &str, stays: bool) -> Result<Self> {
        let block = attached(serial)?.ok_or_else(|| Error::Gone {
            who: format!("the disk {serial}"),
            what: "it was mounted".to_owned(),
        })?;
        let dir = std::env::temp_dir().join(format!("mmapdemo-{serial}-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(Error::file("make", &dir))?;
        let disk = Self { dir, block, stays };
        disk.attach()?;
        Ok(disk)
    }

    fn attach(&self) -> Result<()> {
        let device = self.device();
        mount(
            Some(&device),
            &self.dir,
            Some("ext4"),
            MsFlags::MS_NOATIME,
            Some(OPTIONS),
        )
        .map_err(Error::call(
            format!("mount(ext4, {OPTIONS})"),
            device.display().to_string(),
        ))
    }

    /// The node of the block device.
    #[must_use]
    pub fn device(&self) -> PathBuf {
        Path::new("/dev").join(&self.block)
    }

    /// How much has gone from and to it so far.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn sectors(&self) -> Result<Sectors> {
        let stats = File::open(STATS).map_err(Error::file("open", STATS))?;
        let stats = DiskStats::from_buf_read(BufReader::new(stats)).map_err(|error| {
            let detail = error.to_string();
            let what = STATS.to_owned();
            Error::Garbled { what, detail }
        })?;
        sectors_of(&stats.0, &self.block).ok_or_else(|| Error::Garbled {
            what: STATS.to_owned(),
            detail: format!("nothing about {}", self.block),
        })
    }

    /// Has the kernel write all it has, so that what is written afterwards is somebody's doing.
    ///
    /// # Errors
    ///
    /// What `syncfs(2)` says.
    pub fn quiet(&self) -> Result<()> {
        let root = File::open(&self.dir).map_err(Error::file("open", &self.dir))?;
        let object = self.dir.display().to_string();
        nix::unistd::syncfs(&root).map_err(Error::call("syncfs()", object))
    }

    /// Waits until something has been written since `before`; `false` if nothing is in this time.
    ///
    /// # Errors
    ///
    /// As [`Disk::sectors`].
    pub fn written_since(&self, before: Sectors, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            if self.sectors()?.written > before.written {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            std::thread::yield_now();
        }
    }

    /// Unmounts it and mounts it again: what is read afterwards comes from the disk.
    ///
    /// # Errors
    ///
    /// If something on it is still in use.
    pub fn remount(&self) -> Result<()> {
        let object = self.dir.display().to_string();
        umount2(&self.dir, MntFlags::empty()).map_err(Error::call("umount2()", object))?;
        self.attach()
    }
}

/// A file on a disk, removed when dropped.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    path: PathBuf,
}

impl DiskFile {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself, open for reading and writing.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Takes its pages from memory; those that are mapped or not yet written stay.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn drop_from_memory(&self) -> Result<()> {
        let dropped = posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        let object = self.path.display().to_string();
        dropped.map_err(Error::call("posix_fadvise(DONTNEED)", object))
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        // It vanishes with the disk otherwise.
        let _ = fs::remove_file(&self.path);
    }
}

impl Disk {
    /// A new file with this content, which has reached the disk already.
    ///
    /// # Errors
    ///
    /// If it cannot be made, written or synchronised.
    pub fn put(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        self.make(name, content).map(|(_, path)| path)
    }

    /// The same, removed when dropped.
    ///
    /// # Errors
    ///
    /// As [`Disk::put`].
    pub fn file(&self, name: &str, content: &[u8]) -> Result<DiskFile> {
        let (file, path) = self.make(name, content)?;
        Ok(DiskFile { file, path })
    }

    fn make(&self, name: &str, content: &[u8]) -> Result<(File, PathBuf)> {
        let path = self.dir.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(&path).map_err(Error::file("make", &path))?;
        file.write_all_at(content, 0)
            .map_err(Error::file("write", &path))?;
        file.sync_all().map_err(Error::file("synchronise", &path))?;
        Ok((file, path))
    }
}

impl Sectors {
    /// What has been added to `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            read: self.read.saturating_sub(before.read),
            written: self.written.saturating_sub(before.written),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        // Who still has a file open there keeps the file system until it ends (umount2(2)).
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.dir);
    }
}

/// A disk that is mounted when it is first asked for.
#[derive(Debug)]
pub struct LazyDisk {
    serial: &'static str,
    stays: bool,
    disk: OnceCell<Disk>,
}

impl LazyDisk {
    /// The disk with this serial number, whether it is there or not.
    #[must_use]
    pub fn new(serial: &'static str) -> Self {
        Self {
            serial,
            stays: false,
            disk: OnceCell::new(),
        }
    }

    /// The disk with this serial number, which stays mounted when the program ends.
    #[must_use]
    pub fn staying(serial: &'static str) -> Self {
        Self {
            stays: true,
            ..Self::new(serial)
        }
    }

    /// The disk, mounted.
    ///
    /// # Errors
    ///
    /// As [`Disk::mount`].
    pub fn get(&self) -> Result<&Disk> {
        if let Some(disk) = self.disk.get() {
            return Ok(disk);
        }
        let mounted = Disk::mount(self.serial, self.stays)?;
        Ok(self.disk.get_or_init(|| mounted))
    }

    /// Why there is none, or `None` if there is.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        match attached(self.serial) {
            Ok(Some(_)) => None,
            Ok(None) => Some(format!("no disk with the serial number {}", self.serial)),
            Err(error) => Some(error.to_string()),
        }
    }
}

/// The kernel's name of the disk with this serial number.
fn attached(serial: &str) -> Result<Option<String>> {
    let blocks = match fs::read_dir(BLOCK_DEVICES) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        listed => listed.map_err(Error::file("list", BLOCK_DEVICES))?,
    };
    for block in blocks {
        let block = block.map_err(Error::file("list", BLOCK_DEVICES))?;
        // Not every block device has one.
        let own = fs::read_to_string(block.path().join("device/serial")).unwrap_or_default();
        if own.trim() == serial {
            return Ok(Some(block.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

fn sectors_of(stats: &[DiskStat], block: &str) -> Option<Sectors> {
    let stat = stats.iter().find(|stat| stat.name == block)?;
    Some(Sectors {
        read: stat.sectors_read,
        written: stat.sectors_written,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taken from a guest with two disks.
    const SAVED: &str = "\
 259       0 nvme0n1 62 0 3730 31 12 3 120 9 0 36 40 0 0 0 0 2 1
 259       1 nvme1n1 41 0 1528 24 0 0 0 0 0 20 24 0 0 0 0 0 0
";

    #[test]
    fn a_disk_is_found_among_others() {
        let stats = DiskStats::from_buf_read(SAVED.as_bytes()).unwrap().0;
        let sectors = sectors_of(&stats, "nvme0n1").unwrap();
        assert_eq!((sectors.read, sectors.written), (3730, 120));
        assert_eq!(sectors_of(&stats, "nvme0n1p1"), None);
    }

    #[test]
    fn a_disk_that_is_not_there_is_missing_and_cannot_be_mounted() {
        let disk = LazyDisk::new("no-such-disk");
        assert!(disk.missing().is_some_and(|it| it.contains("no-such-disk")));
        let error = disk.get().unwrap_err().to_string();
        assert_eq!(error, "the disk no-such-disk ended before it was mounted");
    }
}
