//! Recording: what scenarios did and what was there after each step, as `mmapdemo scenario` writes it.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::evidence::{Fact, Value};

/// The version of the form that is understood; docs/results.md.
pub const SCHEMA: u32 = 1;

/// Everything that was recorded in one run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Recording {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `uname -r`.
    pub kernel: String,
    /// The scenarios.
    pub scenarios: Vec<Story>,
}

/// One scenario as it went.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Story {
    /// Its name.
    pub name: String,
    /// A headline.
    pub title: String,
    /// What one may ask oneself before.
    pub question: String,
    /// The claims that say the same.
    #[serde(default)]
    pub claims: Vec<String>,
    /// How the device in it maps its buffer.
    pub node: Option<String>,
    /// Why it could not be done.
    pub skipped: Option<String>,
    /// What was done, in order.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// Something that was done, and what was there afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Step {
    /// The boot in which it was done, if it was not the main one.
    pub boot: Option<String>,
    /// Who did it.
    pub by: String,
    /// What, as a sentence whose subject is `by`.
    pub did: String,
    /// The call, if it was one.
    pub call: Option<String>,
    /// What came of it.
    pub result: Option<Value>,
    /// What else was seen.
    #[serde(default)]
    pub facts: Vec<Fact>,
    /// The processes, after the step.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// The frames, after the step.
    #[serde(default)]
    pub frames: Vec<Frame>,
    /// What of all this is worth a look.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// A process at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Process {
    /// Its name in the story.
    pub name: String,
    /// Its number.
    pub pid: i32,
    /// Whether it has ended.
    #[serde(default)]
    pub ended: bool,
    /// Its VMAs around the pages that the story is about.
    pub vmas: Vec<Area>,
    /// These pages.
    pub pages: Vec<Page>,
}

/// A VMA.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Area {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// `rw-s`.
    pub mode: String,
    /// Where in the object it starts, in bytes.
    pub offset: u64,
    /// The file behind it; empty for plain anonymous memory.
    pub name: String,
    /// `VmFlags`.
    pub flags: Vec<String>,
}

/// A page of a process's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Page {
    /// Its name in the story.
    #[serde(default)]
    pub label: String,
    /// Its first address.
    pub addr: u64,
    /// The page table's entry; `None` if it could not be read.
    pub pte: Option<Entry>,
    /// What `/proc/PID/pagemap` says.
    pub pagemap: MapEntry,
}

/// A page table's entry.
#[expect(clippy::struct_excessive_bools, reason = "bits of a machine word")]
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// The word, in hexadecimal.
    pub raw: String,
    /// Whether the processor uses it.
    pub present: bool,
    /// Whether a store needs no fault.
    pub writable: bool,
    /// Whether there was a store through it.
    pub dirty: bool,
    /// Whether it was used.
    pub accessed: bool,
    /// Whether instructions may be fetched through it.
    pub executable: bool,
    /// Whether the kernel keeps no account of the page.
    pub special: bool,
    /// Whether it maps a huge page.
    pub huge: bool,
    /// The frame's number, if present.
    pub pfn: u64,
}

/// What `/proc/PID/pagemap` says of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MapEntry {
    /// The frame's number, if it shows one.
    pub pfn: Option<u64>,
    /// Whether the page belongs to a file or to shared memory.
    pub file: bool,
    /// Whether it was moved to swap.
    pub swapped: bool,
}

/// A frame at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Frame {
    /// Its number.
    pub pfn: u64,
    /// Whose it is: `driver`, `anonymous`, `file`, `zero` or `kernel`.
    pub owner: String,
    /// References to it.
    pub refcount: Option<i64>,
    /// Page table entries that map it and are counted.
    pub mapcount: Option<i64>,
    /// Its first bytes, in hexadecimal.
    pub bytes: String,
}

/// Something that a step shows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Finding {
    /// A statement about the step.
    pub says: String,
    /// Whether what was recorded bears it out.
    pub seen: bool,
    /// Why that is so.
    #[serde(default)]
    pub why: String,
}

impl Recording {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// When it is none, or of another version.
    pub fn parse(text: &str) -> Result<Self> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Versioned {
            schema: u32,
        }
        let context = "it is no recording of `lab show --json`";
        let Versioned { schema } = serde_json::from_str(text).context(context)?;
        if schema != SCHEMA {
            bail!(
                "it is a recording of version {schema}, and this lab draws version {SCHEMA}; \
                 next step: record it again with `cargo lab show --json FILE`"
            );
        }
        serde_json::from_str(text).context(context)
    }

    /// Only these scenarios, all if none is named.
    ///
    /// # Errors
    ///
    /// Names one that was not recorded.
    pub fn select(mut self, names: &[String]) -> Result<Self> {
        let known: Vec<_> = self.scenarios.iter().map(|it| it.name.clone()).collect();
        if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
            bail!(
                "nothing was recorded of {unknown}; there are {}",
                known.join(", ")
            );
        }
        self.scenarios
            .retain(|story| names.is_empty() || names.contains(&story.name));
        Ok(self)
    }

    /// How many statements about what was seen are not borne out.
    #[must_use]
    pub fn nr_unseen(&self) -> usize {
        let steps = self.scenarios.iter().flat_map(|story| &story.steps);
        let findings = steps.flat_map(|step| &step.findings);
        findings.filter(|finding| !finding.seen).count()
    }
}

impl Page {
    /// The frame that the page leads to, as far as it can be seen.
    #[must_use]
    pub fn pfn(&self) -> Option<u64> {
        match &self.pte {
            Some(pte) => pte.present.then_some(pte.pfn),
            None => self.pagemap.pfn,
        }
    }
}

impl Step {
    /// The process of this name.
    #[must_use]
    pub fn process(&self, name: &str) -> Option<&Process> {
        self.processes.iter().find(|process| process.name == name)
    }

    /// The frame of this number.
    #[must_use]
    pub fn frame(&self, pfn: u64) -> Option<&Frame> {
        self.frames.iter().find(|frame| frame.pfn == pfn)
    }
}
