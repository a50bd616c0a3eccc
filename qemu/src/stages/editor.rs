//! `lab editor`: what rust-analyzer has to know to complete and check in `driver/`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use crate::cli::KernelArgs;
use crate::debugger::shell_word;
use crate::editor::{self, Places};
use crate::exit_code::ExitCode;
use crate::module::{SAVED_COMMAND, SOURCE_MOUNT};
use crate::sysroot::Sysroot;
use crate::workshop::Workshop;

/// What rust-analyzer reads, in a driver's tree. Beside Cargo.toml it would keep it from reading that.
pub(super) const PROJECT_FILE: &str = "driver/rust-project.json";

/// The programs that it looks for in a sysroot: there, and in the lab's sysroot.
const PROGRAMS: [(&str, &str); 2] = [
    ("bin/rustc", "usr/bin/rustc"),
    (
        "libexec/rust-analyzer-proc-macro-srv",
        "usr/libexec/rust-analyzer-proc-macro-srv",
    ),
];

/// `lab editor`.
///
/// # Errors
///
/// When the driver does not compile, what Kbuild has saved is not as it is expected, or the file cannot be written.
pub fn editor(workshop: &Workshop<'_>, args: &KernelArgs) -> Result<ExitCode> {
    let target = workshop.prepare(args, false)?;
    let module = workshop.build_module(&target, args.driver.as_deref())?;
    let project = args
        .driver
        .as_ref()
        .unwrap_or(&workshop.layout.project)
        .canonicalize()
        .context("failed to name the directory of the driver")?;
    let kernel = &target.kernel;
    let stage = workshop.progress.stage("describe the driver");
    let mut dirs = vec![
        (SOURCE_MOUNT.into(), project.clone()),
        ("/usr".into(), target.sysroot.path("usr")),
    ];
    let mounts = kernel.mounts.iter();
    dirs.extend(mounts.map(|(host, inside)| (inside.clone(), host.clone())));
    let places = Places {
        dirs,
        build: kernel.build.clone(),
    };
    let build = places.on_host(&kernel.build);
    let driver = read(&module.path.with_file_name(SAVED_COMMAND))?;
    let config = read(&build.join("include/generated/rustc_cfg"))?;
    let saved = saved_commands(&build.join("rust"))?;
    let sysroot = workshop.layout.build(&kernel.release).join("editor");
    link_programs(&target.sysroot, &sysroot)?;
    let described = editor::project(sysroot, &saved, &driver, &config, &places)?;
    let path = project.join(PROJECT_FILE);
    write(&path, &serde_json::to_vec_pretty(&described)?)?;
    stage.done();
    println!("{}", path.display());
    Ok(ExitCode::AsExpected)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

/// What Kbuild has saved in this directory, in the order of the files' names.
fn saved_commands(dir: &Path) -> Result<Vec<String>> {
    let context = || format!("failed to read the directory {}", dir.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.extension().is_some_and(|extension| extension == "cmd") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

/// Makes a directory with programs of the sysroot's as scripts, which start them by the sysroot's own dynamic
/// linker: the host's libraries are others.
fn link_programs(sysroot: &Sysroot, dir: &Path) -> Result<()> {
    for (name, program) in PROGRAMS {
        let path = dir.join(name);
        let mut script = b"#!/bin/sh\nexec".to_vec();
        for word in sysroot.host_program(program) {
            script.push(b' ');
            script.extend(shell_word(&word));
        }
        script.extend(b" \"$@\"\n");
        fs::create_dir_all(path.with_file_name(""))
            .with_context(|| format!("failed to make the directory of {}", path.display()))?;
        write(&path, &script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("failed to make {} executable", path.display()))?;
    }
    Ok(())
}

/// Whole or not at all: an editor may be reading it.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = NamedTempFile::new_in(path.with_file_name(""))?;
        file.write_all(bytes)?;
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(0o644))?;
        file.persist(path)?;
        Ok::<_, std::io::Error>(())
    };
    write().with_context(|| format!("failed to write {}", path.display()))
}
