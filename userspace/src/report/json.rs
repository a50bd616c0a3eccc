//! JSON: everything a run found, for programs; pure.
//!
//! The top level is an object with `schema` ([`SCHEMA`]), `kernel`, `device`, `summary` and `claims`. Each
//! claim has `id`, `expected`, `result` (`judged`, `skipped`, `broke`); judged ones also `verdict`,
//! `as_expected`, `checks` and `evidence`, the others `reason`. Fields may be added within a schema
//! version; one that is renamed, removed or changes its meaning makes a new version.

use serde::Serialize;

use crate::claim::{ClaimId, Expected, Setting};
use crate::evidence::Evidence;
use crate::run::{Finding, Outcome, Summary};
use crate::verdict::{Check, Verdict, checks};

/// The version of the form described above.
pub const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    kernel: &'a str,
    device: &'a str,
    summary: Summary,
    claims: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a ClaimId,
    statement: &'a str,
    expected: Expected,
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
    setting: &Setting<'_>,
    planned: usize,
    findings: &[Finding<'_>],
) -> serde_json::Result<String> {
    let report = Report {
        schema: SCHEMA,
        kernel: setting.release,
        device: setting.node,
        summary: Summary::of(planned, findings),
        claims: findings.iter().map(Entry::from).collect(),
    };
    serde_json::to_string_pretty(&report)
}

impl<'a> From<&'a Finding<'a>> for Entry<'a> {
    fn from(finding: &'a Finding<'a>) -> Self {
        let claim = finding.claim;
        let result = match &finding.result {
            Outcome::Judged { verdict, evidence } => Result::Judged {
                verdict,
                as_expected: verdict.is(finding.expected),
                checks: checks(claim, evidence),
                evidence,
            },
            Outcome::Skipped(reason) => Result::Skipped { reason },
            Outcome::Broke(reason) => Result::Broke { reason },
        };
        Self {
            id: &claim.id,
            statement: &claim.statement,
            expected: finding.expected,
            result,
        }
    }
}
