//! Object: something that can be mapped, by a name that any process can open, and how to map it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::ProtFlags;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::map_call::MapCall;
use crate::sys::{Mapping, PAGE_SIZE};

/// The mode of an `open(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// `O_RDONLY`.
    ReadOnly,
    /// `O_WRONLY`.
    WriteOnly,
    /// `O_RDWR`.
    ReadWrite,
}

/// An `open(2)` and an `mmap(2)` to be made, by any process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What to map; `None` for anonymous memory.
    pub path: Option<PathBuf>,
    /// How to open it.
    pub mode: Mode,
    /// `PROT_*`.
    pub prot: i32,
    /// `MAP_*`.
    pub flags: i32,
    /// Length in bytes.
    pub len: usize,
}

impl Request {
    /// One page of the object, shared, for reading and writing.
    pub fn shared(path: impl Into<PathBuf>) -> Self {
        Self {
            path: Some(path.into()),
            mode: Mode::ReadWrite,
            prot: libc::PROT_READ | libc::PROT_WRITE,
            flags: libc::MAP_SHARED,
            len: PAGE_SIZE,
        }
    }

    /// One page of the object, private, for reading and writing.
    pub fn private(path: impl Into<PathBuf>) -> Self {
        Self {
            flags: libc::MAP_PRIVATE,
            ..Self::shared(path)
        }
    }

    /// One page of anonymous memory, `MAP_SHARED` or `MAP_PRIVATE`.
    #[must_use]
    pub fn anonymous(sharing: i32) -> Self {
        let flags = libc::MAP_ANONYMOUS | sharing;
        Self {
            path: None,
            flags,
            ..Self::shared("")
        }
    }

    /// The same with another protection.
    #[must_use]
    pub fn prot(self, prot: ProtFlags) -> Self {
        Self {
            prot: prot.bits(),
            ..self
        }
    }

    /// The same with another mode of opening.
    #[must_use]
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// The same with other flags.
    #[must_use]
    pub fn flags(self, flags: i32) -> Self {
        Self { flags, ..self }
    }

    /// The same with another length.
    #[must_use]
    pub fn len(self, len: usize) -> Self {
        Self { len, ..self }
    }

    /// The `mmap(2)` call alone.
    #[must_use]
    pub fn call(&self) -> MapCall {
        let prot = ProtFlags::from_bits_retain(self.prot);
        MapCall {
            len: self.len,
            prot,
            flags: self.flags,
            offset: 0,
        }
    }

    /// Opens and maps; the descriptor is closed again, the mapping keeps the object (mmap(2), NOTES).
    ///
    /// # Errors
    ///
    /// If the object cannot be opened. What `mmap(2)` says is the inner result.
    pub fn try_map(&self) -> Result<Result<Mapping, Errno>> {
        let file = self
            .path
            .as_deref()
            .map(|path| open(path, self.mode))
            .transpose()?;
        Ok(Mapping::new(self.call(), file.as_ref().map(AsFd::as_fd)))
    }

    /// Opens and maps where both are taken for granted.
    ///
    /// # Errors
    ///
    /// If either call is refused.
    pub fn map(&self) -> Result<Mapping> {
        self.try_map()?.map_err(|errno| {
            let MapCall {
                len,
                prot,
                flags,
                offset,
            } = self.call();
            let call = format!("mmap({len} bytes at {offset}, {prot:?}, flags {flags:#x})");
            Error::call(call, self.name())(errno)
        })
    }

    fn name(&self) -> String {
        let name = self.path.as_ref().map(|path| path.display().to_string());
        name.unwrap_or_else(|| "anonymous memory".to_owned())
    }
}

/// The calls, as a C program has them.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            let mode = match self.mode {
                Mode::ReadOnly => "O_RDONLY",
                Mode::WriteOnly => "O_WRONLY",
                Mode::ReadWrite => "O_RDWR",
            };
            write!(f, "open({:?}, {mode}); ", path.display().to_string())?;
        }
        write!(f, "{}", self.call())
    }
}

/// Opens a file or device in this mode.
///
/// # Errors
///
/// If it cannot be opened.
pub fn open(path: &Path, mode: Mode) -> Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(mode != Mode::WriteOnly)
        .write(mode != Mode::ReadOnly);
    options.open(path).map_err(Error::file("open", path))
}

/// A file in the page cache that is gone when it is dropped.
#[derive(Debug)]
pub struct MemFile {
    file: File,
    path: PathBuf,
}

impl MemFile {
    /// A file of `len` zero bytes, none of which occupies memory yet.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn new(len: usize) -> Result<Self> {
        Self::with(len, MFdFlags::MFD_CLOEXEC)
    }

    fn with(len: usize, flags: MFdFlags) -> Result<Self> {
        let fd = memfd_create(c"mmapdemo", flags)
            .map_err(Error::call("memfd_create()", "a file in memory"))?;
        let file = File::from(fd);
        let path = PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            file.as_raw_fd()
        ));
        file.set_len(len as u64)
            .map_err(Error::file("size", &path))?;
        Ok(Self { file, path })
    }

    /// A file of `len` zero bytes that can never become shorter, `F_ADD_SEALS(2const)`.
    ///
    /// # Errors
    ///
    /// If it cannot be made or sealed.
    pub fn unshrinkable(len: usize) -> Result<Self> {
        let file = Self::with(len, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        let seal = FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK);
        fcntl(&file.file, seal).map_err(Error::call(
            "fcntl(F_SEAL_SHRINK)",
            file.path.display().to_string(),
        ))?;
        Ok(file)
    }

    /// A file of `len` bytes, all of them 1, all of whose pages are in memory.
    ///
    /// # Errors
    ///
    /// If it cannot be made or written.
    pub fn filled(len: usize) -> Result<Self> {
        let file = Self::new(len)?;
        let written = file.file.write_all_at(&vec![1; len], 0);
        written.map_err(Error::file("write", &file.path))?;
        Ok(file)
    }

    /// The path under which any process of this user opens it anew, see `proc_pid_fd(5)`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}
