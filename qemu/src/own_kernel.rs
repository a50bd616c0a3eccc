//! A kernel that the user has built: checked, and described as the other stages want it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cached_kernel::KernelTree;
use crate::checks::Checks;
use crate::compiler::Compiler;
use crate::failure::Failure;
use crate::kernel::{read_config, require_rust};
use crate::stop::Stop;
use crate::sysroot::Sysroot;

/// What the kernel in the build directory `dir` was built by, and its modules have to be, too.
///
/// # Errors
///
/// A usage error when there is no `.config` in `dir`.
pub fn compiler(dir: &Path) -> Result<Compiler> {
    need(
        dir,
        ".config",
        "--kernel takes the directory that `make O=` was given",
    )?;
    read_config(dir).map(|config| Compiler::of(&config))
}

/// The path of `file` in `dir`.
fn need(dir: &Path, file: &str, remedy: &str) -> Result<PathBuf> {
    let path = dir.join(file);
    if path.exists() {
        return Ok(path);
    }
    Err(Failure::Usage(format!(
        "{} is no built kernel: no {file} in it; {remedy}",
        dir.display()
    ))
    .into())
}

/// Reads the build directory `dir` of a kernel with `CONFIG_RUST=y`.
///
/// # Errors
///
/// A usage error that names what is missing in `dir`, or what it was built with that the sysroot is not.
pub fn describe(dir: &Path, sysroot: &Sysroot, stop: &Stop) -> Result<KernelTree> {
    let dir = fs::canonicalize(dir).with_context(|| format!("failed to find {}", dir.display()))?;
    let need = |file: &str, remedy: &str| need(&dir, file, remedy);
    let compiler = compiler(&dir)?;
    let release = need(
        "include/config/kernel.release",
        "run `make prepare` there first",
    )?;
    let release = fs::read_to_string(&release)
        .with_context(|| format!("failed to read {}", release.display()))?
        .trim()
        .to_owned();
    require_rust(&dir, &release)?;
    let checks = Checks::of(&read_config(&dir)?);
    need("rust/libkernel.rmeta", "run `make prepare` there first")?;
    let image = need("vmlinux", "run `make vmlinux` there first")?;
    if !dir.join("Module.symvers").exists() {
        need("vmlinux.symvers", "run `make modules` there first")?;
    }
    require_same_rustc(&dir, sysroot, stop)?;
    // In a build directory of its own, `source` leads to the sources; otherwise they are in `dir` itself.
    let src = fs::canonicalize(dir.join("source")).unwrap_or_else(|_| dir.clone());
    let mounts: Vec<(PathBuf, PathBuf)> = [&dir, &src]
        .map(|path| (path.clone(), path.clone()))
        .to_vec();
    let key = key(&dir)?;
    Ok(KernelTree {
        release,
        key,
        // The key knows of the files that a module is built from, not of all that Kbuild's settings come from.
        is_sealed: false,
        image,
        mounts,
        src,
        build: dir,
        compiler,
        checks,
    })
}

/// What tells one build of the kernel in `dir` from the next.
fn key(dir: &Path) -> Result<String> {
    let mut key = dir.display().to_string();
    for file in [
        ".config",
        "vmlinux",
        "Module.symvers",
        "vmlinux.symvers",
        "rust/libkernel.rmeta",
    ] {
        let path = dir.join(file);
        // Not every kernel has both lists of symbols.
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        let modified = metadata
            .modified()
            .with_context(|| format!("failed to read {}", path.display()))?;
        let _ = write!(key, " {file} {} {modified:?}", metadata.len());
    }
    Ok(key)
}

/// Crate metadata can be read by the compiler that wrote it, and by no other.
fn require_same_rustc(dir: &Path, sysroot: &Sysroot, stop: &Stop) -> Result<()> {
    let config = read_config(dir)?;
    let theirs = config
        .get("CONFIG_RUSTC_VERSION_TEXT")
        .unwrap_or("an unknown rustc");
    let ours = sysroot
        .command("ask rustc for its version", &[])
        .args(["rustc", "--version"])
        .stdout(stop)?;
    if theirs == ours.trim() {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{} was built by {theirs}, and the lab builds modules by {}; build that kernel with the latter: \
         Debian trixie's rustc and bindgen, with its gcc-14 or clang-19",
        dir.display(),
        ours.trim()
    ))
    .into())
}
