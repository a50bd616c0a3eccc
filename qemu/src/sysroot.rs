//! The sysroot: Debian's own toolchain for the kernel, and QEMU, unpacked without root.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::apt::Apt;
use crate::cache::{self, Entry};
use crate::command::HostCommand;
use crate::compiler::{Compiler, GCC};
use crate::host;
use crate::layout::Layout;
use crate::machine::QemuProgram;
use crate::package::{Package, hex};
use crate::parallel;
use crate::progress::Progress;
use crate::stop::Stop;
use crate::store::Store;

/// What building a module, checking a .config and running a guest need, beside [`Compiler::packages`].
pub const PACKAGES: [&str; 31] = [
    // Kbuild
    "make",
    "gcc-14",
    "binutils",
    "libc6-dev",
    "bash",
    "dash",
    "coreutils",
    "findutils",
    "diffutils",
    "grep",
    "sed",
    "mawk",
    "perl-base",
    "tar",
    "gzip",
    "m4",
    "libc-bin",
    "base-files",
    "kmod",
    // Kconfig; openssl because one option depends on what it can sign with
    "flex",
    "bison",
    "openssl",
    // Without rust-src or bindgen, Kconfig drops RUST; without pahole, it drops BTF and SCHED_CLASS_EXT.
    "rustc",
    "rust-src",
    "bindgen",
    "pahole",
    // `lab check`
    "rust-clippy",
    "rustfmt",
    // the guest
    "busybox-static",
    "qemu-system-x86",
    "seabios",
];

/// Dependencies that nothing here uses: they would be a sixth of the download.
const NOT_NEEDED: [&str; 30] = [
    // C++, Objective-C, Fortran, sanitizers, debuggers
    "libclang-19-dev",
    "libclang-dev",
    "libstdc++-14-dev",
    "libobjc-14-dev",
    "libobjc4",
    "libgc1",
    "libasan8",
    "libtsan2",
    "libhwasan0",
    "liblsan0",
    "libubsan1",
    "libitm1",
    "libquadmath0",
    "libcc1-0",
    "libgprofng0",
    // for a system that somebody logs into
    "adduser",
    "passwd",
    "login.defs",
    "libpam-modules",
    "libpam-modules-bin",
    "libpam0g",
    "libsemanage2",
    "libsemanage-common",
    "base-passwd",
    "libdebconfclient0",
    "debconf",
    "libdb5.3t64",
    "rpcsvc-proto",
    // boot ROMs of network cards
    "ipxe-qemu",
    "openssl-provider-legacy",
];

/// What is not unpacked: documentation, translations, and the parts of compilers that are not run.
const EXCLUDED: [&str; 18] = [
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/info",
    "./usr/share/locale",
    "./usr/share/lintian",
    "./usr/share/bash-completion",
    "./usr/libexec/gcc/*/*/lto1",
    "./usr/bin/*-lto-dump-14",
    // QEMU: the machines that are not used, and the modules, which are for devices that are not used
    "./usr/bin/qemu-system-i386",
    "./usr/bin/qemu-system-x86_64-microvm",
    "./usr/lib/x86_64-linux-gnu/gconv",
    "./usr/lib/x86_64-linux-gnu/qemu",
    // rust-src: core alone is compiled for the kernel
    "./usr/src/rustc-*/compiler",
    "./usr/src/rustc-*/src",
    "./usr/src/rustc-*/tests",
    "./usr/src/rustc-*/vendor",
    "./usr/src/rustc-*/library/std",
    "./usr/src/rustc-*/library/vendor",
];

/// Directories that [`Sysroot::command`] mounts something on.
const MOUNT_POINTS: [&str; 6] = ["dev", "proc", "tmp", "kernel", "module", "out"];

/// Changes whenever the lines of this file that shape the sysroot do.
const RECIPE: &str = "sysroot 2";

/// An unpacked toolchain; its directory is sealed and shared by all clones of a user.
#[derive(Clone, Debug)]
pub struct Sysroot {
    /// Its root directory on the host.
    pub root: PathBuf,
    /// Names everything that it was made of.
    pub key: String,
}

impl Sysroot {
    /// The sysroot made of `packages`, whether or not it has been made.
    #[must_use]
    pub fn at(layout: &Layout, packages: &[Package]) -> Self {
        let mut hash = Sha256::new();
        hash.update(RECIPE);
        for package in packages {
            hash.update(&package.sha256);
        }
        let key = hex(&hash.finalize()[..6]);
        Self {
            root: layout.cache.join(format!("sysroot-{key}")),
            key,
        }
    }

    /// Names the lists that [`Self::resolve`] goes by.
    #[must_use]
    pub fn lists(compiler: Compiler) -> String {
        let mut hash = Sha256::new();
        let own = PACKAGES.iter().chain(&["/"]).chain(&NOT_NEEDED);
        for name in own.chain(compiler.packages()) {
            hash.update(name);
            hash.update(" ");
        }
        hex(&hash.finalize()[..6])
    }

    /// Which packages it takes: the listed ones and what they depend on, as the archive has them now.
    ///
    /// # Errors
    ///
    /// When apt cannot resolve them.
    pub fn resolve(apt: &Apt, compiler: Compiler, stop: &Stop) -> Result<Vec<Package>> {
        let names = [&PACKAGES, compiler.packages()].concat();
        let mut packages = apt.resolve(&names, stop)?;
        packages.retain(|package| !NOT_NEEDED.contains(&package.name.as_str()));
        Ok(packages)
    }

    /// Unpacks `packages`, unless a whole sysroot is there. The packages must have been fetched.
    ///
    /// # Errors
    ///
    /// When a package cannot be unpacked, such as for lack of space.
    pub fn make(
        &self,
        store: &Store,
        packages: &[Package],
        progress: &Progress,
        stop: &Stop,
    ) -> Result<()> {
        cache::make(&self.root, "unpack the toolchain", progress, |root| {
            let stage = progress.stage("unpack the toolchain");
            let total = packages.iter().map(|package| package.len).sum();
            lay_out(root)?;
            parallel::map(
                packages,
                |package| package.len,
                stop,
                |package, begun| {
                    stage.advance(begun, total);
                    package.unpack(store.dir(), root, &[], &EXCLUDED, stop)
                },
            )?;
            complete(root)?;
            stage.done();
            Ok(())
        })
    }

    /// Whether it is there, whole.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be read.
    pub fn state(&self) -> Result<Entry> {
        cache::state(&self.root)
    }

    /// A command inside the sysroot, in name spaces of its own, as user 0 of those.
    ///
    /// `mounts` are pairs of a host directory and the directory inside that it appears on.
    #[must_use]
    pub fn command(&self, purpose: impl Into<String>, mounts: &[(&Path, &Path)]) -> HostCommand {
        let mut command = host::name_spaces(purpose)
            .args(["sh", "-c", ENTER, "enter"])
            .arg(&self.root);
        for (host, inside) in mounts {
            command = command.arg(host).arg(inside);
        }
        command
            .arg("--")
            .args([
                "/usr/bin/env",
                "-i",
                "PATH=/usr/sbin:/usr/bin",
                "HOME=/tmp",
                "LC_ALL=C",
            ])
            .hide_wrapping()
    }

    /// A file of the sysroot, as the host sees it.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside)
    }

    /// How the host starts a program of the sysroot: through the sysroot's own dynamic loader, so that neither
    /// the host's libraries nor a name space matter.
    #[must_use]
    pub fn host_program(&self, inside: &str) -> Vec<OsString> {
        vec![
            self.path("usr/lib64/ld-linux-x86-64.so.2").into(),
            "--library-path".into(),
            self.path("usr/lib/x86_64-linux-gnu").into(),
            self.path(inside).into(),
        ]
    }

    /// How the host starts the sysroot's QEMU.
    #[must_use]
    pub fn qemu(&self) -> QemuProgram {
        let data = [self.path("usr/share/qemu"), self.path("usr/share/seabios")];
        let mut argv = self.host_program("usr/bin/qemu-system-x86_64");
        for dir in data {
            argv.extend(["-L".into(), dir.into()]);
        }
        QemuProgram {
            argv_prefix: argv,
            env: Vec::new(),
        }
    }
}

/// The exit status of [`ENTER`] when a mount fails.
pub const ENTER_FAILED: i32 = 120;

/// Mounts what a build needs and changes the root; run by `sh` inside the new name spaces.
const ENTER: &str = r#"
root=$1; shift
mount --rbind /dev "$root/dev" && mount -t proc proc "$root/proc" && mount -t tmpfs tmpfs "$root/tmp" || exit 120
while [ "$1" != -- ]; do
    [ -d "$root$2" ] || mkdir -p "$root$2" || exit 120
    mount --rbind "$1" "$root$2" || exit 120
    shift 2
done
shift
exec chroot "$root" "$@"
"#;

/// The directories and links that packages expect to find (Debian's merged /usr).
fn lay_out(root: &Path) -> Result<()> {
    let context = |path: &Path| format!("failed to make {}", path.display());
    for dir in MOUNT_POINTS
        .iter()
        .chain(&["usr/bin", "usr/sbin", "usr/lib", "usr/lib64"])
    {
        let dir = root.join(dir);
        fs::create_dir_all(&dir).with_context(|| context(&dir))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        let link = root.join(name);
        symlink(format!("usr/{name}"), &link).with_context(|| context(&link))?;
    }
    Ok(())
}

/// What the packages' maintainer scripts would have done, as far as it is needed.
fn complete(root: &Path) -> Result<()> {
    for (link, target) in [("awk", "mawk"), ("cc", GCC), ("sh", "dash")] {
        let link = root.join("usr/bin").join(link);
        if fs::symlink_metadata(&link).is_err() {
            symlink(target, &link).with_context(|| format!("failed to make {}", link.display()))?;
        }
    }
    Ok(())
}
