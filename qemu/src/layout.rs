//! Every path that the lab reads or writes on the host.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::failure::Failure;

/// The two roots and what lies below them.
///
/// The cache is shared by all clones of one user; everything else of a clone is under its `target/`.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The project: where `Kbuild`, `driver/` and `userspace/` are.
    pub project: PathBuf,
    /// `$MMAPDEMO_CACHE`, or `mmapdemo` in `$XDG_CACHE_HOME` or `~/.cache`.
    pub cache: PathBuf,
}

impl Layout {
    /// Finds the project above the working directory, or else where the lab was built.
    ///
    /// # Errors
    ///
    /// When neither place has a `Kbuild`, or no cache directory can be named or written.
    pub fn find() -> Result<Self> {
        let here = env::current_dir().context("failed to read the working directory")?;
        let built = Path::new(env!("CARGO_MANIFEST_DIR"));
        let project = here
            .ancestors()
            .chain(built.ancestors())
            .find(|dir| dir.join("Kbuild").is_file() && dir.join("qemu/Cargo.toml").is_file())
            .map(Path::to_owned)
            .ok_or_else(|| {
                Failure::Usage(format!(
                    "no mmapdemo project in or above {}; change into a clone of it",
                    here.display()
                ))
            })?;
        Ok(Self {
            project,
            cache: cache_dir()?,
        })
    }

    /// Makes the cache directory.
    ///
    /// # Errors
    ///
    /// A set-up error that names the directory, when it cannot be made or written.
    pub fn make_cache(&self) -> Result<()> {
        let unwritable = |error: std::io::Error| Failure::SetUpMissing {
            what: format!(
                "the cache directory {} cannot be written: {error}",
                self.cache.display()
            ),
            remedy: "MMAPDEMO_CACHE=DIR scripts/demo    (DIR on a disk with 2 GB free)".into(),
        };
        fs::create_dir_all(&self.cache).map_err(unwritable)?;
        tempfile::tempfile_in(&self.cache).map_err(unwritable)?;
        Ok(())
    }

    /// The state of the private apt: lists and configuration.
    #[must_use]
    pub fn apt(&self) -> PathBuf {
        self.cache.join("apt")
    }

    /// Downloaded packages.
    #[must_use]
    pub fn packages(&self) -> PathBuf {
        self.cache.join("packages")
    }

    /// The lock file of whoever asks the archive, and downloads.
    #[must_use]
    pub fn archive_lock(&self) -> PathBuf {
        self.cache.join("apt.lock")
    }

    /// What of the archive was chosen for a kernel series, so that later runs need no network.
    #[must_use]
    pub fn resolution(&self, series: &str) -> PathBuf {
        self.cache.join(format!("resolved-{series}.json"))
    }

    /// The answer to whether KVM is of use.
    #[must_use]
    pub fn accel_answer(&self) -> PathBuf {
        self.cache.join("accel.json")
    }

    /// The build products of this clone for one kernel release.
    #[must_use]
    pub fn build(&self, release: &str) -> PathBuf {
        self.project.join("target/lab").join(release)
    }
}

fn cache_dir() -> Result<PathBuf> {
    let named = |variable: &str| {
        env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let dir = named("MMAPDEMO_CACHE")
        .or_else(|| named("XDG_CACHE_HOME").map(|dir| dir.join("mmapdemo")))
        .or_else(|| named("HOME").map(|dir| dir.join(".cache/mmapdemo")))
        .ok_or_else(|| Failure::SetUpMissing {
            what: "no cache directory: neither MMAPDEMO_CACHE, XDG_CACHE_HOME nor HOME is set"
                .into(),
            remedy: "MMAPDEMO_CACHE=DIR scripts/demo".into(),
        })?;
    let dir = std::path::absolute(&dir)
        .with_context(|| format!("failed to name the cache directory {}", dir.display()))?;
    // The dynamic linker splits its library path at ':' and ';', and apt's configuration quotes by '"'.
    match dir.to_str() {
        Some(text) if !text.contains([':', ';', '"', '\n']) => Ok(dir),
        _ => Err(Failure::SetUpMissing {
            what: format!(
                "the cache directory {} has a character in it that tools trip over",
                dir.display()
            ),
            remedy: "MMAPDEMO_CACHE=DIR scripts/demo    (DIR in UTF-8, without : ; or \")".into(),
        }
        .into()),
    }
}
