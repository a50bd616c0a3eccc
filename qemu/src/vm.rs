//! A virtual machine: the QEMU process and the host's ends of its channels.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Context, Result};
use command_fds::FdMapping;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use crate::machine::{
    Birth, CONSOLE_FD, Channel, DISKS_FD, GDB_FD, INITRAMFS_FD, MEMORY_FD, Machine, STATE_FD,
};
use crate::qemu::Qemu;
use crate::qmp;

/// The two files of a machine that is saved.
#[derive(Debug)]
pub struct Saved {
    /// Its memory.
    pub memory: File,
    /// The state of everything else.
    pub state: File,
}

impl Saved {
    fn descriptors(self) -> Vec<(OwnedFd, RawFd)> {
        vec![
            (self.memory.into(), MEMORY_FD),
            (self.state.into(), STATE_FD),
        ]
    }
}

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
    /// Boots the machine with this initramfs.
    ///
    /// # Errors
    ///
    /// When the process or its channels cannot be made. What QEMU itself does not like shows later.
    pub fn start(machine: &Machine, initramfs: File) -> Result<Self> {
        Self::launch(machine, Birth::Boot, vec![(initramfs.into(), INITRAMFS_FD)])
    }

    /// Boots the machine so that a debugger can attach to it by connecting to `listener`.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_to_debug(
        machine: &Machine,
        initramfs: File,
        listener: UnixListener,
    ) -> Result<Self> {
        let files = vec![(initramfs.into(), INITRAMFS_FD), (listener.into(), GDB_FD)];
        Self::launch(machine, Birth::BootToDebug, files)
    }

    /// Boots the machine so that it can be saved: its memory is one file, and another will have its state.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_to_save(machine: &Machine, initramfs: File, saved: Saved) -> Result<Self> {
        let mut files = saved.descriptors();
        files.push((initramfs.into(), INITRAMFS_FD));
        Self::launch(machine, Birth::BootToSave, files)
    }

    /// Has a machine go on that was saved. It changes nothing of what was.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn restore(machine: &Machine, saved: Saved) -> Result<Self> {
        let vm = Self::launch(machine, Birth::Restore, saved.descriptors())?;
        // As with the greeting: if QEMU failed at once, its status tells more than this write.
        let _ = vm.channel(Channel::Monitor).write_all(&qmp::restore());
        Ok(vm)
    }

    fn launch(machine: &Machine, birth: Birth, files: Vec<(OwnedFd, RawFd)>) -> Result<Self> {
        let (ends, mut fds) = channels().context("failed to make the channels to QEMU")?;
        let (console, qemu_console) = console().context("failed to make the guest's console")?;
        fds.push(FdMapping {
            parent_fd: qemu_console,
            child_fd: CONSOLE_FD,
        });
        fds.extend(files.into_iter().map(|(parent_fd, child_fd)| FdMapping {
            parent_fd,
            child_fd,
        }));
        for (disk, child_fd) in machine.disks.iter().zip(DISKS_FD..) {
            let parent_fd = disk.descriptor().context("failed to attach a disk")?;
            fds.push(FdMapping {
                parent_fd,
                child_fd,
            });
        }
        let qemu = Qemu::start(&machine.qemu, machine.args_for(birth), fds)?;
        let vm = Self {
            qemu,
            console: console.into(),
            ends,
        };
        // A QEMU that failed at once has closed its end; its status tells more than this write.
        let _ = vm.channel(Channel::Monitor).write_all(qmp::HELLO);
        Ok(vm)
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
