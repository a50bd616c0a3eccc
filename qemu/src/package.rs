//! Debian packages: what was resolved, whether a cached file is really it, and how it is unpacked.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::apt::Apt;
use crate::command::HostCommand;
use crate::parallel;
use crate::progress::{Progress, Stage};
use crate::stop::Stop;
use crate::store::Store;

/// One package of the archive, pinned by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name, such as `linux-source-7.3`.
    pub name: String,
    /// Its version, such as `7.3.4-1~bpo13+1`.
    pub version: String,
    /// The name of its file.
    pub file: String,
    /// The length of its file, in bytes.
    pub len: u64,
    /// The SHA-256 of its file, in lower-case hexadecimal digits; from the signed package lists.
    pub sha256: String,
}

impl Package {
    /// Whether the file in `dir` is this package: there, of the right length and content.
    ///
    /// # Errors
    ///
    /// When the file is there and cannot be read.
    pub fn is_in(&self, dir: &Path) -> Result<bool> {
        let path = dir.join(&self.file);
        let context = || format!("failed to read the cached package {}", path.display());
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file.with_context(context)?,
        };
        if file.metadata().with_context(context)?.len() != self.len {
            return Ok(false);
        }
        let mut hash = Sha256::new();
        io::copy(
            &mut io::BufReader::with_capacity(1 << 20, &mut file),
            &mut hash,
        )
        .with_context(context)?;
        Ok(hex(&hash.finalize()) == self.sha256)
    }

    /// Unpacks the package below `root`: all of it, or, where `only` names paths, just these; never what
    /// `exclude` names. Both are tar(1) patterns relative to the root, such as `./usr/share/doc`.
    ///
    /// # Errors
    ///
    /// When dpkg-deb or tar fails, such as for lack of space.
    pub fn unpack(
        &self,
        dir: &Path,
        root: &Path,
        only: &[&str],
        exclude: &[&str],
        stop: &Stop,
    ) -> Result<()> {
        let deb = dir.join(&self.file);
        // A pipe between the two, so that nothing is written twice.
        let script = "dpkg-deb --fsys-tarfile \"$1\" | { shift; exec tar -x \"$@\"; }";
        HostCommand::new(
            format!("unpack {} into {}", deb.display(), root.display()),
            "bash",
        )
        .args(["-o", "pipefail", "-c", script, "unpack"])
        .arg(&deb)
        .arg("-C")
        .arg(root)
        // Device nodes and foreign owners need root; nothing here needs them.
        .args([
            "--no-same-owner",
            "--delay-directory-restore",
            "--wildcards",
            "--no-wildcards-match-slash",
        ])
        .args(exclude.iter().map(|pattern| format!("--exclude={pattern}")))
        .args(only)
        .run(stop, |_, _| ())
        .map(drop)
    }

    /// Unpacks the kernel's sources, which their package in `from` holds as one `.tar.xz`, into `into`: those that
    /// a tar(1) pattern in `only` matches. The archive is first put into `scratch`.
    ///
    /// # Errors
    ///
    /// When tar or xz fails, or nothing matches one of the patterns.
    pub fn unpack_source(
        &self,
        (from, scratch): (&Path, &Path),
        into: &Path,
        only: &[&str],
        stop: &Stop,
    ) -> Result<()> {
        self.unpack(from, scratch, &[], &["./usr/share"], stop)?;
        let tarball = scratch.join(format!("usr/src/{}.tar.xz", self.name));
        let purpose = format!("unpack {} into {}", tarball.display(), into.display());
        let script = "xz --threads=0 --decompress --stdout \"$1\" | { shift; exec tar -x \"$@\"; }";
        HostCommand::new(purpose, "bash")
            .args(["-o", "pipefail", "-c", script, "unpack"])
            .arg(tarball)
            .arg("-C")
            .arg(into)
            .args(["--strip-components=1", "--no-same-owner", "--wildcards"])
            .args(only.iter().map(|path| format!("{}/{path}", self.name)))
            .run(stop, |_, _| ())
            .map(drop)
    }
}

/// Makes sure that all of `packages` are in the store, whole; downloads what is missing or damaged. `apt` is
/// called only if there is something to download.
///
/// # Errors
///
/// When the archive does not deliver one of them as listed.
pub fn fetch(
    apt: &dyn Fn() -> Result<Apt>,
    packages: &[Package],
    store: &Store,
    progress: &Progress,
    stop: &Stop,
) -> Result<()> {
    let dir = store.dir();
    fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    let missing = missing(packages, dir, progress, stop)?;
    if missing.is_empty() {
        return Ok(());
    }
    let stage = progress.stage("download the packages");
    apt()?.download(&missing, dir, &stage, stop)?;
    stage.done();
    // apt has hashed what it wrote; what a full disk did to it shows in the length.
    for package in missing {
        let path = dir.join(&package.file);
        if fs::metadata(&path).map(|metadata| metadata.len()).ok() != Some(package.len) {
            bail!(
                "apt-get did not deliver {} whole; try again",
                path.display()
            );
        }
    }
    Ok(())
}

/// Those of `packages` that are not in `dir`; a damaged file is said and removed.
fn missing<'a>(
    packages: &'a [Package],
    dir: &Path,
    progress: &Progress,
    stop: &Stop,
) -> Result<Vec<&'a Package>> {
    let all: Vec<&Package> = packages.iter().collect();
    let stage = progress.stage("check the cached packages");
    let missing = check(&all, dir, &stage, stop)?;
    for package in &missing {
        let path = dir.join(&package.file);
        if path.exists() {
            progress.note(&format!(
                "  {} is damaged; it is fetched again",
                path.display()
            ));
            fs::remove_file(&path)
                .with_context(|| format!("failed to remove {}", path.display()))?;
        }
    }
    Ok(missing)
}

/// Hashes `packages` on all processors and returns those that are absent or damaged.
fn check<'a>(
    packages: &[&'a Package],
    dir: &Path,
    stage: &Stage<'_>,
    stop: &Stop,
) -> Result<Vec<&'a Package>> {
    let total = packages.iter().map(|package| package.len).sum();
    let good = parallel::map(
        packages,
        |package| package.len,
        stop,
        |package, done| {
            stage.advance(done, total);
            package.is_in(dir)
        },
    )?;
    Ok(packages
        .iter()
        .zip(good)
        .filter(|(_, good)| !good)
        .map(|(package, _)| *package)
        .collect())
}

/// The package of this name among `packages`.
///
/// # Errors
///
/// When there is none: the archive's set is not consistent.
pub fn named<'a>(packages: &'a [Package], name: &str) -> Result<&'a Package> {
    packages
        .iter()
        .find(|package| package.name == name)
        .ok_or_else(|| anyhow!("the archive has no package {name}"))
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(content: &str) -> Package {
        Package {
            name: "a".into(),
            version: "1".into(),
            file: "a_1_all.deb".into(),
            len: content.len() as u64,
            sha256: hex(&Sha256::digest(content)),
        }
    }

    #[test]
    fn a_cached_package_is_recognised_by_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let package = package("content");
        assert!(!package.is_in(dir.path()).unwrap(), "absent");
        fs::write(dir.path().join(&package.file), "conten").unwrap();
        assert!(!package.is_in(dir.path()).unwrap(), "truncated");
        fs::write(dir.path().join(&package.file), "cOntent").unwrap();
        assert!(!package.is_in(dir.path()).unwrap(), "corrupted");
        fs::write(dir.path().join(&package.file), "content").unwrap();
        assert!(package.is_in(dir.path()).unwrap(), "whole");
    }
}
