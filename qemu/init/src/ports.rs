//! The virtio-serial ports to the host.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Cursor, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::job::{
    CONTROL_PORT, Command, Event, KTAP_PORT, PORTS_DIR, STDERR_PORT, STDIN_PORT, STDOUT_PORT,
};

const NAMES: [&str; 5] = [
    CONTROL_PORT,
    STDIN_PORT,
    STDOUT_PORT,
    STDERR_PORT,
    KTAP_PORT,
];

/// How long the kernel may take to make the ports known. Normally they are there before `init` is.
const PORTS_TIMEOUT: Duration = Duration::from_secs(20);

/// Where the ports are.
#[derive(Debug)]
pub(crate) struct Ports(BTreeMap<String, PathBuf>);

impl Ports {
    /// Waits until all ports have appeared, and links them by name in [`PORTS_DIR`].
    pub(crate) fn find() -> Result<Self> {
        // The kernel learns the names from the device by and by, and tells of each by a uevent
        // (drivers/char/virtio_console.c, VIRTIO_CONSOLE_PORT_NAME). Listen first, then look.
        let uevents = Uevents::listen()?;
        let deadline = Instant::now() + PORTS_TIMEOUT;
        let ports = loop {
            let ports = named_ports();
            let missing: Vec<_> = NAMES
                .iter()
                .filter(|name| !ports.contains_key(**name))
                .collect();
            if missing.is_empty() {
                break ports;
            }
            uevents
                .wait(deadline)
                .with_context(|| format!("failed to find the ports {missing:?}"))?;
        };
        fs::create_dir_all(PORTS_DIR).with_context(|| format!("failed to make {PORTS_DIR}"))?;
        for (name, device) in &ports {
            let link = PathBuf::from(PORTS_DIR).join(name);
            symlink(device, &link).with_context(|| format!("failed to link {}", link.display()))?;
        }
        Ok(Self(ports))
    }

    /// Opens the control port, and waits until the host listens.
    pub(crate) fn control(&self) -> Result<Control> {
        Ok(Control {
            port: self.open(CONTROL_PORT)?,
            unread: Vec::new(),
        })
    }

    /// Opens a port to write to it. Only one process can have it open (`EBUSY` otherwise).
    pub(crate) fn open(&self, name: &str) -> Result<File> {
        let path = self
            .0
            .get(name)
            .with_context(|| format!("failed to find the port {name}"))?;
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| format!("failed to open the port {name}, {}", path.display()))
    }

    /// Opens the port that a program reads its standard input from, before the host is told that it runs.
    pub(crate) fn stdin(&self) -> Result<File> {
        let mut port = self.open(STDIN_PORT)?;
        // Until the host is connected, read(2) says "end of file" and write(2) blocks: a byte that
        // nobody reads waits for it.
        port.write_all(b"\n")
            .context("failed to wait for the host on the port of standard input")?;
        Ok(port)
    }
}

/// The ports that have a name by now.
fn named_ports() -> BTreeMap<String, PathBuf> {
    let Ok(entries) = fs::read_dir("/sys/class/virtio-ports") else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = fs::read_to_string(entry.path().join("name")).ok()?;
            Some((
                name.trim_end().to_owned(),
                PathBuf::from("/dev").join(entry.file_name()),
            ))
        })
        .collect()
}

/// The kernel's announcements of devices, netlink(7) `NETLINK_KOBJECT_UEVENT`.
struct Uevents(OwnedFd);

impl Uevents {
    fn listen() -> Result<Self> {
        let kernel_group = NetlinkAddr::new(0, 1);
        let listen = || {
            let fd = socket(
                AddressFamily::Netlink,
                SockType::Datagram,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkKObjectUEvent,
            )?;
            bind(fd.as_raw_fd(), &kernel_group)?;
            Ok::<_, Errno>(fd)
        };
        listen()
            .map(Self)
            .context("failed to listen to the kernel's announcements of devices")
    }

    /// Waits for any announcement.
    fn wait(&self, deadline: Instant) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout)? == 0 {
            bail!(
                "the kernel did not announce them within {} s",
                PORTS_TIMEOUT.as_secs()
            );
        }
        // ENOBUFS says that announcements were lost: then, too, it is time to look again.
        match recv(self.0.as_raw_fd(), &mut [0; 4096], MsgFlags::MSG_DONTWAIT) {
            Ok(_) | Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The port for events and commands.
#[derive(Debug)]
pub(crate) struct Control {
    port: File,
    unread: Vec<u8>,
}

impl Control {
    /// Tells the host; waits while the host is not connected.
    pub(crate) fn say(&mut self, event: &Event) -> Result<()> {
        let mut line = serde_json::to_vec(event).context("failed to write an event as JSON")?;
        line.push(b'\n');
        self.port
            .write_all(&line)
            .with_context(|| format!("failed to tell the host {event:?}"))
    }

    /// Readable when something has come that was not read.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.port.as_fd()
    }

    /// Waits for one command.
    pub(crate) fn next(&mut self) -> Result<Command> {
        loop {
            if let Some(command) = self.take_command()? {
                return Ok(command);
            }
            self.listen()?;
        }
    }

    /// The next `len` bytes, which are no commands. Who begins to read them has to read all.
    pub(crate) fn apart(&mut self, len: usize) -> impl Read {
        let early = self.unread.len().min(len);
        let early: Vec<u8> = self.unread.drain(..early).collect();
        let missing = (&self.port).take((len - early.len()) as u64);
        Cursor::new(early).chain(missing)
    }

    /// Reads once.
    pub(crate) fn listen(&mut self) -> Result<()> {
        let mut chunk = [0; 4096];
        let len = self
            .port
            .read(&mut chunk)
            .context("failed to listen to the host")?;
        if len == 0 {
            bail!("failed to listen to the host: it closed the port");
        }
        self.unread.extend_from_slice(&chunk[..len]);
        Ok(())
    }

    /// The next command, if it was read in full. What follows it may be no command, and stays.
    pub(crate) fn take_command(&mut self) -> Result<Option<Command>> {
        let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') else {
            return Ok(None);
        };
        let line: Vec<u8> = self.unread.drain(..=end).collect();
        let command = serde_json::from_slice(&line).with_context(|| {
            format!(
                "failed to understand the host's {}",
                String::from_utf8_lossy(&line)
            )
        })?;
        Ok(Some(command))
    }

    /// Waits until the host has read everything, however long its reader takes.
    pub(crate) fn wait_for_bye(&mut self) -> Result<()> {
        while self.next()? != Command::Bye {}
        Ok(())
    }
}
