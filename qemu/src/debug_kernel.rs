//! The debug kernel: small, with all checks that help a driver's author, compiled from Debian's sources.
//!
//! What it has is said in `qemu/debug-kernel.config`, and in nothing else: Kconfig starts from a configuration in
//! which all is off. Options that depend on what is not there disappear without a word, so that the result
//! is compared with what was asked for.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cached_kernel::MOUNT;
use crate::checks::Checks;
use crate::command::HostCommand;
use crate::compiler::Compiler;
use crate::config::Config;
use crate::kernel::{make_dirs, read_config};
use crate::package::{self, Package};
use crate::progress::Progress;
use crate::release::Release;
use crate::stop::Stop;
use crate::store::Store;
use crate::sysroot::Sysroot;

/// The options that are asked for.
pub const FRAGMENT: &str = include_str!("../debug-kernel.config");

/// Changes whenever the lines of this file that shape the tree do.
pub const RECIPE: &str = "debug kernel 1";

/// What tells it from Debian's kernels of the same version; `CONFIG_LOCALVERSION` in the fragment.
const SUFFIX: &str = "-debug";

/// What of the sources such a kernel is compiled from; Kconfig and make need all their files.
const SOURCES: [&str; 50] = [
    "Makefile",
    "Kbuild",
    ".clippy.toml",
    ".rustfmt.toml",
    "*Kconfig*",
    "*Makefile*",
    "*/Kbuild*",
    "*/Build*",
    "arch/x86/*",
    "block/*",
    "certs/*",
    "crypto/*",
    "drivers/acpi/*",
    "drivers/android/*",
    "drivers/base/*",
    "drivers/block/*",
    "drivers/bus/*",
    "drivers/char/*",
    "drivers/clocksource/*",
    "drivers/cpufreq/*",
    "drivers/cpuidle/*",
    "drivers/dma-buf/*",
    "drivers/firmware/*",
    "drivers/input/*",
    "drivers/irqchip/*",
    "drivers/misc/*",
    "drivers/net/loopback.c",
    "drivers/nvme/*",
    "drivers/pci/*",
    "drivers/platform/x86/*",
    "drivers/pnp/*",
    "drivers/rtc/*",
    "drivers/tty/*",
    "drivers/video/*",
    "drivers/virtio/*",
    "fs/*",
    "include/*",
    "init/*",
    "io_uring/*",
    "ipc/*",
    "kernel/*",
    "lib/*",
    "mm/*",
    "net/*",
    "rust/*",
    "scripts/*",
    "security/*",
    "tools/*",
    "usr/*",
    "virt/*",
];

/// What of the sources building a module takes.
const KEPT_SOURCES: [&str; 7] = [
    "Makefile",
    ".clippy.toml",
    ".rustfmt.toml",
    "arch",
    "include",
    "rust",
    "scripts",
];

/// What of the build directory building a module takes.
const KEPT_PRODUCTS: [&str; 8] = [
    ".config",
    "Makefile",
    "Module.symvers",
    "arch",
    "include",
    "rust",
    "scripts",
    "tools",
];

/// How long the compilation may take: half an hour on two processors that do nothing else.
const TIMEOUT: Duration = Duration::from_secs(6 * 60 * 60);

/// How many lines Kbuild prints meanwhile, for the progress bar.
const STEPS: u64 = 1900;

/// What `uname -r` says of the kernel that is made of the sources of `release`, such as `7.3.4-debug`.
#[must_use]
pub fn uname(release: &Release) -> String {
    let base = release.base();
    let version = base.split('+').next().unwrap_or(base);
    format!("{version}{SUFFIX}")
}

/// What it checks.
#[must_use]
pub fn checks() -> Checks {
    Checks::of(&Config::parse(FRAGMENT))
}

/// Unpacks the sources into `into`.
///
/// # Errors
///
/// When the package cannot be unpacked, or lacks what is expected in it.
pub fn unpack(
    into: &Path,
    release: &Release,
    packages: &[Package],
    store: &Store,
    stop: &Stop,
) -> Result<()> {
    let [src, _, scratch] = make_dirs(into)?;
    let source = package::named(packages, &release.source())?;
    source.unpack_source((store.dir(), &scratch), &src, &SOURCES, stop)?;
    fs::remove_dir_all(&scratch).with_context(|| format!("failed to remove {}", scratch.display()))
}

/// Configures and compiles the kernel in the unpacked tree at `tree`, and removes what no module is built from.
///
/// # Errors
///
/// When an option is not to be had, or something does not compile: the message names it.
pub fn compile(tree: &Path, sysroot: &Sysroot, progress: &Progress, stop: &Stop) -> Result<()> {
    let path = tree.join("fragment.config");
    fs::write(&path, FRAGMENT).with_context(|| format!("failed to write {}", path.display()))?;
    let build = tree.join("build");
    configure(tree, sysroot, progress, stop)?;
    require_all(&read_config(&build)?)?;
    make_image(tree, sysroot, progress, stop)?;
    let moves = [
        (build.join("vmlinux"), tree.join("vmlinux")),
        // There are no other modules whose symbols would have to be added.
        (build.join("vmlinux.symvers"), build.join("Module.symvers")),
    ];
    for (from, to) in moves {
        fs::rename(&from, &to)
            .with_context(|| format!("failed to move {} to {}", from.display(), to.display()))?;
    }
    keep_only(&tree.join("src"), &KEPT_SOURCES)?;
    keep_only(&build, &KEPT_PRODUCTS)?;
    remove_objects(&build)
}

/// `make` in the source directory, as for any build outside of it.
fn make(tree: &Path, sysroot: &Sysroot, purpose: &str) -> HostCommand {
    let command = sysroot.command(purpose, &[(tree, Path::new(MOUNT))]);
    let src = Path::new(MOUNT).join("src");
    Compiler::Llvm
        .make(command, &src)
        .arg(format!("O={MOUNT}/build"))
}

fn configure(tree: &Path, sysroot: &Sysroot, progress: &Progress, stop: &Stop) -> Result<()> {
    let stage = progress.stage("configure the debug kernel");
    make(tree, sysroot, "configure the debug kernel")
        .args([
            &format!("KCONFIG_ALLCONFIG={MOUNT}/fragment.config"),
            "allnoconfig",
        ])
        .run(stop, |_, _| ())?;
    stage.done();
    Ok(())
}

/// Finds that every option is as it was asked for.
fn require_all(made: &Config) -> Result<()> {
    let missing = Config::parse(FRAGMENT).missing_in(made);
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<_> = missing.iter().map(|it| format!("  {it}")).collect();
    bail!(
        "Kconfig did not give the debug kernel every option of qemu/debug-kernel.config\n{}\nnext step: see in the \
         kernel's Kconfig files what they depend on",
        list.join("\n")
    )
}

fn make_image(tree: &Path, sysroot: &Sysroot, progress: &Progress, stop: &Stop) -> Result<()> {
    let stage = progress.stage("compile the debug kernel");
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    make(tree, sysroot, "compile the debug kernel")
        .args([&format!("-j{jobs}"), "vmlinux", "modules_prepare"])
        .timeout(TIMEOUT)
        .run(stop, stage.kbuild_steps(STEPS))?;
    stage.done();
    Ok(())
}

/// Removes everything from `dir` but the entries with these names.
fn keep_only(dir: &Path, names: &[&str]) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()))? {
        let entry = entry.with_context(|| format!("failed to read {}", dir.display()))?;
        let path = entry.path();
        if names.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let remove = if is_dir {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        remove.with_context(|| format!("failed to remove {}", path.display()))?;
    }
    Ok(())
}

/// Removes what was linked and is not linked again, from `dir` and all directories below it.
fn remove_objects(dir: &Path) -> Result<()> {
    let context = || format!("failed to remove the objects below {}", dir.display());
    for entry in fs::read_dir(dir).with_context(context)? {
        let entry = entry.with_context(context)?;
        let (path, kind) = (entry.path(), entry.file_type().with_context(context)?);
        if kind.is_dir() {
            remove_objects(&path)?;
        } else if path
            .extension()
            .is_some_and(|it| it == "o" || it == "a" || it == "rlib")
        {
            fs::remove_file(&path).with_context(context)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the debug kernel is for; every one of them has to be asked for.
    const CHECKS: [&str; 22] = [
        "KASAN",
        "KASAN_VMALLOC",
        "PROVE_LOCKING",
        "DEBUG_ATOMIC_SLEEP",
        "DEBUG_VM",
        "DEBUG_VM_PGFLAGS",
        "DEBUG_LIST",
        "PAGE_OWNER",
        "PAGE_POISONING",
        "PAGE_TABLE_CHECK",
        "PAGE_TABLE_CHECK_ENFORCED",
        "DEBUG_KMEMLEAK",
        "UBSAN",
        "UBSAN_BOUNDS",
        "FAULT_INJECTION",
        "FAILSLAB",
        "FAIL_PAGE_ALLOC",
        "FAULT_INJECTION_USERCOPY",
        "FAULT_INJECTION_DEBUG_FS",
        "GUP_TEST",
        "RUST",
        "RUST_OVERFLOW_CHECKS",
    ];

    #[test]
    fn every_check_is_asked_for() {
        let asked = Config::parse(FRAGMENT);
        for check in CHECKS {
            let option = format!("CONFIG_{check}");
            assert_eq!(asked.get(&option), Some("y"), "{option}");
        }
        assert_eq!(asked.get("CONFIG_LOCALVERSION"), Some(SUFFIX));
        let checks = checks();
        assert!(checks.accesses && checks.injects_faults && checks.finds_leaks);
    }

    #[test]
    fn an_option_that_kconfig_dropped_is_named() {
        require_all(&Config::parse(FRAGMENT)).unwrap();
        let dropped = FRAGMENT.replace("CONFIG_KASAN=y\n", "");
        let error = require_all(&Config::parse(&dropped)).unwrap_err();
        assert!(
            error.to_string().contains("CONFIG_KASAN: y wanted"),
            "{error}"
        );
    }

    #[test]
    fn its_name_is_not_debians() {
        let release = Release {
            series: "7.3".into(),
            name: "7.3.4+deb13-cloud-amd64".into(),
            version: "7.3.4-1".into(),
            image: String::new(),
        };
        assert_eq!(uname(&release), "7.3.4-debug");
    }

    #[test]
    fn what_is_not_kept_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("rust/host")).unwrap();
        fs::create_dir(dir.path().join("mm")).unwrap();
        for file in [
            "rust/core.o",
            "rust/host/libsyn.rlib",
            "rust/libcore.rmeta",
            "Makefile",
            "x",
        ] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        keep_only(dir.path(), &["rust", "Makefile"]).unwrap();
        remove_objects(dir.path()).unwrap();
        let left = |dir: &Path| {
            let mut names: Vec<_> = fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        assert_eq!(left(dir.path()), ["Makefile", "rust"]);
        assert_eq!(left(&dir.path().join("rust")), ["host", "libcore.rmeta"]);
    }
}
