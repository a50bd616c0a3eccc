//! Run: puts claims to the test one after the other and keeps count; a missing result is never a pass.

use std::collections::HashMap;

use serde::Serialize;

use crate::boot::Boot;
use crate::claim::{Claim, Object};
use crate::error::Result;
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::need::Need;
use crate::record::Record;
use crate::strategy::Strategy;
use crate::verdict::{Verdict, judge};

/// What became of one claim.
#[derive(Clone, Debug)]
pub struct Finding<'a> {
    /// The claim.
    pub claim: &'a Claim,
    /// What became of it on each node, or one trial if it is not about the device.
    pub trials: Vec<Trial>,
}

/// What became of one claim in one place.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The node it was tried on; `None` if it is not about the device.
    pub node: Option<Strategy>,
    /// The claim as it is put to the test there.
    pub claim: Claim,
    /// How often the experiment was done; again only where the evidence decided nothing.
    pub attempts: usize,
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
    /// The claim says nothing about this node.
    Inapplicable(String),
    /// Something that it needs is missing here.
    Skipped(String),
    /// The lab broke.
    Broke(String),
}

/// What a finding counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Every verdict is the one expected.
    AsExpected,
    /// It was not tried everywhere.
    Skipped,
    /// Some verdict is not the one expected.
    NotAsExpected,
    /// Some experiment broke.
    Broke,
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

/// Attempts at a claim whose evidence decides nothing: a race need not show, and on a loaded machine two processes may
/// hardly ever run at the same time. Each attempt is judged on its own.
const ATTEMPTS: usize = 3;

/// Evidence so far, by experiment and by the place of the fixture in which it was seen.
type Seen<'a> = HashMap<(&'a str, usize), Evidence>;

/// Tests each claim in order and hands every finding to `tell` as soon as there is one.
///
/// There is a fixture for each node; what is not about the device is tried in the first alone.
pub fn run<'a>(
    claims: &[&'a Claim],
    experiments: &[&Experiment],
    fixtures: &[Fixture],
    mut tell: impl FnMut(&Finding<'a>),
) -> Vec<Finding<'a>> {
    let mut seen = HashMap::new();
    let mut findings = Vec::new();
    for claim in claims {
        let mut trials = Vec::new();
        for (place, fixture) in places(claim, fixtures).iter().enumerate() {
            let evidence = |seen: &mut Seen<'a>| {
                met(claim, fixture)?;
                let known = seen.get(&(claim.experiment.as_str(), place)).cloned();
                let evidence = known.map_or_else(|| look(claim, experiments, fixture), Ok)?;
                seen.insert((&claim.experiment, place), evidence.clone());
                Ok(evidence)
            };
            let mut trial = trial(claim, fixture, || evidence(&mut seen));
            while trial.is_worth_another(fixture) {
                seen.remove(&(claim.experiment.as_str(), place));
                trial = Trial {
                    attempts: trial.attempts + 1,
                    ..self::trial(claim, fixture, || evidence(&mut seen))
                };
            }
            trials.push(trial);
        }
        let finding = Finding { claim, trials };
        tell(&finding);
        findings.push(finding);
    }
    findings
}

/// Runs the experiments of those claims that are to be observed in this boot, each once in each place.
///
/// # Errors
///
/// If an experiment breaks or is not to be had here, or if `tell` fails.
pub fn observe(
    claims: &[&Claim],
    experiments: &[&Experiment],
    fixtures: &[Fixture],
    mut tell: impl FnMut(Record) -> Result<()>,
) -> Result<()> {
    let mut done = Vec::new();
    for claim in claims {
        for (place, fixture) in places(claim, fixtures).iter().enumerate() {
            let wanted =
                claim.boot() == fixture.boot && claim.in_setting(fixture.setting()).is_ok();
            if !wanted || done.contains(&(claim.experiment.as_str(), place)) {
                continue;
            }
            done.push((claim.experiment.as_str(), place));
            match met(claim, fixture).and_then(|()| look(claim, experiments, fixture)) {
                Ok(evidence) => tell(Record {
                    boot: fixture.boot,
                    experiment: claim.experiment.clone(),
                    node: node(claim, fixture),
                    evidence,
                })?,
                Err(Outcome::Broke(error)) => return Err(broke(claim, error)),
                // Whoever judges says that nothing was recorded.
                Err(_) => {}
            }
        }
    }
    Ok(())
}

/// Does the experiment of a claim once in one place, whatever it sees.
///
/// # Errors
///
/// If it breaks, or if something is missing here that it needs.
pub fn perform(claim: &Claim, experiments: &[&Experiment], fixture: &Fixture) -> Result<()> {
    let done = met(claim, fixture).and_then(|()| look(claim, experiments, fixture));
    match done {
        Err(Outcome::Broke(why) | Outcome::Skipped(why) | Outcome::Inapplicable(why)) => {
            Err(broke(claim, why))
        }
        Ok(_) | Err(Outcome::Judged { .. }) => Ok(()),
    }
}

/// Does the experiments of those claims that are about the device and change nothing but it, with a stand-in for it.
/// What that cannot do ends its experiment, and what is found means nothing.
#[must_use]
pub fn rehearse<'a>(
    claims: &[&'a Claim],
    experiments: &[&Experiment],
    fixture: &Fixture,
) -> Vec<Finding<'a>> {
    let is_harmless = |need: &Need| matches!(need, Need::Device | Need::Pagemap);
    let can_be_rehearsed =
        |claim: &&&Claim| claim.object == Object::Device && claim.needs.iter().all(is_harmless);
    let mut seen = HashMap::new();
    let mut evidence = |claim: &Claim| {
        let seen = seen.entry(claim.experiment.clone());
        seen.or_insert_with(|| look(claim, experiments, fixture))
            .clone()
    };
    let rehearsed = claims.iter().filter(can_be_rehearsed).map(|claim| Finding {
        claim,
        trials: vec![trial(claim, fixture, || evidence(claim))],
    });
    rehearsed.collect()
}

fn broke(claim: &Claim, message: String) -> crate::error::Error {
    crate::error::Error::Reported {
        who: format!("experiment {}", claim.experiment),
        message,
    }
}

/// Where a claim is tried.
#[must_use]
pub fn places<'a>(claim: &Claim, fixtures: &'a [Fixture]) -> &'a [Fixture] {
    let all = if claim.object == Object::Device {
        fixtures.len()
    } else {
        1
    };
    fixtures.get(..all).unwrap_or(fixtures)
}

fn node(claim: &Claim, fixture: &Fixture) -> Option<Strategy> {
    fixture.strategy.filter(|_| claim.object == Object::Device)
}

fn trial(
    claim: &Claim,
    fixture: &Fixture,
    evidence: impl FnOnce() -> Result<Evidence, Outcome>,
) -> Trial {
    let node = node(claim, fixture);
    let there = match claim.in_setting(fixture.setting()) {
        Ok(there) => there,
        Err(reason) => {
            return Trial {
                node,
                claim: claim.clone(),
                attempts: 0,
                result: Outcome::Inapplicable(reason.to_owned()),
            };
        }
    };
    let result = match evidence() {
        Ok(evidence) => Outcome::Judged {
            verdict: judge(&there, &evidence),
            evidence,
        },
        Err(outcome) => outcome,
    };
    Trial {
        node,
        claim: there,
        attempts: 1,
        result,
    }
}

/// Whether all is there that a claim needs, even if others share its experiment.
fn met(claim: &Claim, fixture: &Fixture) -> Result<(), Outcome> {
    let unmet = claim.needs.iter().find_map(|need| need.unmet(fixture));
    unmet.map_or(Ok(()), |reason| Err(Outcome::Skipped(reason)))
}

/// What the experiment of a claim sees, now or in the boot in which it was to look.
///
/// # Errors
///
/// Why it sees nothing.
fn look(
    claim: &Claim,
    experiments: &[&Experiment],
    fixture: &Fixture,
) -> Result<Evidence, Outcome> {
    let boot = claim.boot();
    if boot != fixture.boot {
        let Some(evidence) = fixture.recorded(boot, &claim.experiment) else {
            return Err(Outcome::Skipped(boot.reason().to_owned()));
        };
        // What a power cut left behind is still to be looked at.
        if boot != Boot::PowerCut {
            return Ok(evidence.clone());
        }
    }
    let mut named = experiments.iter();
    match named.find(|experiment| experiment.name == claim.experiment) {
        None => Err(Outcome::Broke(format!(
            "no experiment `{}`",
            claim.experiment
        ))),
        Some(experiment) => {
            (experiment.run)(fixture).map_err(|error| Outcome::Broke(error.to_string()))
        }
    }
}

impl Claim {
    /// The boot in which its experiment looks first.
    #[must_use]
    pub fn boot(&self) -> Boot {
        let boot = self.needs.iter().find_map(|need: &Need| need.boot());
        boot.unwrap_or_default()
    }
}

impl Trial {
    /// What it counts as; `None` if the claim says nothing about this node.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        match &self.result {
            Outcome::Inapplicable(_) => None,
            Outcome::Broke(_) => Some(Standing::Broke),
            Outcome::Skipped(_) => Some(Standing::Skipped),
            Outcome::Judged { verdict, .. } if verdict.is(self.claim.expected) => {
                Some(Standing::AsExpected)
            }
            Outcome::Judged { .. } => Some(Standing::NotAsExpected),
        }
    }

    /// Whether the experiment can be done again here, and may then decide something.
    fn is_worth_another(&self, fixture: &Fixture) -> bool {
        let open = matches!(self.verdict(), Some(Verdict::Inconclusive { .. }));
        open && self.claim.boot() == fixture.boot && self.attempts < ATTEMPTS
    }

    /// The verdict, if there is one.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        match &self.result {
            Outcome::Judged { verdict, .. } => Some(verdict),
            _ => None,
        }
    }
}

impl Finding<'_> {
    /// The worst of its trials; a claim that was tried nowhere is skipped.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let worst = self.trials.iter().filter_map(Trial::standing).max();
        worst.unwrap_or(Standing::Skipped)
    }

    /// The trial by which it is listed: the first on a node that the claim says something about.
    #[must_use]
    pub fn headline(&self) -> Option<&Trial> {
        let mut trials = self.trials.iter();
        trials
            .find(|trial| trial.standing().is_some())
            .or_else(|| self.trials.first())
    }

    /// The trials whose verdict is not that of the headline, or that were not made at all.
    pub fn different(&self) -> impl Iterator<Item = &Trial> {
        let headline = self.headline().and_then(Trial::verdict);
        self.trials
            .iter()
            .filter(move |trial| match (headline, trial.verdict()) {
                (Some(Verdict::Inconclusive { .. }), Some(Verdict::Inconclusive { .. })) => false,
                (headline, verdict) => verdict != headline,
            })
    }
}

impl Summary {
    /// Counts findings against the number planned.
    #[must_use]
    pub fn of(planned: usize, findings: &[Finding<'_>]) -> Self {
        let count = |standing| {
            let them = findings.iter();
            them.filter(|finding| finding.standing() == standing)
                .count()
        };
        let (as_expected, not_as_expected) =
            (count(Standing::AsExpected), count(Standing::NotAsExpected));
        Self {
            planned,
            run: as_expected + not_as_expected,
            as_expected,
            not_as_expected,
            skipped: count(Standing::Skipped),
            broke: count(Standing::Broke),
        }
    }
}
