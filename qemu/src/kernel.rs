//! The kernel tree: everything that building a module for a stock kernel takes, and its image.
//!
//! Debian's headers package brings the configuration, the generated C headers and the symbol versions,
//! and its kbuild package the compiled host programs. Neither brings the metadata of the `rust/` crates,
//! without which no Rust module can be built. So only these are compiled, from the sources of the same
//! version, by the compilers that built the kernel: no `make prepare`, and no kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cached_kernel::MOUNT;
use crate::compiler::Compiler;
use crate::config::Config;
use crate::failure::Failure;
use crate::layout::Layout;
use crate::package::{self, Package};
use crate::parallel;
use crate::progress::Progress;
use crate::release::Release;
use crate::stop::Stop;
use crate::store::Store;
use crate::sysroot::Sysroot;
use crate::vmlinux;

/// What of the sources a module needs; the rest of the 1.6 GB is not unpacked. Kconfig needs all its files.
const SOURCES: [&str; 14] = [
    "Makefile",
    "Kbuild",
    "*Kconfig*",
    ".clippy.toml",
    ".rustfmt.toml",
    "rust/*",
    "scripts/*",
    "include/*",
    "arch/x86/Makefile*",
    "arch/x86/include/*",
    "arch/x86/entry/syscalls/*",
    "arch/x86/tools/*",
    // Included by rust/bindings/bindings_helper.h.
    "drivers/base/base.h",
    "drivers/android/binder/*.h",
];

/// How many lines Kbuild prints while it builds the crates, for the progress bar.
const RUST_STEPS: u64 = 24;

/// Changes whenever the lines of this file that shape the tree do.
pub const RECIPE: &str = "kernel 2";

/// Checks that the kernel can load Rust modules, out of its small headers package alone.
///
/// # Errors
///
/// A usage error when it cannot.
pub fn require_rust_in_package(
    release: &Release,
    packages: &[Package],
    (layout, store): (&Layout, &Store),
    stop: &Stop,
) -> Result<()> {
    let scratch =
        tempfile::tempdir_in(&layout.cache).context("failed to make a directory in the cache")?;
    let config = format!("./usr/src/{}/.config", release.headers());
    let headers = package::named(packages, &release.headers())?;
    headers.unpack(store.dir(), scratch.path(), &[&config], &[], stop)?;
    require_rust(
        &scratch.path().join("usr/src").join(release.headers()),
        &release.name,
    )
}

/// Makes the directories of a kernel in the cache: for the sources or headers, for what is built of them, and one that is
/// gone when all is in its place.
///
/// # Errors
///
/// When one cannot be made.
pub fn make_dirs(into: &Path) -> Result<[PathBuf; 3]> {
    let dirs = ["src", "build", "scratch"].map(|name| into.join(name));
    for dir in &dirs {
        fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    }
    Ok(dirs)
}

/// Unpacks the kernel's packages into `into`: sources, build directory and image.
///
/// # Errors
///
/// When a package cannot be unpacked or lacks what is expected in it.
pub fn unpack(
    into: &Path,
    release: &Release,
    packages: &[Package],
    store: &Store,
    stop: &Stop,
) -> Result<()> {
    let from = store.dir();
    let [src, build, scratch] = make_dirs(into)?;
    let unpack = |name: &str| {
        package::named(packages, name)?.unpack(from, &scratch, &[], &["./usr/share"], stop)
    };
    unpack(&release.headers())?;
    unpack(&release.kbuild())?;
    assemble(&scratch, &build, release)?;
    require_rust(&build, &release.name)?;
    unpack(&release.image)?;
    extract_image(&scratch, &into.join("vmlinux"))?;
    let source = package::named(packages, &release.source())?;
    source.unpack_source((from, &scratch), &src, &SOURCES, stop)?;
    fs::remove_dir_all(&scratch).with_context(|| format!("failed to remove {}", scratch.display()))
}

/// Compiles the `rust/` crates in the unpacked tree at `tree`, and meanwhile checks that this
/// toolchain would have configured the kernel exactly as Debian did.
///
/// # Errors
///
/// When a crate does not compile, or an option would differ: the message names it.
pub fn compile(tree: &Path, sysroot: &Sysroot, progress: &Progress, stop: &Stop) -> Result<()> {
    write_recipe(tree)?;
    let crates = || compile_crates(tree, sysroot, progress, stop);
    let config = || check_config(tree, sysroot, progress, stop);
    parallel::all(&[&crates, &config], stop)
}

/// Makes the build directory out of what the headers and kbuild packages hold.
fn assemble(scratch: &Path, build: &Path, release: &Release) -> Result<()> {
    let headers = scratch.join("usr/src").join(release.headers());
    let kbuild = scratch.join("usr/lib").join(release.kbuild());
    for (from, name) in [
        (&headers, ".config"),
        (&headers, "Module.symvers"),
        // The types for the module's BTF.
        (&headers, "vmlinux"),
        (&headers, "arch"),
        (&headers, "include"),
        (&kbuild, "scripts"),
        (&kbuild, "tools"),
    ] {
        let (from, to) = (from.join(name), build.join(name));
        fs::rename(&from, &to)
            .with_context(|| format!("failed to move {} to {}", from.display(), to.display()))?;
    }
    // Kbuild would run syncconfig without this file, or were it older than .config.
    for file in [
        "config/auto.conf.cmd",
        "config/auto.conf",
        "generated/autoconf.h",
        "generated/rustc_cfg",
    ] {
        touch(&build.join("include").join(file))?;
    }
    Ok(())
}

fn touch(path: &Path) -> Result<()> {
    let touch = || {
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)?
            .set_modified(std::time::SystemTime::now())
    };
    touch().with_context(|| format!("failed to touch {}", path.display()))
}

/// The `.config` of the build directory `build`.
///
/// # Errors
///
/// When it cannot be read.
pub fn read_config(build: &Path) -> Result<Config> {
    let path = build.join(".config");
    let text =
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    Ok(Config::parse(&text))
}

/// # Errors
///
/// A usage error when the kernel was built without Rust.
pub fn require_rust(build: &Path, release: &str) -> Result<()> {
    if read_config(build)?.get("CONFIG_RUST") == Some("y") {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "kernel {release} was built without CONFIG_RUST=y: it cannot load a Rust module; choose another with --kernel"
    ))
    .into())
}

fn extract_image(scratch: &Path, to: &Path) -> Result<()> {
    let find = |dir: &Path| -> Option<PathBuf> {
        let mut entries = fs::read_dir(dir)
            .ok()?
            .filter_map(Result::ok)
            .map(|entry| entry.path());
        entries.find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
        })
    };
    let modules = scratch.join("usr/lib/modules");
    let releases = fs::read_dir(&modules)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    let found = releases
        .chain([scratch.join("boot")])
        .find_map(|dir| find(&dir));
    let Some(bzimage) = found else {
        bail!(
            "the image package holds no vmlinuz below {} or boot",
            modules.display()
        );
    };
    vmlinux::extract(&bzimage, to)
}

/// Writes the two files that steer the compilation of the crates.
fn write_recipe(tree: &Path) -> Result<()> {
    let write = |name: &str, text: &str| {
        let path = tree.join(name);
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    };
    write("rust.mk", RUST_MK)?;
    write("rustc", RUSTC)?;
    let rustc = tree.join("rustc");
    fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("failed to make {} executable", rustc.display()))
}

/// The part of the kernel's `make prepare` that Debian's packages do not hold the products of.
const RUST_MK: &str = "\
include /kernel/src/Makefile
PHONY += crates
crates:
\t$(Q)$(MAKE) $(build)=scripts scripts/target.json
\t$(Q)$(MAKE) $(build)=rust rust/kernel.o
";

/// Procedural macros run a few times and take longer to optimise than they save; the kernel's Makefile
/// leaves no other place to say so.
const RUSTC: &str = "\
#!/bin/sh
case \" $* \" in
*' --emit=link='*) exec rustc \"$@\" -Copt-level=0 ;;
*) exec rustc \"$@\" ;;
esac
";

fn compile_crates(tree: &Path, sysroot: &Sysroot, progress: &Progress, stop: &Stop) -> Result<()> {
    let stage = progress.stage("compile the kernel's rust/ crates");
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let command = sysroot.command(
        "compile the kernel's rust/ crates",
        &[(tree, Path::new(MOUNT))],
    );
    Compiler::Gcc
        .make(command, Path::new("/kernel/build"))
        // The two switches that the kernel's Makefile would otherwise call itself again for.
        .args(["-rR", "--no-print-directory"])
        .args([
            "-f",
            "/kernel/rust.mk",
            &format!("-j{jobs}"),
            "RUSTC=/kernel/rustc",
            "crates",
        ])
        .run(stop, stage.kbuild_steps(RUST_STEPS))?;
    stage.done();
    remove_objects(&tree.join("build/rust"))
}

/// A module needs the crates' metadata and procedural macros, neither their object code nor what the
/// procedural macros were linked from.
fn remove_objects(crates: &Path) -> Result<()> {
    let context = |path: &Path| format!("failed to remove the objects below {}", path.display());
    // Linux 7.3 puts the libraries of the procedural macros there, 7.2 beside the rest.
    for dir in [crates.to_owned(), crates.join("host")] {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries {
            let path = entry.with_context(|| context(&dir))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "o" || extension == "rlib")
            {
                fs::remove_file(&path).with_context(|| context(&path))?;
            }
        }
    }
    Ok(())
}

/// Runs olddefconfig on a copy of Debian's `.config` and compares. Without pahole or rust-src, to name two
/// traps, it drops options that change the layout of structures, and nothing else would notice.
fn check_config(tree: &Path, sysroot: &Sysroot, progress: &Progress, stop: &Stop) -> Result<()> {
    let stage = progress.stage("compare the .config with Debian's");
    let script = "mkdir /tmp/config && cp /kernel/build/.config /tmp/config/ && \
                  make -s -C /kernel/src O=/tmp/config \"$@\" olddefconfig >&2 && cat /tmp/config/.config";
    let text = sysroot
        .command("run olddefconfig", &[(tree, Path::new(MOUNT))])
        .args(["sh", "-c", script, "sh"])
        .args(Compiler::Gcc.variables())
        .stdout(stop)?;
    let differences = read_config(&tree.join("build"))?.differences(&Config::parse(&text));
    if !differences.is_empty() {
        let list: Vec<_> = differences
            .iter()
            .map(|difference| format!("  {difference}"))
            .collect();
        bail!(
            "this toolchain does not match the kernel: a module built by it could disagree about the layout \
             of structures\n{}\nnext step: cargo lab prepare --update",
            list.join("\n")
        );
    }
    stage.done();
    Ok(())
}
