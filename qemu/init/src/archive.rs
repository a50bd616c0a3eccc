//! Unpacks an archive as the kernel unpacks an initramfs.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use cpio::newc;
use rustix::fs::FileType;

/// Puts what is in `archive` below `root`; a file replaces an earlier one.
pub(crate) fn unpack(archive: &mut impl Read, root: &Path) -> Result<()> {
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
    let mode = Permissions::from_mode(reader.entry().mode() & 0o7777);
    match FileType::from_raw_mode(reader.entry().mode()) {
        FileType::Directory => match fs::create_dir(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
            _ => fs::set_permissions(path, mode)?,
        },
        FileType::RegularFile => {
            let mut file = replace(path)?;
            io::copy(reader, &mut file)?;
            file.set_permissions(mode)?;
        }
        other => bail!("it is neither a file nor a directory, but {other:?}"),
    }
    Ok(())
}

/// A new file, not the old one with another content: that may be a program that runs.
fn replace(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}
