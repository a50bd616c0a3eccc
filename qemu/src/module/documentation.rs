//! The driver's documentation, by which `lab check` finds what rustdoc warns of.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Builder, OUTPUT_MOUNT, SAVED_COMMAND, SOURCE_MOUNT};
use crate::command::Stream;
use crate::failure::Failure;
use crate::stop::Stop;

impl Builder<'_> {
    /// Runs rustdoc with the flags by which the module in `out` was compiled: Kbuild has no rule for the
    /// documentation of a module that is not in its tree.
    pub(super) fn document(&self, out: &Path, stop: &Stop) -> Result<()> {
        let path = out.join(SAVED_COMMAND);
        let saved = fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        let command = rustdoc_command(&saved)
            .with_context(|| format!("failed to find a command in {}", path.display()))?;
        let mut said = String::new();
        let finished = self
            .enter("document the driver", out)
            // As the kernel's Makefile has it: it uses features that are not stable.
            .args(["RUSTC_BOOTSTRAP=1", "sh", "-c"])
            .arg(format!("cd {OUTPUT_MOUNT} && {command}"))
            .finish(stop, |stream, line| {
                if stream == Stream::Err {
                    said.push_str(&line.replace(&format!("{SOURCE_MOUNT}/"), ""));
                    said.push('\n');
                }
            })?;
        if finished.status.success() {
            return Ok(());
        }
        Err(Failure::DoesNotBuild {
            diagnostics: said,
            what: format!(
                "the driver's documentation does not build for Linux {}",
                self.kernel.release
            ),
        }
        .into())
    }
}

/// Turns the saved command that compiled the driver into one that documents all of it, and denies warnings.
fn rustdoc_command(saved: &str) -> Option<String> {
    let (_, command) = saved.lines().next()?.split_once(" := ")?;
    let mut words = command.split_whitespace();
    let mut rustdoc = Vec::new();
    // Variables for the compiler come first, then its name.
    let variables = words.by_ref().take_while(|word| word.contains('='));
    rustdoc.extend(variables);
    rustdoc.push("rustdoc");
    while let Some(word) = words.next() {
        match word {
            "--out-dir" => drop(words.next()?),
            // Only rustc knows these.
            "-Zbinary_dep_depinfo=y" => {}
            _ if word.starts_with("--emit=") => {}
            _ => rustdoc.push(word),
        }
    }
    rustdoc.extend(["--document-private-items", "--crate-name", "mmapdemo"]);
    rustdoc.extend(["-Dwarnings", "--out-dir", "/tmp/doc"]);
    Some(rustdoc.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_made_as_the_driver_is_compiled() {
        let saved = "savedcmd_driver/mmapdemo.o := OBJTREE=/kernel/build RUST_MODFILE=./mmapdemo clippy-driver \
                     --edition=2021 -Zbinary_dep_depinfo=y --cfg MODULE -Zcrate-attr='feature(a,b)' \
                     --out-dir driver/ --emit=obj=driver/mmapdemo.o /module/driver/mmapdemo.rs  \n\n\
                     source_driver/mmapdemo.o := /module/driver/mmapdemo.rs\n";
        assert_eq!(
            rustdoc_command(saved).as_deref(),
            Some(
                "OBJTREE=/kernel/build RUST_MODFILE=./mmapdemo rustdoc --edition=2021 --cfg MODULE \
                 -Zcrate-attr='feature(a,b)' /module/driver/mmapdemo.rs --document-private-items \
                 --crate-name mmapdemo -Dwarnings --out-dir /tmp/doc"
            )
        );
    }

    #[test]
    fn a_file_without_a_command_is_noticed() {
        assert_eq!(rustdoc_command(""), None);
        assert_eq!(rustdoc_command("driver/mmapdemo.o: /module\n"), None);
    }
}
