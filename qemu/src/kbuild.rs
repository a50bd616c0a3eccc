//! Kbuild's settings: what the kernel's Makefile finds out before it compiles anything, kept for the next build.
//!
//! Each time it asks the compilers two dozen questions about what they understand, which takes about a third of a
//! module's build. It hands the answers to the makes that do the work as environment variables (`export` in
//! `Makefile`, Linux 7.3). So the first build writes these down, and each one after it starts with those makes.
//!
//! The answers depend on the kernel, the sysroot and what the lab tells make, and on nothing of the module. What is
//! left out then are checks of the same: that the kernel is prepared, and was built by this compiler.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command::HostCommand;
use crate::incremental;

/// Changes whenever the settings are written down in another way.
pub const RECIPE: &str = "settings 1";

/// In the directory of the build products: taken while something is built.
pub const LOCK: &str = ".lock";

/// There, too: the settings.
const FILE: &str = ".kbuild-settings";

/// The same while the build that writes it down goes on.
const NEW: &str = ".kbuild-settings.new";

/// Read by each make before its own makefile (`MAKEFILES`, "The Variable MAKEFILES" in GNU make's manual). The last
/// one is `Makefile.modfinal`'s, and has only what all get.
const REMEMBER: &str = ".remember.mk";

/// What the kernel's `modules` target does for a module in one directory outside of its tree, once it knows its
/// settings: to compile, to check symbols, to link.
///
/// The last makefile takes half of the time of all three, to see that none of a thousand of the kernel's headers has
/// changed. So it is asked only if modpost has written its file since that was compiled, which it does when it has
/// something else to say (`write_if_changed()`, `scripts/mod/modpost.c`).
const MAKES: &str = "cd \"$1\"
make -f \"$2/scripts/Makefile.build\" obj=. need-builtin=1 need-modorder=1
make -f \"$2/scripts/Makefile.modpost\"
link=
if [ -e .mmapdemo.ko.cmd ] && [ mmapdemo.mod.o -nt mmapdemo.mod.c ]; then
    link=$(sed -n 's/^savedcmd_mmapdemo.ko := //p' .mmapdemo.ko.cmd)
fi
if [ -n \"$link\" ]; then eval \"$link\"; else make -f \"$2/scripts/Makefile.modfinal\"; fi";

/// Variables that belong to one make, or would have the settings written down once more.
const OF_ONE_MAKE: [&str; 5] = [
    "MAKEFILES",
    "MAKELEVEL",
    "MAKE_TERMOUT",
    "MAKE_TERMERR",
    "_",
];

/// Removes the products that make would take for up to date by their times: the sources are not what they were,
/// whatever their times are. Those of a build that did not come to its end may be cut off; so all go but what rustc keeps,
/// which notices that by itself.
///
/// # Errors
///
/// When they cannot be removed.
pub fn clear(out: &Path, came_to_its_end: bool) -> Result<()> {
    let context = |path: &Path| format!("failed to remove {}", path.display());
    let driver = out.join("driver");
    if came_to_its_end {
        return match fs::remove_dir_all(&driver) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| context(&driver)),
        };
    }
    for entry in fs::read_dir(out).with_context(|| context(out))? {
        let path = entry.with_context(|| context(out))?.path();
        let stays = [LOCK, FILE, incremental::CACHE].map(|name| out.join(name));
        if stays.contains(&path) {
            continue;
        }
        let removed = if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| context(&path))?;
    }
    Ok(())
}

/// The settings, as `NAME=value`.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings(Vec<String>);

impl Settings {
    /// Those that an earlier build with the same `key` has written to `out`, if one has.
    #[must_use]
    pub fn read(out: &Path, key: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(out.join(FILE)).ok()?, key)
    }

    fn parse(text: &str, key: &str) -> Option<Self> {
        let (of, variables) = text.split_once('\n')?;
        let (variables, end) = variables.rsplit_once('\0')?;
        // What was cut off is none.
        if of != key || !end.is_empty() {
            return None;
        }
        let name = |variable: &str| variable.split_once('=').map(|(name, _)| name.to_owned());
        let mut kept = Vec::new();
        for variable in variables.split('\0') {
            if !OF_ONE_MAKE.contains(&name(variable)?.as_str()) {
                kept.push(variable.to_owned());
            }
        }
        Some(Self(kept))
    }

    /// Forgets them.
    pub fn forget(out: &Path) {
        let _ = fs::remove_file(out.join(FILE));
    }

    /// Keeps what the makes of a build have written down, now that the last of them has. If that cannot be, the next
    /// build takes longer, and that is all.
    pub fn keep(out: &Path) {
        let _ = fs::rename(out.join(NEW), out.join(FILE));
    }

    /// Has the makes that `command` is to start write theirs to `out`, which they see as `inside`; `key` is one word.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written to.
    pub fn remember(
        command: HostCommand,
        (out, inside): (&Path, &Path),
        key: &str,
    ) -> Result<HostCommand> {
        let rule = out.join(REMEMBER);
        let new = inside.join(NEW);
        let new = new.display();
        let text = format!("$(shell {{ echo {key} && env -0; }} >{new})\n");
        fs::write(&rule, text).with_context(|| format!("failed to write {}", rule.display()))?;
        let makefiles = format!("MAKEFILES={}", inside.join(REMEMBER).display());
        Ok(command.arg(makefiles).hide_wrapping())
    }

    /// Has `command` build the module into `out` by the kernel's sources in `src`.
    #[must_use]
    pub fn build(&self, command: HostCommand, out: &Path, src: &Path) -> HostCommand {
        let command = command.args(&self.0).hide_wrapping();
        command.args(["sh", "-ec", MAKES, "sh"]).args([out, src])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str =
        "key 1\nARCH=x86\0MAKEFILES=/out/.remember.mk\0KBUILD_CFLAGS=-O2 -DA=1\0EMPTY=\0";

    #[test]
    fn what_was_written_down_is_read_but_for_what_belongs_to_one_make() {
        let expected = ["ARCH=x86", "KBUILD_CFLAGS=-O2 -DA=1", "EMPTY="];
        let settings = Settings::parse(WRITTEN, "key 1").unwrap();
        assert_eq!(settings.0, expected);
    }

    #[test]
    fn settings_of_another_kernel_or_cut_off_are_none() {
        assert_eq!(Settings::parse(WRITTEN, "key 2"), None);
        assert_eq!(
            Settings::parse(&WRITTEN[..WRITTEN.len() - 1], "key 1"),
            None
        );
        assert_eq!(Settings::parse("", "key 1"), None);
        assert_eq!(Settings::parse("key 1\nno variable\0", "key 1"), None);
    }
}
