// SPDX-License-Identifier: GPL-2.0

//! The file operations of the three nodes.
//!
//! Each of them behaves like a file of fixed length: what a call asks for beyond the last byte is
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
    seq_file::SeqFile,
    seq_print,
    sync::{
        Arc,
        ArcBorrow, //
    }, //
};

use crate::{
    ioctl,
    node::Node,
    raw,
    raw::{
        FixedLen,
        Registration,
        Window, //
    }, //
};

/// How a node appears below `/dev`: readable and writable by everybody, since the bytes behind it are
/// a playground and belong to nobody.
pub(crate) const fn options(name: &'static CStr) -> raw::Options {
    raw::Options { name, mode: 0o666 }
}

/// A device. What an open file of it owns is a share of the node, and so of the buffer.
pub(crate) struct MmapDemo;

impl FixedLen for MmapDemo {
    fn len(node: ArcBorrow<'_, Node>) -> usize {
        node.buffer().len()
    }
}

#[vtable]
impl MiscDevice for MmapDemo {
    type Ptr = Arc<Node>;

    /// `open(2)`. Every open file shares the one buffer.
    ///
    /// | errno | when |
    /// |---|---|
    /// | `EINVAL` | `O_DIRECT` was asked for (refused by the core: there is nothing to bypass) |
    /// | `ENODEV` | the module is being loaded or unloaded (core) |
    fn open(_file: &File, misc: &MiscDeviceRegistration<Self>) -> Result<Arc<Node>> {
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
    fn mmap(node: ArcBorrow<'_, Node>, _file: &File, vma: &VmaNew) -> Result {
        let strategy = node.strategy();
        strategy.show(Window::new(vma, node.into())?)
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
        let node = kiocb.file();
        let buffer = node.buffer();
        let len = iov.len().min(buffer.len().saturating_sub(offset));
        if len == 0 {
            return Ok(0);
        }
        let mut copy = KVVec::from_elem(0, len, GFP_KERNEL)?;
        buffer.read(offset, &mut copy)?;
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
        let node = kiocb.file();
        let buffer = node.buffer();
        let len = iov.len().min(buffer.len().saturating_sub(offset));
        if len == 0 || raw::appends(&kiocb) {
            return Err(ENOSPC);
        }
        let mut copy = KVVec::from_elem(0, len, GFP_KERNEL)?;
        let fetched = iov.copy_from_iter(&mut copy);
        copy.truncate(fetched);
        buffer.write(offset, &copy)?;
        advance(&mut kiocb, offset, fetched)
    }

    /// `ioctl(2)`, also of 32-bit userspace, to which the structures look the same; see [`ioctl`].
    fn ioctl(node: ArcBorrow<'_, Node>, file: &File, cmd: u32, arg: usize) -> Result<isize> {
        ioctl::ioctl(&node, file, cmd, arg)
    }

    /// `/proc/PID/fdinfo/FD`.
    fn show_fdinfo(node: ArcBorrow<'_, Node>, seq: &SeqFile, _file: &File) {
        // Nobody would learn of an error here; there is none below 2^32 pages.
        let Ok(info) = node.info() else {
            return;
        };
        seq_print!(seq, "strategy:\t{}\n", node.strategy().name());
        seq_print!(seq, "size:\t{}\n", info.len);
        seq_print!(seq, "mappings:\t{}\n", info.mappings);
        seq_print!(seq, "faults:\t{}\n", info.faults);
    }
}

/// Where in the buffer a read or a write starts.
fn offset_of(kiocb: &Kiocb<'_, Arc<Node>>) -> Result<usize> {
    usize::try_from(kiocb.ki_pos()).map_err(|_| EINVAL)
}

/// Moves the file offset past the `copied` bytes at `offset`.
///
/// Called when something was to be copied: nothing copied means that userspace gave a bad address.
fn advance(kiocb: &mut Kiocb<'_, Arc<Node>>, offset: usize, copied: usize) -> Result<usize> {
    if copied == 0 {
        return Err(EFAULT);
    }
    let end = offset.checked_add(copied).ok_or(EINVAL)?;
    *kiocb.ki_pos_mut() = i64::try_from(end)?;
    Ok(copied)
}
