//! A virtual machine: the QEMU process and the host's ends of its channels.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use command_fds::FdMapping;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use crate::machine::{CONSOLE_FD, Channel, DISKS_FD, INITRAMFS_FD, Machine};
use crate::qemu::Qemu;

/// A running machine. Dropping it ends it.
#[derive(Debug)]
pub struct Vm {
    /// Its process.
    pub qemu: Qemu,
    /// The kernel's log.
    pub console: File,
    ends: Vec<UnixStream>,
}

impl Vm {
    /// Starts the machine; see [`Qemu`] about threads.
    ///
    /// # Errors
    ///
    /// When the process or its channels cannot be made. What QEMU itself does not like shows later.
    pub fn start(machine: &Machine, initramfs: File) -> Result<Self> {
        let (ends, mut fds) = channels().context("failed to make the channels to QEMU")?;
        let (console, qemu_console) = console().context("failed to make the guest's console")?;
        fds.push(FdMapping {
            parent_fd: qemu_console,
            child_fd: CONSOLE_FD,
        });
        fds.push(FdMapping {
            parent_fd: initramfs.into(),
            child_fd: INITRAMFS_FD,
        });
        for (disk, child_fd) in machine.disks.iter().zip(DISKS_FD..) {
            let parent_fd = disk.descriptor().context("failed to attach a disk")?;
            fds.push(FdMapping {
                parent_fd,
                child_fd,
            });
        }
        let qemu = Qemu::start(&machine.qemu, machine.args(), fds)?;
        Ok(Self {
            qemu,
            console: console.into(),
            ends,
        })
    }

    /// The host's end of a channel.
    #[must_use]
    pub fn channel(&self, channel: Channel) -> &UnixStream {
        &self.ends[channel as usize]
    }
}

/// A socket pair for each channel: the host's ends, and what QEMU inherits.
fn channels() -> io::Result<(Vec<UnixStream>, Vec<FdMapping>)> {
    let mut ends = Vec::new();
    let mut fds = Vec::new();
    for channel in Channel::ALL {
        let (host, qemu) = UnixStream::pair()?;
        ends.push(host);
        fds.push(FdMapping {
            parent_fd: qemu.into(),
            child_fd: channel.child_fd(),
        });
    }
    Ok((ends, fds))
}

/// A pipe, as large as an unprivileged user may have it (pipe(7)).
fn console() -> io::Result<(OwnedFd, OwnedFd)> {
    const PIPE_MAX_SIZE: i32 = 1 << 20;
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    // A user with very many pipes may not have it: the usual 64 KiB hold a whole boot, too.
    let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(PIPE_MAX_SIZE));
    Ok((reader, writer))
}
