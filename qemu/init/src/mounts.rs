//! The guest's file systems.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

struct Mount {
    source: &'static str,
    target: &'static str,
    fstype: &'static str,
    options: Option<&'static str>,
    /// A kernel may be built without it.
    optional: bool,
}

/// In the order of mounting: a mount point may lie in an earlier mount.
const MOUNTS: &[Mount] = &[
    Mount {
        source: "proc",
        target: "/proc",
        fstype: "proc",
        options: None,
        optional: false,
    },
    Mount {
        source: "sysfs",
        target: "/sys",
        fstype: "sysfs",
        options: None,
        optional: false,
    },
    Mount {
        source: "devtmpfs",
        target: "/dev",
        fstype: "devtmpfs",
        options: None,
        optional: false,
    },
    Mount {
        source: "devpts",
        target: "/dev/pts",
        fstype: "devpts",
        options: Some("mode=0620,ptmxmode=0666"),
        optional: true,
    },
    Mount {
        source: "tmpfs",
        target: "/dev/shm",
        fstype: "tmpfs",
        options: Some("mode=1777"),
        optional: false,
    },
    Mount {
        source: "tmpfs",
        target: "/tmp",
        fstype: "tmpfs",
        options: Some("mode=1777"),
        optional: false,
    },
    Mount {
        source: "tmpfs",
        target: "/run",
        fstype: "tmpfs",
        options: Some("mode=0755"),
        optional: false,
    },
    Mount {
        source: "debugfs",
        target: "/sys/kernel/debug",
        fstype: "debugfs",
        options: None,
        optional: true,
    },
    Mount {
        source: "tracefs",
        target: "/sys/kernel/tracing",
        fstype: "tracefs",
        options: None,
        optional: true,
    },
];

/// What udev or systemd would link in `/dev`.
const DEV_LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Mounts everything, and makes the links of `/dev`.
pub(crate) fn mount_all() -> Result<()> {
    for Mount {
        source,
        target,
        fstype,
        options,
        optional,
    } in MOUNTS
    {
        // sysfs makes its mount points itself, and refuses others.
        match fs::create_dir_all(target) {
            Err(_) if *optional => continue,
            made => made.with_context(|| format!("failed to make {target}"))?,
        }
        let flags = MsFlags::MS_NOSUID;
        match mount(Some(*source), *target, Some(*fstype), flags, *options) {
            Err(Errno::ENODEV) if *optional => {}
            mounted => mounted.with_context(|| format!("failed to mount {fstype} on {target}"))?,
        }
    }
    for (target, link) in DEV_LINKS {
        match symlink(target, link) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            linked => linked.with_context(|| format!("failed to link {link} to {target}"))?,
        }
    }
    // The archive's umask is not ours: whoever builds the guest, a user in it can come in.
    fs::set_permissions("/", Permissions::from_mode(0o755)).context("failed to set the mode of /")
}
