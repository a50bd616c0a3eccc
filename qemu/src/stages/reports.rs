//! Reports: what the experiments write for other programs, on its way from the guest to files of the host.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use crate::job::Program;
use crate::report::{ProgramReport, ProgramStatus};

/// The reports that are wanted.
#[derive(Debug, Default)]
pub(super) struct Reports(Vec<Wanted>);

#[derive(Debug)]
struct Wanted {
    /// The option of `mmapdemo run`.
    option: &'static str,
    /// Where it is in the guest.
    guest: &'static str,
    /// Where it goes.
    file: Destination,
}

/// A file of the host.
#[derive(Debug)]
pub(super) enum Destination {
    /// A regular file: it appears under its name when it is complete.
    New(NamedTempFile, PathBuf),
    /// A device or a pipe.
    Special(File, PathBuf),
}

impl Reports {
    /// Begins the files. What an earlier run left there is removed: it must not be taken for this one's.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub(super) fn begin(json: Option<&Path>, junit: Option<&Path>) -> Result<Self> {
        let wanted = [
            ("--json", "/run/results.json", json),
            ("--junit", "/run/results.xml", junit),
        ];
        let wanted = wanted.into_iter().filter_map(|(option, guest, file)| {
            file.map(|file| {
                Ok(Wanted {
                    option,
                    guest,
                    file: Destination::begin(file)?,
                })
            })
        });
        wanted.collect::<Result<_>>().map(Self)
    }

    /// The options that make the experiments write them.
    pub(super) fn options(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .flat_map(|wanted| [wanted.option, wanted.guest])
    }

    /// The programs that bring them, to be run after the experiments: what is captured of a program is known
    /// to be all that it wrote.
    pub(super) fn programs(&self) -> impl Iterator<Item = Program> + '_ {
        self.0.iter().map(|wanted| Program {
            capture: true,
            ..Program::new(["cat", wanted.guest])
        })
    }

    /// Writes what the programs brought.
    ///
    /// # Errors
    ///
    /// When one did not bring it, or it cannot be written.
    pub(super) fn write(self, programs: &[ProgramReport]) -> Result<()> {
        for (index, wanted) in self.0.into_iter().enumerate() {
            match programs.get(index) {
                Some(program) if program.status == Some(ProgramStatus::Exited(0)) => {
                    wanted.file.write(&program.stdout)?;
                }
                program => {
                    let said = program.map(|program| String::from_utf8_lossy(&program.stderr));
                    bail!(
                        "the guest did not deliver {}: {}",
                        wanted.guest,
                        said.unwrap_or_default().trim()
                    )
                }
            }
        }
        Ok(())
    }
}

impl Destination {
    /// Begins it, so that a file that cannot be written is noticed before anything is done for it.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn begin(path: &Path) -> Result<Self> {
        let context = || format!("failed to write {}", path.display());
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => {
                let file = File::options().write(true).open(path);
                return Ok(Self::Special(file.with_context(context)?, path.to_owned()));
            }
            Ok(_) => fs::remove_file(path).with_context(context)?,
            // Whatever is wrong shows below.
            Err(_) => {}
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o666)) // and the umask
            .tempfile_in(dir.unwrap_or(Path::new(".")));
        Ok(Self::New(file.with_context(context)?, path.to_owned()))
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn write(self, bytes: &[u8]) -> Result<()> {
        let context = |path: &Path| format!("failed to write {}", path.display());
        match self {
            Self::Special(mut file, path) => file.write_all(bytes).with_context(|| context(&path)),
            Self::New(mut file, path) => {
                file.write_all(bytes).with_context(|| context(&path))?;
                file.persist(&path).with_context(|| context(&path))?;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brought(code: i32) -> ProgramReport {
        ProgramReport {
            name: "cat".into(),
            status: Some(ProgramStatus::Exited(code)),
            stdout: b"{}\n".to_vec(),
            stderr: b"cat: no such file\n".to_vec(),
        }
    }

    #[test]
    fn a_report_replaces_the_one_before_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.json");
        fs::write(&path, "old").unwrap();
        let reports = Reports::begin(Some(&path), None).unwrap();
        assert!(!path.exists(), "an old report must not be taken for new");
        let options: Vec<_> = reports.options().collect();
        assert_eq!(options, ["--json", "/run/results.json"]);
        reports.write(&[brought(0)]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n");
    }

    #[test]
    fn a_report_that_does_not_come_is_an_error_and_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.xml");
        for brought in [vec![], vec![brought(1)]] {
            let reports = Reports::begin(None, Some(&path)).unwrap();
            let error = reports.write(&brought).unwrap_err().to_string();
            assert!(error.contains("/run/results.xml"), "{error}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_before_anything_runs() {
        let path = Path::new("/nonexistent/results.json");
        let error = Reports::begin(Some(path), None).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/results.json"));
        Reports::begin(Some(Path::new("/dev/null")), None)
            .unwrap()
            .write(&[brought(0)])
            .unwrap();
        assert!(Path::new("/dev/null").exists());
    }
}
