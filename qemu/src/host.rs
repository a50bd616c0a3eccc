//! What the host must have, which package brings it, and how it gets there.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::Uid;

use crate::apt::KEYRING;
use crate::command::{HostCommand, find_program};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::stop::Stop;

/// How long apt-get may take to install the missing packages.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Something that the lab calls on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The program, or a file by its absolute path.
    pub name: &'static str,
    /// The Debian package that brings it.
    pub package: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

/// All that is called on the host; everything else comes with the sysroot.
pub const TOOLS: [Tool; 16] = [
    tool("apt-get", "apt", "downloads and verifies packages"),
    tool("apt-cache", "apt", "looks up packages"),
    tool("apt-config", "apt", "reads the host's proxy settings"),
    tool(
        KEYRING,
        "debian-archive-keyring",
        "holds the keys that sign the packages",
    ),
    tool("dpkg-deb", "dpkg", "opens packages"),
    tool("bash", "bash", "connects dpkg-deb to tar"),
    tool("tar", "tar", "unpacks packages"),
    tool("xz", "xz-utils", "unpacks the kernel's sources"),
    tool(
        "setpriv",
        "util-linux",
        "ties what the lab starts to its life",
    ),
    tool("unshare", "util-linux", "enters the sysroot without root"),
    tool("mount", "mount", "mounts directories in the sysroot"),
    tool("chroot", "coreutils", "enters the sysroot"),
    tool("sh", "dash", "starts programs in the sysroot"),
    tool("mkdir", "coreutils", "makes mount points in the sysroot"),
    tool("cc", "gcc", "links the experiments"),
    tool(
        "/usr/lib/x86_64-linux-gnu/libc.a",
        "libc6-dev",
        "makes the experiments static",
    ),
];

const fn tool(name: &'static str, package: &'static str, purpose: &'static str) -> Tool {
    Tool {
        name,
        package,
        purpose,
    }
}

impl Tool {
    /// Whether the host has it.
    #[must_use]
    pub fn is_there(&self) -> bool {
        find_program(self.name).is_some()
    }
}

/// The packages that bring what is missing.
#[must_use]
pub fn missing_packages() -> Vec<&'static str> {
    let mut packages: Vec<_> = TOOLS
        .iter()
        .filter(|tool| !tool.is_there())
        .map(|tool| tool.package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Installs what is missing where that needs no question: as root, or by sudo without a password.
///
/// # Errors
///
/// A set-up error with the one command to type, where it may not be installed; otherwise what apt-get says.
pub fn complete(progress: &Progress, stop: &Stop) -> Result<()> {
    require_x86_64()?;
    let packages = missing_packages();
    if !packages.is_empty() {
        install(&packages, progress, stop)?;
    }
    require_name_spaces(stop)
}

fn require_x86_64() -> Result<(), Failure> {
    if cfg!(target_arch = "x86_64") {
        return Ok(());
    }
    Err(Failure::SetUpMissing {
        what: format!(
            "the lab runs on x86-64 hosts, and this one is {}",
            std::env::consts::ARCH
        ),
        remedy: "use an x86-64 host".into(),
    })
}

fn install(packages: &[&str], progress: &Progress, stop: &Stop) -> Result<()> {
    let missing = || Failure::SetUpMissing {
        what: format!("this host lacks {}", packages.join(", ")),
        remedy: format!(
            "sudo apt-get install --no-install-recommends -y {}",
            packages.join(" ")
        ),
    };
    find_program("apt-get").ok_or_else(missing)?;
    let mut prefix: Vec<&str> = Vec::new();
    if !Uid::effective().is_root() {
        let sudo = find_program("sudo").ok_or_else(missing)?;
        let asks = HostCommand::new("ask sudo", sudo)
            .args(["-n", "true"])
            .finish(stop, |_, _| ())?;
        if !asks.status.success() {
            return Err(missing().into());
        }
        prefix = vec!["sudo", "-n"];
    }
    let stage = progress.stage(format!("install {}", packages.join(", ")));
    let run = |args: &[&str]| {
        let mut argv = prefix.clone();
        argv.extend([
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-q",
            "-y",
        ]);
        argv.extend(args);
        HostCommand::new("install what this host lacks", argv[0])
            .args(&argv[1..])
            .timeout(INSTALL_TIMEOUT)
            // A dpkg that is killed leaves half-installed packages to the host.
            .to_the_end()
            .run(stop, |_, line| {
                stage.message(line.chars().take(40).collect::<String>());
            })
    };
    run(&["update"])?;
    let mut args = vec!["install", "--no-install-recommends"];
    args.extend(packages);
    run(&args)?;
    stage.done();
    Ok(())
}

/// The beginning of a command in mount and PID name spaces of its own; the program follows.
///
/// An ordinary user gets them by way of a user name space (`user_namespaces(7)`); root needs none, and may
/// not even be allowed one, as in a chroot(2).
#[must_use]
pub fn name_spaces(purpose: impl Into<String>) -> HostCommand {
    let mut command = HostCommand::new(purpose, "unshare");
    if !Uid::effective().is_root() {
        command = command.arg("--map-root-user");
    }
    // `--kill-child`: nothing in there outlives the process that the lab waits for.
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--"])
}

/// Checks that this user may make the name spaces in which the sysroot is entered.
///
/// # Errors
///
/// A set-up error with the setting that forbids them.
pub fn require_name_spaces(stop: &Stop) -> Result<()> {
    let tried = name_spaces("try name spaces")
        .args(["sh", "-c"])
        .arg("mount -t proc proc /proc && mount -t tmpfs tmpfs /tmp")
        .finish(stop, |_, _| ())?;
    if tried.status.success() {
        return Ok(());
    }
    let setting =
        |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name.replace('.', "/")));
    let is = |name: &str, value: &str| setting(name).is_ok_and(|text| text.trim() == value);
    let remedy = if is("kernel.apparmor_restrict_unprivileged_userns", "1") {
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    } else if is("kernel.unprivileged_userns_clone", "0") {
        "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    } else if is("user.max_user_namespaces", "0") {
        "sudo sysctl -w user.max_user_namespaces=10000"
    } else {
        "in a container, allow it unshare(2) and mount(2): docker run --privileged"
    };
    Err(Failure::SetUpMissing {
        what: format!(
            "this user may not make the name spaces that the sysroot is entered by:\n{}",
            tried.tail.trim_end()
        ),
        remedy: remedy.into(),
    }
    .into())
}

/// Bytes free for this user on the file system of `dir`.
///
/// # Errors
///
/// When the file system cannot be asked.
pub fn free_bytes(dir: &Path) -> Result<u64> {
    let stat = nix::sys::statvfs::statvfs(dir)
        .with_context(|| format!("failed to ask how full {} is", dir.display()))?;
    Ok(stat.blocks_available() * stat.fragment_size())
}
/// Tells a compiler that found no room for its products from one that found a mistake in the sources: `said`
/// is what it said, and `products` where they were to be.
///
/// # Errors
///
/// A set-up error, when a disk is full.
pub fn require_room(said: &str, products: &Path) -> Result<()> {
    if !said.contains(NO_SPACE) {
        return Ok(());
    }
    Err(Failure::SetUpMissing {
        what: format!("no space left on the device of {}", products.display()),
        remedy: "make room on that disk, then the same command again".into(),
    }
    .into())
}

/// How strerror(3) puts `ENOSPC`.
const NO_SPACE: &str = "No space left on device";
