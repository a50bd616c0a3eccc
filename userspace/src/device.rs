//! Device: the node of the module, and its buffer as the kernel side reads and writes it.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::strategy::Strategy;
use crate::sys::{Mapping, PAGE_SIZE, ioctl};
use crate::uapi::{Info, PageInfo};

/// Where the module puts its nodes; the first maps its buffer by `vm_insert_page()`.
pub const DEFAULT_NODES: [&str; 3] = ["/dev/mmapdemo", "/dev/mmapdemo-pfn", "/dev/mmapdemo-fault"];

/// A device node; every use opens it anew.
#[derive(Clone, Debug)]
pub struct Device {
    node: PathBuf,
    stands_in: bool,
}

impl Device {
    /// The device behind `node`, whether it is there or not.
    #[must_use]
    pub fn new(node: impl Into<PathBuf>) -> Self {
        Self {
            node: node.into(),
            stands_in: false,
        }
    }

    /// Another file in its place, for a rehearsal: what it says for the driver, which cannot be asked, means nothing.
    #[must_use]
    pub fn stand_in(file: impl Into<PathBuf>) -> Self {
        Self {
            stands_in: true,
            ..Self::new(file)
        }
    }

    /// The default node that maps its buffer in this way.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn with_strategy(strategy: Strategy) -> Result<Self> {
        let mut devices = DEFAULT_NODES.into_iter().map(Self::new);
        devices
            .find(|device| Strategy::of(device) == Some(strategy))
            .ok_or_else(|| Error::Gone {
                who: format!("the {strategy} node"),
                what: "it was used".to_owned(),
            })
    }

    /// Its node.
    #[must_use]
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// Why it cannot be used, or `None` if it can.
    #[must_use]
    pub fn unusable(&self) -> Option<String> {
        let node = self.node.display();
        match std::fs::metadata(&self.node) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Some(format!("no {node}: the module is not loaded"))
            }
            Err(error) => Some(format!("cannot look at {node}: {error}")),
            Ok(meta) if !meta.file_type().is_char_device() => {
                Some(format!("{node} is not a character device"))
            }
            Ok(_) => match self.open() {
                Ok(_) => None,
                Err(error) => Some(error.to_string()),
            },
        }
    }

    /// Opens it for reading and writing.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn open(&self) -> Result<File> {
        let opened = OpenOptions::new().read(true).write(true).open(&self.node);
        opened.map_err(Error::file("open", &self.node))
    }

    /// The frame in which the driver keeps the page at `pgoff` of the buffer.
    ///
    /// # Errors
    ///
    /// As [`Device::page_info`].
    pub fn pfn(&self, pgoff: u64) -> Result<u64> {
        Ok(self.page_info(pgoff)?.pfn)
    }

    /// What the driver says of the page at `pgoff` of the buffer.
    ///
    /// # Errors
    ///
    /// As the ioctl `PAGE_INFO` of `driver/uapi.rs`: `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` beyond the buffer,
    /// `ENOTTY` if it is another driver.
    pub fn page_info(&self, pgoff: u64) -> Result<PageInfo> {
        let asked = ioctl::page_info(self.open()?.as_fd(), pgoff);
        if self.stands_in {
            return Ok(PageInfo::default());
        }
        let node = self.node.display().to_string();
        asked.map_err(Error::call(format!("PAGE_INFO of page {pgoff}"), node))
    }

    /// What the driver says of the node.
    ///
    /// # Errors
    ///
    /// `ENOTTY` if it is another driver.
    pub fn info(&self) -> Result<Info> {
        let asked = ioctl::info(self.open()?.as_fd());
        if self.stands_in {
            return Ok(Info {
                nr_pages: 1,
                len: PAGE_SIZE as u64,
                ..Info::default()
            });
        }
        let node = self.node.display().to_string();
        asked.map_err(Error::call("INFO", node))
    }

    /// The length of the buffer in bytes.
    ///
    /// # Errors
    ///
    /// As [`Device::info`].
    pub fn buffer_len(&self) -> Result<usize> {
        let len = self.info()?.len;
        usize::try_from(len).map_err(|error| Error::Garbled {
            what: "the length of the buffer".to_owned(),
            detail: error.to_string(),
        })
    }

    /// What the kernel reads at `offset`, through `pread(2)` into memory of our own.
    ///
    /// # Errors
    ///
    /// If the device cannot be read.
    pub fn read(&self, offset: usize, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let read = self.open()?.read_exact_at(&mut bytes, offset as u64);
        read.map_err(Error::file("read", &self.node))?;
        Ok(bytes)
    }

    /// Has the kernel write `bytes` at `offset`, through `pwrite(2)`.
    ///
    /// # Errors
    ///
    /// If the device cannot be written.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        let written = self.open()?.write_all_at(bytes, offset as u64);
        written.map_err(Error::file("write", &self.node))
    }

    /// Has the kernel fill the whole buffer with one value.
    ///
    /// # Errors
    ///
    /// If the device cannot be written.
    pub fn fill(&self, value: u8) -> Result<()> {
        self.write(0, &[value; PAGE_SIZE])
    }

    /// Maps the buffer shared, for reading and writing.
    ///
    /// # Errors
    ///
    /// If it cannot be mapped.
    pub fn map_shared(&self) -> Result<Mapping> {
        Mapping::shared(&self.open()?, PAGE_SIZE).map_err(Error::file("map", &self.node))
    }
}
