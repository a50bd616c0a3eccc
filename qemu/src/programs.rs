//! The programs that run in the guest: built by the host's cargo, static.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;

use crate::checks::Checks;
use crate::command::{HostCommand, Stream};
use crate::failure::Failure;
use crate::host;
use crate::initramfs::GuestFile;
use crate::job;
use crate::layout::Layout;
use crate::stop::Stop;

/// The feature of `mmapdemo` that its tests for the guest require.
const VM_FEATURE: &str = "vm";

/// The modules of those tests that take a kernel which was built for them: in which calls can be made to fail, and which
/// has tests of pinning.
const OF_SANITIZERS: [&str; 2] = ["injected::", "gup::"];

/// The experiments' name for cargo.
const MMAPDEMO: &str = "mmapdemo";

/// That of the processes that they are about.
const ACTOR: &str = "mmapdemo-actor";

/// How they are built: from all packages, since what is selected decides which features of dependencies are built.
const BUILD: [&str; 11] = [
    "build",
    "--package",
    "mmapdemo",
    "--package",
    "lab",
    "--package",
    "init",
    "--bin",
    MMAPDEMO,
    "--bin",
    ACTOR,
];

/// The guest's own programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// PID 1.
    pub init: PathBuf,
    /// The experiments.
    pub mmapdemo: PathBuf,
    /// The processes that they are about.
    pub actor: PathBuf,
}

/// A test program for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestProgram {
    /// The name of its source file, such as `driver`.
    pub name: String,
    /// The program.
    pub path: PathBuf,
    /// The names of its tests: what has to be reported when it has run.
    pub tests: Vec<String>,
}

/// The part of cargo's `compiler-artifact` messages that matters (`cargo help build`, `--message-format`).
#[derive(Debug, Deserialize)]
struct Artifact {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    #[serde(default, rename = "required-features")]
    required_features: Vec<String>,
}

/// The part of `cargo metadata` that matters.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
}

#[derive(Debug, Deserialize)]
struct MetadataPackage {
    targets: Vec<Target>,
}

impl Programs {
    /// Builds `init` and the experiments.
    ///
    /// # Errors
    ///
    /// When they do not compile, or turn out not to be static.
    pub fn build(layout: &Layout, stop: &Stop) -> Result<Self> {
        let args = [&BUILD[..], &["--bin", "init"]].concat();
        let artifacts = cargo(layout, "build the guest's programs", &args, stop)?;
        Ok(Self {
            init: program(&artifacts, "init")?,
            mmapdemo: program(&artifacts, MMAPDEMO)?,
            actor: program(&artifacts, ACTOR)?,
        })
    }

    /// Builds the experiments again, and keeps `init`: that goes with the lab that runs.
    ///
    /// # Errors
    ///
    /// As [`Self::build`].
    pub fn build_experiments(&mut self, layout: &Layout, stop: &Stop) -> Result<()> {
        let artifacts = cargo(layout, "build the experiments", &BUILD, stop)?;
        self.mmapdemo = program(&artifacts, MMAPDEMO)?;
        self.actor = program(&artifacts, ACTOR)?;
        Ok(())
    }

    /// Where the guest has the experiments.
    #[must_use]
    pub fn experiments(&self) -> [GuestFile; 2] {
        [
            GuestFile::copy(&self.mmapdemo, "/bin/mmapdemo", 0o755),
            GuestFile::copy(&self.actor, job::ACTOR, 0o755),
        ]
    }
}

impl TestProgram {
    /// Builds the tests that need a guest, and asks each program which ones it holds that can be run on a kernel with
    /// these `checks`.
    ///
    /// # Errors
    ///
    /// When they do not compile, are not static, or one holds no test.
    pub fn build_all(layout: &Layout, checks: Checks, stop: &Stop) -> Result<Vec<Self>> {
        let names = vm_tests(layout, stop)?;
        let mut args = vec![
            "test",
            "--no-run",
            "--package",
            "mmapdemo",
            "--features",
            VM_FEATURE,
        ];
        for name in &names {
            args.extend(["--test", name]);
        }
        let artifacts = cargo(layout, "build the guest's tests", &args, stop)?;
        let is_test = |artifact: &&Artifact| artifact.target.kind.iter().any(|kind| kind == "test");
        let mut programs = Vec::new();
        for artifact in artifacts.iter().filter(is_test) {
            let Some(path) = artifact.executable.clone() else {
                continue;
            };
            require_static(&path)?;
            let mut tests = list_tests(&path, stop)?;
            ensure!(!tests.is_empty(), "{} lists no test", path.display());
            if !checks.injects_faults {
                tests.retain(|test| !OF_SANITIZERS.iter().any(|module| test.starts_with(module)));
            }
            programs.push(Self {
                name: artifact.target.name.clone(),
                path,
                tests,
            });
        }
        if programs.is_empty() || programs.len() != names.len() {
            bail!(
                "cargo test built {} test programs of {}",
                programs.len(),
                names.join(", ")
            );
        }
        Ok(programs)
    }
}

/// The static program of this name that cargo built.
fn program(artifacts: &[Artifact], name: &str) -> Result<PathBuf> {
    let mut named = artifacts
        .iter()
        .filter(|artifact| artifact.target.name == name);
    let path = named.find_map(|artifact| artifact.executable.clone());
    let path = path.ok_or_else(|| anyhow!("cargo build named no program {name}"))?;
    require_static(&path)?;
    Ok(path)
}

/// The test targets that only exist with [`VM_FEATURE`]: all others run on the host.
fn vm_tests(layout: &Layout, stop: &Stop) -> Result<Vec<String>> {
    let text = cargo_command(layout, "list the test targets")
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .stdout(stop)?;
    let metadata: Metadata =
        serde_json::from_str(&text).context("failed to read cargo metadata")?;
    let targets = metadata
        .packages
        .into_iter()
        .flat_map(|package| package.targets);
    Ok(targets
        .filter(|target| target.kind == ["test"])
        .filter(|target| {
            target
                .required_features
                .iter()
                .any(|feature| feature == VM_FEATURE)
        })
        .map(|target| target.name)
        .collect())
}

/// Asks a test program for the names of its tests; listing them touches nothing.
fn list_tests(path: &Path, stop: &Stop) -> Result<Vec<String>> {
    let list = HostCommand::new(format!("list the tests of {}", path.display()), path)
        .args(["--list", "--format", "terse"])
        .stdout(stop)?;
    let names: Vec<String> = list
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect();
    Ok(names)
}

/// Cargo in the project, with the project's own flags.
fn cargo_command(layout: &Layout, purpose: &str) -> HostCommand {
    // The one that started the lab, if it was cargo.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    HostCommand::new(purpose, cargo)
        // These would override the flags that make the programs static.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .current_dir(&layout.project)
}

fn cargo(layout: &Layout, purpose: &str, args: &[&str], stop: &Stop) -> Result<Vec<Artifact>> {
    let (mut artifacts, mut diagnostics) = (Vec::new(), String::new());
    let finished = cargo_command(layout, purpose)
        .args(args)
        .args(["--locked", "--message-format", "json-render-diagnostics"])
        .finish(stop, |stream, line| match stream {
            Stream::Out => artifacts.extend(serde_json::from_str::<Artifact>(line).ok()),
            Stream::Err => {
                diagnostics.push_str(line);
                diagnostics.push('\n');
            }
        })?;
    if finished.status.success() {
        return Ok(artifacts);
    }
    host::require_room(&diagnostics, &layout.project)?;
    let what = format!("failed to {purpose}: cargo has said why above");
    Err(Failure::DoesNotBuild { diagnostics, what }.into())
}

/// The guest has no dynamic linker.
fn require_static(path: &Path) -> Result<()> {
    let elf = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    if has_interpreter(&elf) == Some(false) {
        return Ok(());
    }
    bail!(
        "{} is not a static x86-64 program; the flags in .cargo/config.toml were overridden: unset \
         CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
        path.display()
    )
}

/// Whether an ELF64 file names a dynamic linker (`PT_INTERP`, elf(5)); `None` if it is no such file.
#[must_use]
pub fn has_interpreter(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, len: usize| {
        let bytes = elf.get(at..at + len)?;
        bytes
            .iter()
            .rev()
            .try_fold(0_usize, |value, &byte| Some(value << 8 | usize::from(byte)))
    };
    elf.starts_with(b"\x7fELF\x02\x01").then_some(())?;
    let (table, entry, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        if number(table + index * entry, 4)? == PT_INTERP as usize {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_told_from_a_file_that_is_none() {
        let sh = fs::read("/bin/sh").unwrap();
        assert_eq!(has_interpreter(&sh), Some(true));
        assert_eq!(has_interpreter(b"#!/bin/sh\n"), None);
        assert_eq!(has_interpreter(b"\x7fELF\x02\x01"), None);
    }

    #[test]
    fn this_very_program_is_static() {
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(has_interpreter(&this), Some(false));
    }
}
