//! Claim: one statement about mmap that can be true or false, and what would show it; pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::need::Need;
use crate::prediction::Prediction;
use crate::strategy::Strategy;

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
    /// Kernels or nodes on which something else is expected.
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

/// What is different on some kernels or on one node of the device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// Beginning of the kernel release it is for: "7.2" is for 7.2 and 7.2.12; any kernel if absent.
    pub kernel: Option<String>,
    /// The device node it is for; any object if absent.
    pub node: Option<Strategy>,
    /// Why the claim says nothing there and is not tried; then nothing else is given but where.
    pub inapplicable: Option<String>,
    /// The verdict expected there.
    pub expected: Option<Expected>,
    /// Instead of [`Claim::controls`].
    pub controls: Option<Vec<Prediction>>,
    /// Instead of [`Claim::predicts`].
    pub predicts: Option<Vec<Prediction>>,
    /// Instead of [`Claim::sightings`].
    pub sightings: Option<Vec<Prediction>>,
    /// Instead of [`Claim::to_the_letter`].
    pub to_the_letter: Option<Vec<Prediction>>,
    /// Instead of [`Claim::instead`].
    pub instead: Option<Vec<Prediction>>,
    /// Instead of [`Claim::why`].
    pub why: Option<String>,
}

/// Where a verdict is reached.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// `uname -r`.
    pub release: &'a str,
    /// The device node under test, if it is one of the driver's.
    pub node: Option<Strategy>,
}

impl Claim {
    /// The claim as it is put to the test in this setting; the first exception that fits wins.
    ///
    /// # Errors
    ///
    /// Why it says nothing there.
    pub fn in_setting(&self, setting: Setting<'_>) -> Result<Self, &str> {
        let mut exceptions = self.exceptions.iter();
        let exception = exceptions.find(|exception| exception.covers(setting));
        exception.map_or_else(|| Ok(self.clone()), |exception| exception.applied_to(self))
    }

    /// The claim, and every version of it that an exception makes.
    pub fn versions(&self) -> impl Iterator<Item = Self> {
        let others = self.exceptions.iter();
        let others = others.filter_map(|exception| exception.applied_to(self).ok());
        std::iter::once(self.clone()).chain(others)
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
    fn covers(&self, setting: Setting<'_>) -> bool {
        let kernel = self.kernel.as_deref().is_none_or(|kernel| {
            let rest = setting.release.strip_prefix(kernel);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        });
        let node = self.node.is_none_or(|node| Some(node) == setting.node);
        kernel && node
    }

    /// The claim with what the exception gives in place of its own.
    fn applied_to(&self, claim: &Claim) -> Result<Claim, &str> {
        if let Some(reason) = &self.inapplicable {
            return Err(reason);
        }
        Ok(Claim {
            expected: or(self.expected.as_ref(), &claim.expected),
            controls: or(self.controls.as_ref(), &claim.controls),
            predicts: or(self.predicts.as_ref(), &claim.predicts),
            sightings: or(self.sightings.as_ref(), &claim.sightings),
            to_the_letter: or(self.to_the_letter.as_ref(), &claim.to_the_letter),
            instead: or(self.instead.as_ref(), &claim.instead),
            why: or(self.why.as_ref(), &claim.why),
            ..claim.clone()
        })
    }

    fn says_anything(&self) -> bool {
        let lists = [
            &self.controls,
            &self.predicts,
            &self.sightings,
            &self.to_the_letter,
            &self.instead,
        ];
        self.expected.is_some() || self.why.is_some() || lists.into_iter().any(Option::is_some)
    }

    /// What is contradictory about it.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        if self.kernel.is_none() && self.node.is_none() {
            return Some("an exception names neither a kernel nor a node");
        }
        match (&self.inapplicable, self.says_anything()) {
            (Some(_), true) => Some("an exception that is inapplicable expects something"),
            (None, false) => Some("an exception changes nothing"),
            _ => None,
        }
    }
}

fn or<T: Clone>(given: Option<&T>, own: &T) -> T {
    given.unwrap_or(own).clone()
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

    fn exception(text: &str) -> Exception {
        toml::from_str(text).unwrap()
    }

    fn covers(text: &str, release: &str) -> bool {
        let node = Some(Strategy::Pfn);
        exception(text).covers(Setting { release, node })
    }

    #[test]
    fn an_exception_covers_a_series_and_not_its_namesakes() {
        let series = "kernel = \"7.2\"";
        assert!(covers(series, "7.2.12+deb13-cloud-amd64"));
        assert!(!covers(series, "7.20.1"));
        assert!(!covers(series, "7.3.4"));
    }

    #[test]
    fn an_exception_covers_its_node_alone() {
        assert!(covers("node = \"pfn\"", "7.3.4"));
        assert!(!covers("node = \"fault\"", "7.3.4"));
        assert!(covers("kernel = \"7.3\"\nnode = \"pfn\"", "7.3.4"));
        assert!(!covers("kernel = \"7.2\"\nnode = \"pfn\"", "7.3.4"));
        assert!(toml::from_str::<Exception>("node = \"pdf\"").is_err());
    }

    #[test]
    fn an_exception_must_be_for_something_and_say_something() {
        for (text, sound) in [
            ("node = \"pfn\"\nexpected = \"false\"", true),
            ("node = \"pfn\"\ninapplicable = \"no frames\"", true),
            ("expected = \"false\"", false),
            ("node = \"pfn\"", false),
            (
                "node = \"pfn\"\ninapplicable = \"no frames\"\nwhy = \"so\"",
                false,
            ),
        ] {
            assert_eq!(exception(text).problem().is_none(), sound, "{text}");
        }
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
