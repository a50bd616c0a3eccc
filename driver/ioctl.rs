// SPDX-License-Identifier: GPL-2.0

//! `ioctl(2)`: what the experiments ask of the kernel.
//!
//! A command is checked in this order: its number, what the file is open for, its structure, the
//! values in it. Only then something is done, and whatever is done cannot fail: a call that returns
//! an error has changed nothing.

use kernel::{
    fs::{
        file::flags::{
            O_RDONLY,
            O_RDWR,
            O_WRONLY, //
        },
        File, //
    },
    prelude::*,
    transmute::{
        AsBytes,
        FromBytes, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

use crate::{
    node::Node,
    raw,
    uapi, //
};

/// The bits of the flags of a file that say what it is open for (`O_ACCMODE`).
const ACCESS_MODE: u32 = O_RDONLY | O_WRONLY | O_RDWR;

/// The argument of an ioctl: the address of a `T`.
struct Argument(UserPtr);

impl Argument {
    /// What userspace has put there.
    fn get<T: FromBytes>(&self) -> Result<T> {
        UserSlice::new(self.0, size_of::<T>()).reader().read()
    }

    /// Gives `value` to userspace.
    fn put<T: AsBytes>(&self, value: &T) -> Result<isize> {
        UserSlice::new(self.0, size_of::<T>())
            .writer()
            .write(value)?;
        Ok(0)
    }
}

/// `ioctl(2)` with the numbers of [`uapi`].
///
/// | errno | when |
/// |---|---|
/// | `ENOTTY` | the number is none of ours; a structure of another size makes another number |
/// | `EBADF` | the file is not open for writing (fill, increment, reset) or reading (checksum) |
/// | `EPERM` | the caller lacks `CAP_SYS_ADMIN` (page info) |
/// | `EFAULT` | the structure is not at the given address, or the answer cannot be stored there |
/// | `EINVAL` | a range that is not in the buffer, an offset that is not aligned, a reserved field |
pub(crate) fn ioctl(node: &Node, file: &File, cmd: u32, arg: usize) -> Result<isize> {
    let arg = Argument(UserPtr::from_addr(arg));
    match cmd {
        uapi::INFO => arg.put(&node.info()?),
        uapi::PAGE_INFO => page_info(node, &arg),
        uapi::FILL => fill(node, file, &arg),
        uapi::INCREMENT => increment(node, file, &arg),
        uapi::CHECKSUM => checksum(node, file, &arg),
        uapi::RESET => reset(node, file),
        _ => Err(ENOTTY),
    }
}

fn page_info(node: &Node, arg: &Argument) -> Result<isize> {
    if !raw::is_admin() {
        return Err(EPERM);
    }
    let uapi::PageInfo { pgoff, .. } = arg.get()?;
    let index = usize::try_from(pgoff)?;
    let page = node.buffer().pages().get(index).ok_or(EINVAL)?;
    arg.put(&uapi::PageInfo {
        pgoff,
        pfn: page.pfn().try_into()?,
        refcount: page.refcount(),
        mapcount: page.mapcount(),
    })
}

fn fill(node: &Node, file: &File, arg: &Argument) -> Result<isize> {
    require_writable(file)?;
    let uapi::Fill {
        offset,
        len,
        value,
        reserved,
    } = arg.get()?;
    if reserved != [0; 7] {
        return Err(EINVAL);
    }
    let (offset, len) = (offset.try_into()?, len.try_into()?);
    node.buffer().fill(offset, len, value)?;
    Ok(0)
}

fn increment(node: &Node, file: &File, arg: &Argument) -> Result<isize> {
    require_writable(file)?;
    let uapi::Increment { offset } = arg.get()?;
    node.buffer().increment(offset.try_into()?)?;
    Ok(0)
}

fn checksum(node: &Node, file: &File, arg: &Argument) -> Result<isize> {
    require_readable(file)?;
    let uapi::Checksum { offset, len, .. } = arg.get()?;
    let sum = node
        .buffer()
        .checksum(offset.try_into()?, len.try_into()?)?;
    arg.put(&uapi::Checksum { offset, len, sum })
}

fn reset(node: &Node, file: &File) -> Result<isize> {
    require_writable(file)?;
    node.reset()?;
    Ok(0)
}

/// Returns `EBADF` as read(2) does.
///
/// The access mode 3, for ioctl only (open(2), "Notes"), is neither for reading nor for writing.
fn require_readable(file: &File) -> Result {
    match file.flags() & ACCESS_MODE {
        O_RDONLY | O_RDWR => Ok(()),
        _ => Err(EBADF),
    }
}

/// Returns `EBADF` as write(2) does.
fn require_writable(file: &File) -> Result {
    match file.flags() & ACCESS_MODE {
        O_WRONLY | O_RDWR => Ok(()),
        _ => Err(EBADF),
    }
}
