//! Unpacks an archive as the kernel unpacks an initramfs.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use cpio::newc;
use rustix::fs::{FileType, Mode};
use rustix::process::umask;

/// Puts what is in `archive` below `root`; a file replaces an earlier one.
pub(crate) fn unpack(archive: &mut impl Read, root: &Path) -> Result<()> {
    // What the archive says is the mode, whatever the mask is.
    let mask = umask(Mode::empty());
    let unpacked = unpack_all(archive, root);
    umask(mask);
    unpacked
}

fn unpack_all(archive: &mut impl Read, root: &Path) -> Result<()> {
    loop {
        let mut reader = newc::Reader::new(&mut *archive).context("failed to read an archive")?;
        if reader.entry().is_trailer() {
            return Ok(());
        }
        let name = reader.entry().name().to_owned();
        write(&mut reader, &root.join(&name))
            .with_context(|| format!("failed to unpack {name}"))?;
        reader
            .finish()
            .with_context(|| format!("failed to unpack {name}"))?;
    }
}

fn write(reader: &mut newc::Reader<impl Read>, path: &Path) -> Result<()> {
    let mode = reader.entry().mode() & 0o7777;
    match FileType::from_raw_mode(reader.entry().mode()) {
        FileType::Directory => match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::set_permissions(path, Permissions::from_mode(mode))?;
            }
            created => created?,
        },
        FileType::RegularFile => drop(io::copy(reader, &mut replace(path, mode)?)?),
        other => bail!("it is neither a file nor a directory, but {other:?}"),
    }
    Ok(())
}

/// A new file, not the old one with another content: that may be a program that runs.
fn replace(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            options.open(path)
        }
        opened => opened,
    }
}
