//! Kernels on the command line.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::checks::Checks;
use crate::compiler::Compiler;
use crate::kernel::read_config;
use crate::own_kernel;
use crate::release::{TESTED, Wanted};

/// Which kernel, and from where.
#[derive(Clone, Debug, Args)]
pub struct KernelArgs {
    /// `stock` (the newest release of the newest series that the tests have passed on), a series such as
    /// 7.2, `debug` (compiled here, with KASAN and other checks: docs/sanitizers.md), or the directory of a
    /// kernel that you built with `CONFIG_RUST=y`.
    #[arg(long, value_name = "stock|X.Y|debug|DIR", default_value = "stock", value_parser = parse_kernel)]
    pub kernel: Kernel,

    /// A mirror of Debian's archive, instead of the one in this host's apt sources.
    #[arg(long, value_name = "URL", env = "MMAPDEMO_MIRROR")]
    pub mirror: Option<String>,

    /// Build the module from the Kbuild and driver/ in this directory (`lab new` makes such a one), instead
    /// of those of the clone.
    #[arg(long, value_name = "DIR", env = "MMAPDEMO_DRIVER")]
    pub driver: Option<PathBuf>,
}

/// A kernel as named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// One of Debian's.
    Debian(Wanted),
    /// A build directory of the user's own.
    Own(PathBuf),
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian(wanted) => f.write_str(wanted.name()),
            Self::Own(dir) => write!(f, "{}", dir.display()),
        }
    }
}

impl Kernel {
    /// The kernel of Debian's that it is, or whose toolchain builds modules for it.
    ///
    /// # Errors
    ///
    /// A usage error when it is a directory that says nothing of its compiler.
    pub fn toolchain(&self) -> Result<Wanted> {
        match self {
            Self::Debian(wanted) => Ok(wanted.clone()),
            Self::Own(dir) => Ok(match own_kernel::compiler(dir)? {
                Compiler::Gcc => Wanted::Stock,
                Compiler::Llvm => Wanted::Debug,
            }),
        }
    }

    /// What it checks while it runs.
    ///
    /// # Errors
    ///
    /// When it is a directory without a `.config` that can be read.
    pub fn checks(&self) -> Result<Checks> {
        match self {
            Self::Debian(wanted) => Ok(wanted.recipe().checks()),
            Self::Own(dir) => Ok(Checks::of(&read_config(dir)?)),
        }
    }
}

/// Several kernels.
#[derive(Clone, Debug, Args)]
pub struct Kernels {
    /// One of the kernels; may be repeated. All tested series, if none is named.
    #[arg(long = "kernel", value_name = "stock|X.Y|debug|DIR", value_parser = parse_kernel)]
    named: Vec<Kernel>,
    /// A mirror of Debian's archive, instead of the one in this host's apt sources.
    #[arg(long, value_name = "URL", env = "MMAPDEMO_MIRROR")]
    mirror: Option<String>,
}

impl Kernels {
    /// The kernels, one by one.
    #[must_use]
    pub fn each(&self) -> Vec<KernelArgs> {
        let tested = TESTED.map(|series| Kernel::Debian(Wanted::Series(series.to_owned())));
        let kernels = if self.named.is_empty() {
            &tested[..]
        } else {
            &self.named
        };
        kernels
            .iter()
            .map(|kernel| KernelArgs {
                kernel: kernel.clone(),
                mirror: self.mirror.clone(),
                driver: None,
            })
            .collect()
    }
}

/// Reads `--kernel`.
///
/// # Errors
///
/// When it is neither a word for one of Debian's kernels nor a directory.
fn parse_kernel(text: &str) -> Result<Kernel, String> {
    let is_series = |text: &str| {
        let mut parts = text.split('.');
        let number = |part: Option<&str>| {
            part.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
        };
        number(parts.next()) && number(parts.next()) && parts.next().is_none()
    };
    for word in [Wanted::Stock, Wanted::Debug] {
        if text == word.name() {
            return Ok(Kernel::Debian(word));
        }
    }
    if is_series(text) {
        return Ok(Kernel::Debian(Wanted::Series(text.to_owned())));
    }
    let dir = PathBuf::from(text);
    if dir.is_dir() {
        return Ok(Kernel::Own(dir));
    }
    Err("neither `stock` or `debug`, nor a series such as 7.2, nor a directory".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart() {
        assert_eq!(
            parse_kernel("stock").unwrap(),
            Kernel::Debian(Wanted::Stock)
        );
        assert_eq!(
            parse_kernel("debug").unwrap(),
            Kernel::Debian(Wanted::Debug)
        );
        assert_eq!(
            parse_kernel("7.10").unwrap(),
            Kernel::Debian(Wanted::Series("7.10".into()))
        );
        assert_eq!(parse_kernel("/").unwrap(), Kernel::Own("/".into()));
        for wrong in ["7", "7.", "7.3.4", "/nonexistent", "newest", ""] {
            assert!(parse_kernel(wrong).is_err(), "{wrong}");
        }
    }
}
