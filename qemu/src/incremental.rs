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
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// What rustc keeps for the next time, beside the script. It notices itself what in there is of another compiler, of
/// other options or cut off.
pub const CACHE: &str = ".incremental";

/// In the directory of the build products: what Kbuild takes for rustc.
const FILE: &str = ".rustc";

/// There, too: what this driver was built by when it turned out not to build in units.
const GIVEN_UP: &str = ".not-in-units";

/// What is in [`FILE`]. More units would hardly be faster: what is left is checked before there are units.
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

/// Removes what rustc has kept, if anything: it may be why the driver does not build.
///
/// # Errors
///
/// When it cannot be removed.
pub fn forget(out: &Path) -> Result<()> {
    let path = out.join(CACHE);
    let removed = if path.is_dir() {
        fs::remove_dir_all(&path)
    } else {
        fs::remove_file(&path)
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Remembers that this driver builds only as a whole: to try each time would take longer than that. It is tried again
/// by another kernel, toolchain or script, all of which `key` names.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn give_up(out: &Path, key: &str) -> Result<()> {
    let path = out.join(GIVEN_UP);
    fs::write(&path, key).with_context(|| format!("failed to write {}", path.display()))
}

/// Whether that was remembered.
#[must_use]
pub fn is_given_up(out: &Path, key: &str) -> bool {
    fs::read_to_string(out.join(GIVEN_UP)).is_ok_and(|of| of == key)
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
