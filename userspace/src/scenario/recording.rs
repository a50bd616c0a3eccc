//! Recording: what scenarios did and what was there after each step, for whoever draws it; pure.
//!
//! `docs/results.md` describes the form.

use serde::{Deserialize, Serialize};

use crate::boot::Boot;
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Value};
use crate::frame::Frame;
use crate::page_table::Entry;
use crate::procfs::MapEntry;
use crate::strategy::Strategy;

/// The version of the form. Fields may be added within a version.
pub const SCHEMA: u32 = 1;

/// Everything that was recorded in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `uname -r`.
    pub kernel: String,
    /// The scenarios, in the order of the catalogue.
    pub scenarios: Vec<Story>,
}

/// One scenario as it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// Its name.
    pub name: String,
    /// A headline.
    pub title: String,
    /// What one may ask oneself before.
    pub question: String,
    /// The claims that say the same, `userspace/claims/`.
    pub claims: Vec<String>,
    /// How the device in it maps its buffer; absent without a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Strategy>,
    /// Why it could not be done here; absent if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// What was done, in order.
    pub steps: Vec<Step>,
}

/// Something that was done, and what was there afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The boot in which it was done, if it was not the main one.
    #[serde(default, skip_serializing_if = "is_main")]
    pub boot: Boot,
    /// Who did it: a process by its name, the driver, or the host.
    pub by: String,
    /// What, as a sentence whose subject is `by`.
    pub did: String,
    /// The call, if it was one, with its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// What else was seen.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub facts: Evidence,
    /// The processes, after the step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
    /// The frames that they have and those that belong to the story, after the step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<Frame>,
    /// What of all this is worth a look, and whether it was so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// A process at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its name in the story.
    pub name: String,
    /// Its number.
    pub pid: i32,
    /// Whether it has ended.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ended: bool,
    /// Its VMAs around the pages that the story is about.
    pub vmas: Vec<Area>,
    /// These pages.
    pub pages: Vec<Page>,
}

/// A VMA, from `/proc/PID/smaps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Area {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// What may be done, and whether it is shared: `rw-s`.
    pub mode: String,
    /// Where in the object it starts, in bytes.
    pub offset: u64,
    /// The file behind it, or the kernel's word for what it is; empty for plain anonymous memory.
    pub name: String,
    /// `VmFlags`.
    pub flags: Vec<String>,
}

/// A page of a process's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Its name in the story; empty if it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// Its first address.
    pub addr: u64,
    /// The page table's entry, as the processor reads it; absent if the table could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pte: Option<Entry>,
    /// What `/proc/PID/pagemap` says of it.
    pub pagemap: MapEntry,
}

/// Something that a step shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A statement about the step.
    pub says: String,
    /// Whether what was recorded bears it out.
    pub seen: bool,
    /// Why that is so; only worth telling if it was seen.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_main(boot: &Boot) -> bool {
    *boot == Boot::Main
}

fn is_empty(evidence: &Evidence) -> bool {
    evidence.iter().next().is_none()
}

impl Recording {
    /// Nothing yet, of this kernel.
    #[must_use]
    pub fn new(kernel: &str) -> Self {
        Self {
            schema: SCHEMA,
            kernel: kernel.to_owned(),
            scenarios: Vec::new(),
        }
    }

    /// The recording as text, a line for each scenario.
    ///
    /// # Errors
    ///
    /// Never in practice: all keys are text.
    pub fn to_text(&self) -> Result<String> {
        let garbled = |error: serde_json::Error| Error::Garbled {
            what: "the recording".to_owned(),
            detail: error.to_string(),
        };
        let kernel = serde_json::to_string(&self.kernel).map_err(garbled)?;
        let lines = self.scenarios.iter().map(serde_json::to_string);
        let lines: Vec<_> = lines.collect::<Result<_, _>>().map_err(garbled)?;
        let schema = self.schema;
        let lines = lines.join(",\n");
        Ok(format!(
            "{{\"schema\":{schema},\"kernel\":{kernel},\"scenarios\":[\n{lines}\n]}}\n"
        ))
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// If it is none, or of another version.
    pub fn parse(text: &str) -> Result<Self> {
        let garbled = |detail: String| Error::Garbled {
            what: "the recording".to_owned(),
            detail,
        };
        let read: Self = serde_json::from_str(text).map_err(|error| garbled(error.to_string()))?;
        if read.schema != SCHEMA {
            return Err(garbled(format!(
                "it has version {}, not {SCHEMA}",
                read.schema
            )));
        }
        Ok(read)
    }

    /// What was recorded of a scenario.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Story> {
        self.scenarios.iter().find(|story| story.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_up() -> Recording {
        let mut facts = Evidence::new();
        facts.note("a.sees", vec![0x6b]);
        let step = Step {
            by: "A".to_owned(),
            did: "loads".to_owned(),
            facts,
            ..Step::default()
        };
        let story = Story {
            name: "it".to_owned(),
            title: "It".to_owned(),
            question: "What?".to_owned(),
            claims: Vec::new(),
            node: Some(Strategy::Insert),
            skipped: None,
            steps: vec![step],
        };
        Recording {
            scenarios: vec![story.clone(), story],
            ..Recording::new("7.3")
        }
    }

    #[test]
    fn a_recording_survives_the_way() {
        let text = made_up().to_text().unwrap();
        assert_eq!(text.lines().count(), 4);
        assert_eq!(Recording::parse(&text).unwrap(), made_up());
    }

    #[test]
    fn another_version_is_refused() {
        let text = made_up().to_text().unwrap();
        let other = text.replace("\"schema\":1", "\"schema\":2");
        let error = Recording::parse(&other).unwrap_err().to_string();
        assert!(error.contains("version 2"), "{error}");
        assert!(Recording::parse(&text[..40]).is_err());
    }
}
