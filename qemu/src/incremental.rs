//! Incremental compilation of the driver: after a change, only what the change reaches.
//!
//! Kbuild compiles a driver as a whole each time, and as one codegen unit, which LLVM gets as a whole as well. rustc
//! can keep what it has found out about each function for the next time, and leave to LLVM only units in which something has
//! changed ("Incremental compilation" in the rustc-dev-guide). That takes a third of the time. The code is that of the same
//! source by the same compiler, but not the same code: LLVM inlines less across the border of two units. So it is what a
//! loop of edits gets, and nothing that counts.
//!
//! Kbuild takes the path of its compiler from a variable, and so finds a script there, which puts the units together.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// What rustc keeps for the next time, beside the script. It notices itself what in there is of another compiler, of
/// other options or cut off.
pub const CACHE: &str = ".incremental";

/// In the directory of the build products: what Kbuild takes for rustc.
const FILE: &str = ".rustc";

/// What is in there. More units would hardly be faster: what is left is checked before there are units.
pub const SCRIPT: &str = "#!/bin/sh
# What Kbuild takes for rustc.
set -e
for word; do
    shift
    case $word in
    --emit=obj=*)
        object=${word#--emit=obj=}
        word=--emit=obj
        ;;
    esac
    set -- \"$@\" \"$word\"
done
[ -n \"$object\" ] || exec rustc \"$@\"
rustc \"$@\" -Ccodegen-units=16 -Cincremental=\"${0%/*}/.incremental\"
set -- \"${object%.o}\".*.rcgu.o
# The only unit of a small driver has the object's own name.
[ -e \"$1\" ] || exit 0
${LD:-ld} -r -o \"$object\" \"$@\"
rm \"$@\"
";

/// Writes the script to `out`.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn prepare(out: &Path) -> Result<()> {
    let path = out.join(FILE);
    let context = || format!("failed to write {}", path.display());
    fs::write(&path, SCRIPT).with_context(context)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755)).with_context(context)
}

/// What make is told, where the products are in `inside`.
#[must_use]
pub fn argument(inside: &Path) -> String {
    format!("RUSTC={}", inside.join(FILE).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_keeps_what_a_clean_up_leaves() {
        assert!(SCRIPT.contains(&format!("/{CACHE}\"")));
    }
}
