// SPDX-License-Identifier: GPL-2.0

//! The file operations of `/dev/mmapdemo`.
//!
//! The device behaves like a file of fixed length: what a call asks for beyond the last byte is
//! cut off, and what starts there fails.

use kernel::{
    fs::{
        File,
        Kiocb, //
    },
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    mm::virt::VmaNew,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    }, //
};

use crate::{
    buffer::Buffer,
    raw,
    raw::Registration,
    strategy::Window, //
};

/// How the node appears below `/dev`: readable and writable by everybody, since the bytes behind it
/// are a playground and belong to nobody.
pub(crate) const OPTIONS: raw::Options = raw::Options {
    name: c"mmapdemo",
    mode: 0o666,
};

/// `/dev/mmapdemo`. What an open file owns is a share of the buffer.
pub(crate) struct MmapDemo;

#[vtable]
impl MiscDevice for MmapDemo {
    type Ptr = Arc<Buffer>;

    /// `open(2)`. Every open file shares the one buffer.
    ///
    /// | errno | when |
    /// |---|---|
    /// | `EINVAL` | `O_DIRECT` was asked for (refused by the core: there is nothing to bypass) |
    fn open(_file: &File, misc: &MiscDeviceRegistration<Self>) -> Result<Arc<Buffer>> {
        Ok(Registration::of(misc).ok_or(ENODEV)?.data().clone())
    }

    /// `mmap(2)`, shared or private.
    ///
    /// | errno | when |
    /// |---|---|
    /// | `EINVAL` | offset plus length passes the end of the buffer, or either is malformed (core) |
    /// | `EACCES` | the file is not open for what `prot` and `MAP_SHARED` ask for (core) |
    /// | `EOVERFLOW` | offset plus length passes the end of the offset type (core) |
    /// | `ENOMEM` | no memory for a page table |
    fn mmap(buffer: ArcBorrow<'_, Buffer>, _file: &File, vma: &VmaNew) -> Result {
        Window::new(vma)?.insert_page(&buffer)
    }

    /// `read(2)`, `pread(2)`, `readv(2)`: what is left of the buffer, 0 at its end.
    ///
    /// | errno | when |
    /// |---|---|
    /// | `EFAULT` | not one byte could be stored at the given address |
    /// | `EINVAL` | negative offset (core) |
    /// | `ENOMEM` | no memory to copy through |
    fn read_iter(mut kiocb: Kiocb<'_, Self::Ptr>, iov: &mut IovIterDest<'_>) -> Result<usize> {
        let offset = offset_of(&kiocb)?;
        let len = iov.len().min(Buffer::LEN.saturating_sub(offset));
        if len == 0 {
            return Ok(0);
        }
        let mut copy = KVec::from_elem(0, len, GFP_KERNEL)?;
        kiocb.file().read(offset, &mut copy)?;
        advance(&mut kiocb, offset, iov.copy_to_iter(&copy))
    }

    /// `write(2)`, `pwrite(2)`, `writev(2)`: as many bytes as fit, all seen at once by read.
    ///
    /// The bytes are fetched before the buffer is touched: a caller whose memory is slow to appear
    /// holds up nobody else, and another write never ends up in the middle.
    ///
    /// With `O_APPEND` the offset is the end of the file (`open(2)`), and the buffer cannot grow, so
    /// appending is refused. Block devices ignore the flag instead and overwrite their first bytes.
    ///
    /// | errno | when |
    /// |---|---|
    /// | `ENOSPC` | the offset is at or beyond the end, or the file is open with `O_APPEND` |
    /// | `EFAULT` | not one byte could be fetched from the given address |
    /// | `EINVAL` | negative offset (core) |
    /// | `ENOMEM` | no memory to copy through |
    fn write_iter(mut kiocb: Kiocb<'_, Self::Ptr>, iov: &mut IovIterSource<'_>) -> Result<usize> {
        if iov.is_empty() {
            return Ok(0);
        }
        let offset = offset_of(&kiocb)?;
        let len = iov.len().min(Buffer::LEN.saturating_sub(offset));
        if len == 0 || raw::appends(&kiocb) {
            return Err(ENOSPC);
        }
        let mut copy = KVec::from_elem(0, len, GFP_KERNEL)?;
        let fetched = iov.copy_from_iter(&mut copy);
        copy.truncate(fetched);
        kiocb.file().write(offset, &copy)?;
        advance(&mut kiocb, offset, fetched)
    }
}

/// Where in the buffer a read or a write starts.
fn offset_of(kiocb: &Kiocb<'_, Arc<Buffer>>) -> Result<usize> {
    usize::try_from(kiocb.ki_pos()).map_err(|_| EINVAL)
}

/// Moves the file offset past the `copied` bytes at `offset`.
///
/// Called when something was to be copied: nothing copied means that userspace gave a bad address.
fn advance(kiocb: &mut Kiocb<'_, Arc<Buffer>>, offset: usize, copied: usize) -> Result<usize> {
    if copied == 0 {
        return Err(EFAULT);
    }
    let end = offset.checked_add(copied).ok_or(EINVAL)?;
    *kiocb.ki_pos_mut() = i64::try_from(end)?;
    Ok(copied)
}
