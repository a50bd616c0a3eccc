//! The wait for a debugger, behind the module's insmod and before the job's work.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::job::{Command, Event, Module, Section};
use crate::ports::Control;

/// Says where the module is, and waits until the host says that somebody is ready to debug it.
pub(crate) fn wait(module: &Module, control: &mut Control) -> Result<()> {
    let dir = Path::new("/sys/module").join(&module.name).join("sections");
    let sections = sections(&dir)
        .with_context(|| format!("failed to read the module's sections in {}", dir.display()))?;
    control.say(&Event::AwaitsDebugger { sections })?;
    match control.next()? {
        Command::Go => Ok(()),
        command => bail!("failed to wait for a debugger: the host said {command:?}"),
    }
}

/// Each file there has a section's name, and its address in it (`add_sect_attrs()`, `kernel/module/sysfs.c`).
fn sections(dir: &Path) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let text = fs::read_to_string(entry.path())?;
        let digits = text.trim().trim_start_matches("0x");
        let name = entry.file_name().to_string_lossy().into_owned();
        let addr = u64::from_str_radix(digits, 16)
            .with_context(|| format!("{name} is at {text:?}, which is no address"))?;
        sections.push(Section { name, addr });
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_read_with_their_addresses() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".text"), "0xffffffffc0201000\n").unwrap();
        assert_eq!(
            sections(dir.path()).unwrap(),
            [Section {
                name: ".text".into(),
                addr: 0xffff_ffff_c020_1000
            }]
        );
        fs::write(dir.path().join(".data"), "\n").unwrap();
        let error = format!("{:#}", sections(dir.path()).unwrap_err());
        assert!(error.contains(".data is at"), "{error}");
    }
}
