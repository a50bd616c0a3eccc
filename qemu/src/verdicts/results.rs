//! Results: what a run found about the claims, as `lab run --json` writes it (docs/results.md).

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::evidence::{Fact, Value};

/// The version of the form that is understood.
pub const SCHEMA: u32 = 2;

/// Everything that a run found.
#[derive(Clone, Debug, Deserialize)]
pub struct Results {
    /// `uname -r`.
    pub kernel: String,
    /// Who makes the claims.
    pub documents: Vec<Document>,
    /// How they are grouped.
    pub groups: Vec<Group>,
    /// How many there are.
    pub summary: Summary,
    /// The claims.
    pub claims: Vec<Claim>,
}

/// A document.
#[derive(Clone, Debug, Deserialize)]
pub struct Document {
    /// Its number: `003`.
    pub number: String,
    /// Its title.
    pub title: String,
}

/// A group of claims.
#[derive(Clone, Debug, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its title.
    pub title: String,
}

/// Numbers of claims.
#[derive(Clone, Debug, Deserialize)]
pub struct Summary {
    /// All.
    pub planned: u64,
    /// Tried.
    pub run: u64,
    /// As expected.
    pub as_expected: u64,
    /// Not as expected.
    pub not_as_expected: u64,
    /// Not tried.
    pub skipped: u64,
    /// Whose experiment broke.
    pub broke: u64,
}

/// A claim, and what was found.
#[derive(Clone, Debug, Deserialize)]
pub struct Claim {
    /// Its name.
    pub id: String,
    /// Its group.
    pub group: String,
    /// What is claimed.
    pub statement: String,
    /// Where documents make it: number and section.
    pub sources: Vec<String>,
    /// What it is about.
    pub object: String,
    /// What decides it.
    #[serde(default)]
    pub authority: Vec<String>,
    /// What tries it.
    pub experiment: String,
    /// What that does.
    #[serde(default)]
    pub summary: String,
    /// `as-expected`, `not-as-expected`, `skipped` or `broke`.
    pub standing: String,
    /// One for each node that it was tried on.
    pub trials: Vec<Trial>,
}

/// A claim on one node.
#[derive(Clone, Debug, Deserialize)]
pub struct Trial {
    /// `insert`, `pfn` or `fault`; `None` if it is not about the device.
    pub node: Option<String>,
    /// The verdict expected.
    pub expected: String,
    /// The reason for that.
    #[serde(default)]
    pub why: String,
    /// `judged`, `inapplicable`, `skipped` or `broke`.
    pub result: String,
    /// Why it was not judged, or not clearly.
    pub reason: Option<String>,
    /// If judged.
    pub verdict: Option<String>,
    /// Whether that is the one expected.
    pub as_expected: Option<bool>,
    /// What was predicted, and seen.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// What was seen.
    #[serde(default)]
    pub evidence: Vec<Fact>,
}

/// A prediction.
#[derive(Clone, Debug, Deserialize)]
pub struct Check {
    /// What it is for.
    pub part: String,
    /// What it says.
    pub prediction: String,
    /// What was seen.
    #[serde(default)]
    pub seen: Option<String>,
    /// Whether that agrees; `None` if nothing was seen.
    pub agrees: Option<bool>,
}

/// What is to be said of a claim in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is not true.
    False,
    /// True with a condition that it leaves out.
    Qualified,
    /// True.
    Holds,
    /// The evidence decided nothing.
    Inconclusive,
    /// Nothing was judged.
    NotJudged,
}

/// All, as they are listed.
pub const VERDICTS: [Verdict; 5] = [
    Verdict::False,
    Verdict::Qualified,
    Verdict::Holds,
    Verdict::Inconclusive,
    Verdict::NotJudged,
];

impl Verdict {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::False => "False",
            Self::Qualified => "Holds with qualification",
            Self::Holds => "Holds",
            Self::Inconclusive => "Left open",
            Self::NotJudged => "Not judged",
        }
    }

    /// As a mark and as the name of a class.
    #[must_use]
    pub fn mark(self) -> (&'static str, &'static str) {
        match self {
            Self::False => ("\u{2717}", "false"),
            Self::Qualified => ("\u{223c}", "qualified"),
            Self::Holds => ("\u{2713}", "holds"),
            Self::Inconclusive => ("?", "open"),
            Self::NotJudged => ("\u{2013}", "not-judged"),
        }
    }
}

impl Trial {
    /// What came of it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.verdict.as_deref() {
            Some("false") => Verdict::False,
            Some("holds-with-qualification") => Verdict::Qualified,
            Some("holds") => Verdict::Holds,
            Some(_) => Verdict::Inconclusive,
            None => Verdict::NotJudged,
        }
    }

    /// A number that was seen.
    #[must_use]
    pub fn count(&self, label: &str) -> Option<u64> {
        let fact = self.evidence.iter().find(|fact| fact.label == label)?;
        match fact.value {
            Value::Count(count) => Some(count),
            _ => None,
        }
    }
}

impl Claim {
    /// The verdict on the first node that gave one.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut judged = self.trials.iter().map(Trial::verdict);
        judged
            .find(|verdict| *verdict != Verdict::NotJudged)
            .unwrap_or(Verdict::NotJudged)
    }

    /// Whether nodes differ in the verdict, or in whether the claim says something about them at all.
    #[must_use]
    pub fn depends_on_the_node(&self) -> bool {
        let said = |trial: &Trial| (trial.verdict(), trial.result.clone());
        let mut said = self.trials.iter().map(said);
        let first = said.next();
        said.any(|other| Some(other) != first)
    }

    /// The numbers of the documents that make it, each once.
    #[must_use]
    pub fn documents(&self) -> Vec<&str> {
        let mut numbers: Vec<_> = self
            .sources
            .iter()
            .filter_map(|source| source.split(' ').next())
            .collect();
        numbers.dedup();
        numbers
    }
}

impl Results {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// When they are none, or of another version.
    pub fn parse(text: &str) -> Result<Self> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Versioned {
            schema: u32,
        }
        let context = "these are no results of `lab run --json`";
        let Versioned { schema } = serde_json::from_str(text).context(context)?;
        if schema != SCHEMA {
            bail!(
                "these are results of version {schema}, and this lab reads version {SCHEMA}; \
                 next step: make them again with `cargo lab run --json FILE`"
            );
        }
        serde_json::from_str(text).context(context)
    }
}
