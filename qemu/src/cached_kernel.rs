//! The kernels of the cache: a directory each, that is made in one of two ways.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cache::{self, Entry};
use crate::checks::Checks;
use crate::compiler::Compiler;
use crate::debug_kernel;
use crate::kernel;
use crate::layout::Layout;
use crate::package::{Package, hex};
use crate::progress::Progress;
use crate::release::Release;
use crate::stop::Stop;
use crate::store::Store;
use crate::sysroot::Sysroot;

/// Where a tree is mounted inside the sysroot. The paths are baked into what is compiled.
pub const MOUNT: &str = "/kernel";

/// What it takes to build a module for a kernel, and to boot that kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelTree {
    /// What `uname -r` says in the guest.
    pub release: String,
    /// Names what the tree is made of: a module built for another key does not fit.
    pub key: String,
    /// Whether nothing in it changes as long as the key is the same: so it is in the cache.
    pub is_sealed: bool,
    /// The image to boot, on the host: an uncompressed ELF file.
    pub image: PathBuf,
    /// Host directories, and where they appear in the sysroot.
    pub mounts: Vec<(PathBuf, PathBuf)>,
    /// The sources, in the sysroot.
    pub src: PathBuf,
    /// The build directory (`O=`), in the sysroot.
    pub build: PathBuf,
    /// What builds its modules.
    pub compiler: Compiler,
    /// What it checks while it runs.
    pub checks: Checks,
}

/// How a kernel of the cache is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// Debian's own image, and what building a module for it takes ([`crate::kernel`]).
    #[default]
    Stock,
    /// Compiled here, from Debian's sources, with checks ([`crate::debug_kernel`]).
    Debug,
}

impl Recipe {
    /// What it is compiled by.
    #[must_use]
    pub fn compiler(self) -> Compiler {
        match self {
            Self::Stock => Compiler::Gcc,
            Self::Debug => Compiler::Llvm,
        }
    }

    /// What the kernel checks while it runs.
    #[must_use]
    pub fn checks(self) -> Checks {
        match self {
            Self::Stock => Checks::default(),
            Self::Debug => debug_kernel::checks(),
        }
    }

    /// The names of the packages it takes, as `name=version`: all of one version.
    #[must_use]
    pub fn packages(self, release: &Release) -> Vec<String> {
        let names = match self {
            Self::Stock => vec![
                release.source(),
                release.headers(),
                release.kbuild(),
                release.image.clone(),
            ],
            Self::Debug => vec![release.source()],
        };
        let version = &release.version;
        names
            .into_iter()
            .map(|name| format!("{name}={version}"))
            .collect()
    }

    /// What the tree takes while it is made, packages included, in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Self::Stock => 700_000_000,
            Self::Debug => 2_000_000_000,
        }
    }

    /// What `uname -r` says of the kernel.
    fn uname(self, release: &Release) -> String {
        match self {
            Self::Stock => release.name.clone(),
            Self::Debug => debug_kernel::uname(release),
        }
    }
}

/// A kernel of the cache; its directory is sealed and shared by all clones of a user.
#[derive(Clone, Debug)]
pub struct CachedKernel {
    /// Its directory on the host: `src/`, `build/` and `vmlinux`.
    pub dir: PathBuf,
    /// How it is made.
    pub recipe: Recipe,
    uname: String,
}

impl CachedKernel {
    /// The tree for `release` made of `packages` by `sysroot`, whether or not it has been made.
    #[must_use]
    pub fn at(
        layout: &Layout,
        recipe: Recipe,
        release: &Release,
        packages: &[Package],
        sysroot: &Sysroot,
    ) -> Self {
        let mut hash = Sha256::new();
        match recipe {
            Recipe::Stock => hash.update(kernel::RECIPE),
            Recipe::Debug => {
                hash.update(debug_kernel::RECIPE);
                hash.update(debug_kernel::FRAGMENT);
            }
        }
        hash.update(&sysroot.key);
        for package in packages {
            hash.update(&package.sha256);
        }
        let key = hex(&hash.finalize()[..6]);
        let uname = recipe.uname(release);
        Self {
            dir: layout.cache.join(format!("linux-{uname}-{key}")),
            recipe,
            uname,
        }
    }

    /// The tree, once it is made.
    #[must_use]
    pub fn tree(&self) -> KernelTree {
        KernelTree {
            release: self.uname.clone(),
            key: self.dir.display().to_string(),
            is_sealed: true,
            image: self.dir.join("vmlinux"),
            mounts: vec![(self.dir.clone(), MOUNT.into())],
            src: Path::new(MOUNT).join("src"),
            build: Path::new(MOUNT).join("build"),
            compiler: self.recipe.compiler(),
            checks: self.recipe.checks(),
        }
    }

    /// Whether it is there, whole.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be read.
    pub fn state(&self) -> Result<Entry> {
        cache::state(&self.dir)
    }

    /// Unpacks what it is made of into `into`; the packages must have been fetched.
    ///
    /// # Errors
    ///
    /// When a package cannot be unpacked or lacks what is expected in it.
    pub fn unpack(
        &self,
        into: &Path,
        release: &Release,
        packages: &[Package],
        store: &Store,
        stop: &Stop,
    ) -> Result<()> {
        match self.recipe {
            Recipe::Stock => kernel::unpack(into, release, packages, store, stop),
            Recipe::Debug => debug_kernel::unpack(into, release, packages, store, stop),
        }
    }

    /// Compiles what was unpacked at `tree`.
    ///
    /// # Errors
    ///
    /// When something does not compile, or an option would not be as it has to be: the message names it.
    pub fn compile(
        &self,
        tree: &Path,
        sysroot: &Sysroot,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<()> {
        match self.recipe {
            Recipe::Stock => kernel::compile(tree, sysroot, progress, stop),
            Recipe::Debug => debug_kernel::compile(tree, sysroot, progress, stop),
        }
    }
}
