//! Patches of the driver, kept beside it: mistakes, to see whether the tests notice them, and gaps, for
//! students to fill.
//!
//! `NN-name.patch` says in its first line what it is, and then how to make it, as `diff -u` does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// Where the driver's mistakes are, below the project.
pub const MUTANTS: &str = "driver/mutants";

/// Where the gaps for students are, below the project.
pub const EXERCISES: &str = "driver/exercises";

/// A change of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The name of its file, without `.patch`.
    pub name: String,
    /// What it is, in a sentence.
    pub sentence: String,
    changes: Vec<Change>,
}

/// Lines that become others.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    file: PathBuf,
    old: String,
    new: String,
}

impl Patch {
    /// All patches in the directory `dir`, in the order of their names.
    ///
    /// # Errors
    ///
    /// When a patch cannot be read, or is none.
    pub fn all(dir: &Path) -> Result<Vec<Self>> {
        let context = || format!("failed to read the directory {}", dir.display());
        let mut patches = Vec::new();
        for entry in fs::read_dir(dir).with_context(context)? {
            let path = entry.with_context(context)?.path();
            let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
                continue;
            };
            let read = || Self::parse(name, &fs::read_to_string(&path)?);
            patches.push(read().with_context(|| format!("failed to read {}", path.display()))?);
        }
        patches.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(patches)
    }

    /// Reads a patch.
    ///
    /// # Errors
    ///
    /// When it has no sentence, changes nothing, or has a line that belongs to no change.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let (sentence, diff) = text.split_once("\n\n").context("no sentence before it")?;
        ensure!(sentence.ends_with('.'), "its first line is no sentence");
        let mut file = None;
        let mut changes: Vec<Change> = Vec::new();
        for line in diff.lines() {
            if line.starts_with("--- ") {
                continue;
            }
            if let Some(path) = line.strip_prefix("+++ b/") {
                file = Some(PathBuf::from(path));
            } else if line.starts_with("@@ ") {
                let file = file.clone().context("a change of no file")?;
                let (old, new) = (String::new(), String::new());
                changes.push(Change { file, old, new });
            } else {
                let change = changes.last_mut().context("a line of no change")?;
                change.take(line)?;
            }
        }
        ensure!(!changes.is_empty(), "it changes nothing");
        Ok(Self {
            name: name.to_owned(),
            sentence: sentence.to_owned(),
            changes,
        })
    }
}

/// What the module is made from: `Kbuild` and the sources of the driver, by their paths in a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources(BTreeMap<PathBuf, String>);

impl Sources {
    /// Those of `project`.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or is not text.
    pub fn read(project: &Path) -> Result<Self> {
        let mut sources = BTreeMap::new();
        for path in paths(project)? {
            let full = project.join(&path);
            let text = fs::read_to_string(&full);
            let text = text.with_context(|| format!("failed to read {}", full.display()))?;
            sources.insert(path, text);
        }
        Ok(Self(sources))
    }

    /// Makes the changes of `patch`. Where they are to be made is told by the lines alone, not by their
    /// numbers: a patch outlives changes elsewhere in the file.
    ///
    /// # Errors
    ///
    /// When lines that it changes are not there any more, or are there twice.
    pub fn apply(&mut self, patch: &Patch) -> Result<()> {
        let mut apply = || {
            for Change { file, old, new } in &patch.changes {
                let text = self.0.get_mut(file);
                let text = text.with_context(|| format!("there is no {}", file.display()))?;
                match text.matches(old.as_str()).count() {
                    1 => *text = text.replacen(old.as_str(), new, 1),
                    0 => bail!("{} does not have these lines:\n{old}", file.display()),
                    _ => bail!("{} has these lines twice:\n{old}", file.display()),
                }
            }
            Ok(())
        };
        apply().with_context(|| format!("failed to apply {}.patch", patch.name))
    }

    /// Writes them below `dir`.
    ///
    /// # Errors
    ///
    /// When one cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        for (path, text) in &self.0 {
            let full = dir.join(path);
            let dir = full.parent().unwrap_or(dir);
            fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
            fs::write(&full, text)
                .with_context(|| format!("failed to write {}", full.display()))?;
        }
        Ok(())
    }
}

impl Change {
    fn take(&mut self, line: &str) -> Result<()> {
        let (in_old, in_new, rest) = match line.split_at_checked(1) {
            Some((" ", rest)) => (true, true, rest),
            Some(("-", rest)) => (true, false, rest),
            Some(("+", rest)) => (false, true, rest),
            None => (true, true, ""),
            _ => bail!("neither context, nor taken away, nor added: {line:?}"),
        };
        for (text, takes) in [(&mut self.old, in_old), (&mut self.new, in_new)] {
            if takes {
                text.push_str(rest);
                text.push('\n');
            }
        }
        Ok(())
    }
}

/// The files of [`Sources`], relative to the project.
fn paths(project: &Path) -> Result<Vec<PathBuf>> {
    let mut sources = vec![PathBuf::from("Kbuild")];
    let dir = project.join("driver");
    let context = || format!("failed to read the directory {}", dir.display());
    for entry in fs::read_dir(&dir).with_context(context)? {
        let name = PathBuf::from(entry.with_context(context)?.file_name());
        if name.extension().is_some_and(|extension| extension == "rs") {
            sources.push(Path::new("driver").join(name));
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "It is wrong.\n\n--- a/driver/x.rs\n+++ b/driver/x.rs\n@@ -7,3 +7,2 @@\n one\n-two\n-\n+2\n";

    fn applied(text: &str) -> Result<String> {
        let path = PathBuf::from("driver/x.rs");
        let mut sources = Sources(BTreeMap::from([(path.clone(), text.to_owned())]));
        sources.apply(&Patch::parse("01-x", PATCH)?)?;
        Ok(sources.0.remove(&path).unwrap())
    }

    #[test]
    fn a_patch_finds_its_place_by_its_lines_and_only_one() {
        assert_eq!(
            applied("zero\none\ntwo\n\nend\n").unwrap(),
            "zero\none\n2\nend\n"
        );
        let error = format!("{:#}", applied("one\n2\n").unwrap_err());
        assert!(error.contains("does not have"), "{error}");
        let error = applied("one\ntwo\n\none\ntwo\n\n").unwrap_err();
        assert!(format!("{error:#}").contains("twice"), "{error:#}");
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        for text in [
            "",
            "It is wrong.\n\n",
            "no sentence\n\n@@ -1 +1 @@\n",
            "It.\n\n one\n",
        ] {
            assert!(Patch::parse("01-x", text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_mutant_is_the_driver_but_for_its_mistake() {
        let project = project();
        let mutants = Patch::all(&project.join(MUTANTS)).unwrap();
        assert!(mutants.len() >= 24, "only {}", mutants.len());
        let driver = Sources::read(project).unwrap();
        for mutant in mutants {
            let mut sources = driver.clone();
            sources.apply(&mutant).unwrap();
            assert_ne!(sources, driver, "{}", mutant.name);
        }
    }

    #[test]
    fn all_exercises_can_be_left_out_together_and_are_written_as_the_driver_is_read() {
        let driver = Sources::read(project()).unwrap();
        let mut sources = driver.clone();
        for exercise in Patch::all(&project().join(EXERCISES)).unwrap() {
            let before = sources.clone();
            sources.apply(&exercise).unwrap();
            assert_ne!(sources, before, "{}", exercise.name);
        }
        let copy = tempfile::tempdir().unwrap();
        sources.write(copy.path()).unwrap();
        assert_eq!(Sources::read(copy.path()).unwrap(), sources);
    }

    fn project() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }
}
