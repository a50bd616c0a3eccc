//! Compiler: what a kernel was built by, and its modules have to be, too.

use crate::command::HostCommand;
use crate::config::Config;

/// The C compiler that built Debian's kernels (`CONFIG_CC_VERSION_TEXT`).
pub const GCC: &str = "x86_64-linux-gnu-gcc-14";

/// The suffix of LLVM's programs: the version that Debian's rustc is linked to. Rust code can only be checked by
/// KASAN if both have it (`RUSTC_CLANG_LLVM_COMPATIBLE` in the kernel's `init/Kconfig`).
const LLVM: &str = "-19";

/// A C compiler with its binutils.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// Debian's kernels are built by it.
    Gcc,
    /// Kernels with both Rust and KASAN are built by it: with gcc, Kconfig drops one of the two.
    Llvm,
}

impl Compiler {
    /// What the kernel with this `.config` was built by.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        match config.get("CONFIG_CC_IS_CLANG") {
            Some("y") => Self::Llvm,
            _ => Self::Gcc,
        }
    }

    /// The packages that it takes beside those of every sysroot; and, as nobody else does, what building a whole
    /// kernel takes.
    #[must_use]
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Gcc => &[],
            Self::Llvm => &[
                "clang-19",
                "lld-19",
                "llvm-19",
                "bc",
                "libelf-dev",
                "zlib1g-dev",
            ],
        }
    }

    /// `make` by this compiler, in the directory `dir` of a sysroot that `command` enters.
    #[must_use]
    pub fn make(self, command: HostCommand, dir: &std::path::Path) -> HostCommand {
        command.args(["make", "-C"]).arg(dir).args(self.variables())
    }

    /// What `make` is told about it (`Documentation/kbuild/llvm.rst`).
    #[must_use]
    pub fn variables(self) -> Vec<String> {
        let arch = "ARCH=x86".to_owned();
        match self {
            Self::Gcc => vec![arch, format!("CC={GCC}"), format!("HOSTCC={GCC}")],
            Self::Llvm => vec![arch, format!("LLVM={LLVM}")],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_says_what_its_kernel_was_built_by() {
        let clang = Config::parse("# CONFIG_CC_IS_GCC is not set\nCONFIG_CC_IS_CLANG=y\n");
        assert_eq!(Compiler::of(&clang), Compiler::Llvm);
        let gcc = Config::parse("CONFIG_CC_IS_GCC=y\n");
        assert_eq!(Compiler::of(&gcc), Compiler::Gcc);
    }

    #[test]
    fn make_is_told_of_one_compiler_only() {
        assert_eq!(Compiler::Llvm.variables(), ["ARCH=x86", "LLVM=-19"]);
        assert!(
            Compiler::Gcc
                .variables()
                .iter()
                .all(|it| !it.contains("LLVM"))
        );
        let versioned = |name: &&&str| name.ends_with(LLVM);
        assert_eq!(
            Compiler::Llvm.packages().iter().filter(versioned).count(),
            3
        );
    }
}
