//! JSON: everything a run found, for programs; pure.
//!
//! `docs/results.md` describes the form. Fields may be added within a version of the schema; one that is
//! renamed, removed or changes its meaning makes a new version.

use serde::Serialize;

use crate::catalogue::{Catalogue, Document, Group};
use crate::claim::{ClaimId, Expected, Object, Source};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::run::{Finding, Outcome, Standing, Summary, Trial};
use crate::strategy::Strategy;
use crate::verdict::{Check, Verdict, checks};

/// The version of the form.
pub const SCHEMA: u32 = 2;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    kernel: &'a str,
    documents: &'a [Document],
    groups: &'a [Group],
    summary: Summary,
    claims: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a ClaimId,
    group: &'a str,
    statement: &'a str,
    sources: &'a [Source],
    object: Object,
    authority: &'a [String],
    experiment: &'a str,
    /// What the experiment does.
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'a str>,
    standing: Standing,
    trials: Vec<Place<'a>>,
}

#[derive(Serialize)]
struct Place<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Strategy>,
    expected: Expected,
    why: &'a str,
    attempts: usize,
    #[serde(flatten)]
    result: Result<'a>,
}

#[derive(Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
enum Result<'a> {
    Judged {
        #[serde(flatten)]
        verdict: &'a Verdict,
        as_expected: bool,
        checks: Vec<Check>,
        evidence: &'a Evidence,
    },
    Inapplicable {
        reason: &'a str,
    },
    Skipped {
        reason: &'a str,
    },
    Broke {
        reason: &'a str,
    },
}

/// The whole report.
///
/// # Errors
///
/// Never in practice: all keys are text.
pub fn render(
    release: &str,
    catalogue: &Catalogue,
    experiments: &[&Experiment],
    findings: &[Finding<'_>],
) -> serde_json::Result<String> {
    let entry = |finding| Entry::new(finding, experiments);
    let report = Report {
        schema: SCHEMA,
        kernel: release,
        documents: &catalogue.documents,
        groups: &catalogue.groups,
        summary: Summary::of(findings.len(), findings),
        claims: findings.iter().map(entry).collect(),
    };
    serde_json::to_string_pretty(&report)
}

impl<'a> Entry<'a> {
    fn new(finding: &'a Finding<'a>, experiments: &[&'a Experiment]) -> Self {
        let claim = finding.claim;
        let mut named = experiments.iter();
        let experiment = named.find(|experiment| experiment.name == claim.experiment);
        Self {
            id: &claim.id,
            group: &claim.group,
            statement: &claim.statement,
            sources: &claim.sources,
            object: claim.object,
            authority: &claim.authority,
            experiment: &claim.experiment,
            summary: experiment.map(|experiment| experiment.summary),
            standing: finding.standing(),
            trials: finding.trials.iter().map(Place::from).collect(),
        }
    }
}

impl<'a> From<&'a Trial> for Place<'a> {
    fn from(trial: &'a Trial) -> Self {
        let claim = &trial.claim;
        let result = match &trial.result {
            Outcome::Judged { verdict, evidence } => Result::Judged {
                verdict,
                as_expected: verdict.is(claim.expected),
                checks: checks(claim, evidence),
                evidence,
            },
            Outcome::Inapplicable(reason) => Result::Inapplicable { reason },
            Outcome::Skipped(reason) => Result::Skipped { reason },
            Outcome::Broke(reason) => Result::Broke { reason },
        };
        Self {
            node: trial.node,
            expected: claim.expected,
            why: &claim.why,
            attempts: trial.attempts,
            result,
        }
    }
}
