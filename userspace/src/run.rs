//! Run: puts claims to the test one after the other and keeps count; a missing result is never a pass.

use std::collections::HashMap;

use serde::Serialize;

use crate::claim::{Claim, Expected};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::verdict::{Verdict, judge};

/// What became of one claim.
#[derive(Clone, Debug)]
pub struct Finding<'a> {
    /// The claim.
    pub claim: &'a Claim,
    /// The verdict expected on this kernel and device.
    pub expected: Expected,
    /// What happened.
    pub result: Outcome,
}

/// How the test of a claim ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The experiment ran and the evidence was judged.
    Judged {
        /// The verdict.
        verdict: Verdict,
        /// What it rests on.
        evidence: Evidence,
    },
    /// Something that it needs is missing here.
    Skipped(String),
    /// The lab broke.
    Broke(String),
}

/// The count of a whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Claims that were to be tested.
    pub planned: usize,
    /// Claims that were judged.
    pub run: usize,
    /// Of these, the ones with the verdict expected.
    pub as_expected: usize,
    /// Of these, the others.
    pub not_as_expected: usize,
    /// Claims not tested because something is missing here.
    pub skipped: usize,
    /// Claims whose experiment broke.
    pub broke: usize,
}

/// Tests each claim in order and hands every finding to `tell` as soon as there is one.
pub fn run<'a>(
    claims: &[&'a Claim],
    experiments: &[&Experiment],
    fixture: &Fixture,
    mut tell: impl FnMut(&Finding<'a>),
) -> Vec<Finding<'a>> {
    let mut seen = HashMap::new();
    let mut findings = Vec::new();
    for claim in claims {
        let finding = Finding {
            claim,
            expected: claim.expected_in(&fixture.setting()),
            result: test(claim, experiments, fixture, &mut seen),
        };
        tell(&finding);
        findings.push(finding);
    }
    findings
}

/// Claims that share an experiment are judged by the same evidence.
fn test<'a>(
    claim: &'a Claim,
    experiments: &[&Experiment],
    fixture: &Fixture,
    seen: &mut HashMap<&'a str, Evidence>,
) -> Outcome {
    if let Some(reason) = claim.needs.iter().find_map(|need| need.unmet(fixture)) {
        return Outcome::Skipped(reason);
    }
    let evidence = match seen.get(claim.experiment.as_str()) {
        Some(evidence) => evidence.clone(),
        None => match experiments
            .iter()
            .find(|experiment| experiment.name == claim.experiment)
        {
            None => return Outcome::Broke(format!("no experiment `{}`", claim.experiment)),
            Some(experiment) => match (experiment.run)(fixture) {
                Ok(evidence) => evidence,
                Err(error) => return Outcome::Broke(error.to_string()),
            },
        },
    };
    seen.insert(&claim.experiment, evidence.clone());
    Outcome::Judged {
        verdict: judge(claim, &evidence),
        evidence,
    }
}

impl Finding<'_> {
    /// Whether the verdict is the one expected; `None` where there is no verdict.
    #[must_use]
    pub fn as_expected(&self) -> Option<bool> {
        match &self.result {
            Outcome::Judged { verdict, .. } => Some(verdict.is(self.expected)),
            Outcome::Skipped(_) | Outcome::Broke(_) => None,
        }
    }
}

impl Summary {
    /// Counts findings against the number planned.
    #[must_use]
    pub fn of(planned: usize, findings: &[Finding<'_>]) -> Self {
        let mut summary = Self {
            planned,
            ..Self::default()
        };
        for finding in findings {
            match (&finding.result, finding.as_expected()) {
                (_, Some(true)) => summary.as_expected += 1,
                (_, Some(false)) => summary.not_as_expected += 1,
                (Outcome::Skipped(_), None) => summary.skipped += 1,
                (_, None) => summary.broke += 1,
            }
        }
        summary.run = summary.as_expected + summary.not_as_expected;
        summary
    }
}
