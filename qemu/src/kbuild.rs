//! Kbuild's settings: what the kernel's Makefile finds out before it compiles anything, kept for the next build.
//!
//! Each time it asks the compilers two dozen questions about what they understand, which takes a third of a module's
//! build; and all answers depend on the kernel and the sysroot alone. It hands them to the makes that do the work as
//! environment variables (`export` in `Makefile`, Linux 7.3). So the first build writes these down, and each one after
//! it starts with those makes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command::HostCommand;

/// The file in the directory of the build products.
const FILE: &str = ".kbuild-settings";

/// The same while the build that writes it down goes on.
const NEW: &str = ".kbuild-settings.new";

/// Read by each make before its own makefile (`MAKEFILES`, "The Variable MAKEFILES" in GNU make's manual). The last
/// one is `Makefile.modfinal`'s, and has only what all get.
const REMEMBER: &str = ".remember.mk";

/// What the kernel's `modules` target comes to for a module in one directory outside of its tree: to compile, to
/// check symbols, to link.
const MAKES: &str = "cd \"$1\"
make -f \"$2/scripts/Makefile.build\" obj=. need-builtin=1 need-modorder=1
make -f \"$2/scripts/Makefile.modpost\"
make -f \"$2/scripts/Makefile.modfinal\"";

/// Variables that belong to one make, or would have the settings written down once more.
const OF_ONE_MAKE: [&str; 5] = [
    "MAKEFILES",
    "MAKELEVEL",
    "MAKE_TERMOUT",
    "MAKE_TERMERR",
    "_",
];

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

    /// Keeps what the makes of a build have written down, now that the last of them has.
    ///
    /// # Errors
    ///
    /// When they have not.
    pub fn keep(out: &Path) -> Result<()> {
        fs::rename(out.join(NEW), out.join(FILE))
            .with_context(|| format!("failed to keep Kbuild's settings in {}", out.display()))
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
