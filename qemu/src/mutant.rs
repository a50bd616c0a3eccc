//! Mutants: the driver with one mistake in it, to see whether the tests notice.
//!
//! `driver/mutants/NN-name.patch` says in its first line what is wrong with the mutant, and then how to
//! make it, as `diff -u` does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// A mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// The name of its file, without `.patch`.
    pub name: String,
    /// What is wrong, in a sentence.
    pub mistake: String,
    changes: Vec<Change>,
}

/// Lines that become others.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    file: PathBuf,
    old: String,
    new: String,
}

impl Mutant {
    /// All mutants of the driver in `project`, in the order of their names.
    ///
    /// # Errors
    ///
    /// When a patch cannot be read, or is none.
    pub fn all(project: &Path) -> Result<Vec<Self>> {
        let dir = project.join("driver/mutants");
        let context = || format!("failed to read the directory {}", dir.display());
        let mut mutants = Vec::new();
        for entry in fs::read_dir(&dir).with_context(context)? {
            let path = entry.with_context(context)?.path();
            let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
                continue;
            };
            let read = || Self::parse(name, &fs::read_to_string(&path)?);
            mutants.push(read().with_context(|| format!("failed to read {}", path.display()))?);
        }
        mutants.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(mutants)
    }

    /// Reads a patch.
    ///
    /// # Errors
    ///
    /// When it has no sentence, changes nothing, or has a line that belongs to no change.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let (mistake, diff) = text.split_once("\n\n").context("no sentence before it")?;
        ensure!(mistake.ends_with('.'), "its first line is no sentence");
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
            mistake: mistake.to_owned(),
            changes,
        })
    }

    /// Copies `Kbuild` and the driver's sources from `project` to `copy`, with the mistake.
    ///
    /// # Errors
    ///
    /// When the mistake is not to be made there any more, or a file cannot be copied.
    pub fn write(&self, project: &Path, copy: &Path) -> Result<()> {
        let mut sources = BTreeMap::new();
        for path in sources_of(project)? {
            let full = project.join(&path);
            let text = fs::read_to_string(&full);
            let text = text.with_context(|| format!("failed to read {}", full.display()))?;
            sources.insert(path, text);
        }
        self.apply(&mut sources)
            .with_context(|| format!("failed to apply driver/mutants/{}.patch", self.name))?;
        for (path, text) in sources {
            let full = copy.join(&path);
            let dir = full.parent().unwrap_or(copy);
            fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
            fs::write(&full, text)
                .with_context(|| format!("failed to write {}", full.display()))?;
        }
        Ok(())
    }

    /// Makes the mistake in `sources`. Where it is to be made is told by the lines alone, not by their
    /// numbers: a patch outlives changes elsewhere in the file.
    fn apply(&self, sources: &mut BTreeMap<PathBuf, String>) -> Result<()> {
        for Change { file, old, new } in &self.changes {
            let text = sources.get_mut(file);
            let text = text.with_context(|| format!("there is no {}", file.display()))?;
            match text.matches(old.as_str()).count() {
                1 => *text = text.replacen(old.as_str(), new, 1),
                0 => bail!("{} does not have these lines:\n{old}", file.display()),
                _ => bail!("{} has these lines twice:\n{old}", file.display()),
            }
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

/// What the module is made from, relative to the project.
fn sources_of(project: &Path) -> Result<Vec<PathBuf>> {
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
        let mut sources = BTreeMap::from([(path.clone(), text.to_owned())]);
        Mutant::parse("01-x", PATCH)?.apply(&mut sources)?;
        Ok(sources.remove(&path).unwrap())
    }

    #[test]
    fn a_patch_finds_its_place_by_its_lines_and_only_one() {
        assert_eq!(
            applied("zero\none\ntwo\n\nend\n").unwrap(),
            "zero\none\n2\nend\n"
        );
        let error = applied("one\n2\n").unwrap_err();
        assert!(error.to_string().contains("does not have"), "{error}");
        let error = applied("one\ntwo\n\none\ntwo\n\n").unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        for text in [
            "",
            "It is wrong.\n\n",
            "no sentence\n\n@@ -1 +1 @@\n",
            "It.\n\n one\n",
        ] {
            assert!(Mutant::parse("01-x", text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_mutant_is_the_driver_but_for_its_mistake() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mutants = Mutant::all(project).unwrap();
        assert!(mutants.len() >= 24, "only {}", mutants.len());
        for mutant in mutants {
            let copy = tempfile::tempdir().unwrap();
            mutant.write(project, copy.path()).unwrap();
            let sources = sources_of(project).unwrap();
            let differ = sources.iter().filter(|path| {
                fs::read(project.join(path)).unwrap() != fs::read(copy.path().join(path)).unwrap()
            });
            assert!(differ.count() > 0, "{}", mutant.name);
        }
    }
}
