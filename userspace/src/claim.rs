//! Claim: one statement about mmap that can be true or false, and what would show it; pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::need::Need;
use crate::prediction::Prediction;

/// A claim of the catalogue.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Kebab-case, begins with the name of its group; itself a statement that can be false.
    pub id: ClaimId,
    /// The family it belongs to.
    pub group: String,
    /// What is claimed.
    pub statement: String,
    /// Where the documents claim it.
    pub sources: Vec<Source>,
    /// What it is about.
    pub object: Object,
    /// The verdict that a correct kernel and a correct experiment lead to.
    pub expected: Expected,
    /// Kernels or objects on which another verdict is expected.
    #[serde(default, rename = "except")]
    pub exceptions: Vec<Exception>,
    /// Man page section, or kernel file, function and version, that decides it.
    pub authority: Vec<String>,
    /// The experiment that puts it to the test.
    pub experiment: String,
    /// What the experiment cannot do without.
    pub needs: Vec<Need>,
    /// Must be seen, or the experiment says nothing.
    #[serde(default)]
    pub controls: Vec<Prediction>,
    /// What the claim says must be seen: one miss refutes it.
    #[serde(default)]
    pub predicts: Vec<Prediction>,
    /// What the claim says can happen: a sighting confirms it, no sighting in a bounded time says nothing.
    #[serde(default)]
    pub sightings: Vec<Prediction>,
    /// What the claim, taken without any qualification, says as well: a miss qualifies it.
    #[serde(default)]
    pub to_the_letter: Vec<Prediction>,
    /// What is seen instead where the claim misses; it must be, or the miss says nothing.
    #[serde(default)]
    pub instead: Vec<Prediction>,
    /// Why the verdict is what it is.
    pub why: String,
}

/// The name of a claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClaimId(String);

/// A place in one of the documents.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Source {
    /// The document's number, three digits.
    pub document: String,
    /// The heading, or the list item under it.
    pub section: String,
}

/// What a claim is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Object {
    /// The buffer of `/dev/mmapdemo`.
    Device,
    /// A file in the page cache.
    File,
    /// Memory that belongs to no file.
    Anonymous,
    /// A file on a disk, which its pages have to be read from and written to.
    Disk,
    /// `/dev/zero`, a device of which each mapping is memory of its own.
    DevZero,
    /// Memory that has a name or a descriptor: POSIX or System V shared memory, or a memfd.
    SharedMemory,
    /// A process, or the kernel's view of one.
    Process,
    /// The whole system's limits and settings.
    System,
    /// A program that is not ours.
    Software,
}

/// A verdict that can be expected; "inconclusive" never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// True as it stands.
    Holds,
    /// True, but not without a condition that the claim leaves out.
    HoldsWithQualification,
    /// Not true.
    False,
}

/// Another expectation for some kernels or some device node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// Beginning of the kernel release it is for: "7.2" is for 7.2 and 7.2.12; any kernel if absent.
    pub kernel: Option<String>,
    /// The device node it is for; any object if absent.
    pub node: Option<String>,
    /// The verdict expected there.
    pub expected: Expected,
}

/// Where a verdict was reached.
#[derive(Clone, Debug)]
pub struct Setting<'a> {
    /// `uname -r`.
    pub release: &'a str,
    /// The device node under test.
    pub node: &'a str,
}

impl Claim {
    /// The verdict expected in this setting; the first exception that fits wins.
    #[must_use]
    pub fn expected_in(&self, setting: &Setting<'_>) -> Expected {
        self.exceptions
            .iter()
            .find(|exception| exception.covers(setting))
            .map_or(self.expected, |exception| exception.expected)
    }

    /// Every prediction the claim makes, with the part it plays.
    pub fn predictions(&self) -> impl Iterator<Item = (Part, &Prediction)> {
        let part = |part| move |prediction| (part, prediction);
        (self.controls.iter().map(part(Part::Control)))
            .chain(self.predicts.iter().map(part(Part::Predicts)))
            .chain(self.sightings.iter().map(part(Part::Sighting)))
            .chain(self.to_the_letter.iter().map(part(Part::ToTheLetter)))
            .chain(self.instead.iter().map(part(Part::Instead)))
    }
}

/// The part a prediction plays in the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// [`Claim::controls`].
    Control,
    /// [`Claim::predicts`].
    Predicts,
    /// [`Claim::sightings`].
    Sighting,
    /// [`Claim::to_the_letter`].
    ToTheLetter,
    /// [`Claim::instead`].
    Instead,
}

impl Exception {
    fn covers(&self, setting: &Setting<'_>) -> bool {
        let kernel = self.kernel.as_deref().is_none_or(|kernel| {
            let rest = setting.release.strip_prefix(kernel);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        });
        let node = self.node.as_deref().is_none_or(|node| node == setting.node);
        kernel && node
    }
}

impl ClaimId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ClaimId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let word = |word: &str| {
            !word.is_empty()
                && word
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        if text.contains('-') && text.split('-').all(word) {
            Ok(Self(text))
        } else {
            Err(format!("`{text}` is not a claim id in kebab-case"))
        }
    }
}

impl From<ClaimId> for String {
    fn from(id: ClaimId) -> Self {
        id.0
    }
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(' ') {
            Some((document, section)) if !section.trim().is_empty() => Ok(Self {
                document: document.to_owned(),
                section: section.trim().to_owned(),
            }),
            _ => Err(format!("`{text}` is not a document number and a section")),
        }
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.document, self.section)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Device => "device",
            Self::File => "file",
            Self::Anonymous => "anonymous",
            Self::Disk => "disk",
            Self::DevZero => "dev-zero",
            Self::SharedMemory => "shared-memory",
            Self::Process => "process",
            Self::System => "system",
            Self::Software => "software",
        })
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Holds => "holds",
            Self::HoldsWithQualification => "holds with qualification",
            Self::False => "false",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(kernel: Option<&str>, node: Option<&str>) -> Exception {
        Exception {
            kernel: kernel.map(str::to_owned),
            node: node.map(str::to_owned),
            expected: Expected::False,
        }
    }

    #[test]
    fn an_exception_covers_a_series_and_not_its_namesakes() {
        let setting = |release| Setting {
            release,
            node: "/dev/mmapdemo",
        };
        let series = exception(Some("7.2"), None);
        assert!(series.covers(&setting("7.2.12+deb13-cloud-amd64")));
        assert!(!series.covers(&setting("7.20.1")));
        assert!(!series.covers(&setting("7.3.4")));
        assert!(exception(None, Some("/dev/mmapdemo")).covers(&setting("7.3.4")));
        assert!(!exception(Some("7.3"), Some("/dev/other")).covers(&setting("7.3.4")));
    }

    #[test]
    fn ids_are_kebab_case() {
        assert!(ClaimId::try_from("shared-writes-visible".to_owned()).is_ok());
        for bad in [
            "",
            "shared",
            "Shared-writes",
            "shared--writes",
            "shared_writes-x",
        ] {
            assert!(ClaimId::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
