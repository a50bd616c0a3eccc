//! Explanation: one claim with its sources, experiment, evidence, verdict and reason; pure.

use std::fmt::Write;

use crate::claim::{Part, Source};
use crate::evidence::Observation;
use crate::experiment::Experiment;
use crate::need::Need;
use crate::report::style::{Mark, Style, paragraph};
use crate::report::terminal::difference;
use crate::run::{Finding, Outcome, Trial};
use crate::verdict::{Check, Verdict, checks};

/// Observations shown that no prediction mentions; the JSON report has all.
const SHOWN_OBSERVATIONS: usize = 4;
const MARGIN: usize = 12;

/// The explanation of a finding.
#[must_use]
pub fn render(finding: &Finding<'_>, experiment: Option<&Experiment>, style: Style) -> String {
    let claim = finding.claim;
    let mut text = format!("{}\n", style.mark(Mark::Heading, claim.id.as_str()));
    field(&mut text, "claim", &claim.statement);
    let sources: Vec<_> = claim.sources.iter().map(Source::to_string).collect();
    field(&mut text, "sources", &sources.join("; "));
    if let Some(experiment) = experiment {
        field(&mut text, "experiment", experiment.summary);
    }
    let needs: Vec<_> = claim.needs.iter().map(Need::to_string).collect();
    if !needs.is_empty() {
        field(&mut text, "needs", &needs.join(", "));
    }
    if let Some(trial) = finding.headline() {
        tried(&mut text, trial, style);
    }
    for trial in finding.different() {
        let node = trial
            .node
            .map_or_else(String::new, |node| format!("on {node}"));
        field(&mut text, &node, &difference(trial));
    }
    let authority = claim.authority.join("; ");
    field(&mut text, "authority", &authority);
    text
}

/// The trial by which the claim is listed.
fn tried(text: &mut String, trial: &Trial, style: Style) {
    let expected = trial.claim.expected;
    match &trial.result {
        Outcome::Skipped(reason) | Outcome::Inapplicable(reason) => field(text, "not run", reason),
        Outcome::Broke(reason) => field(text, "lab broke", reason),
        Outcome::Judged { verdict, evidence } => {
            let checks = checks(&trial.claim, evidence);
            predictions(text, &checks, style);
            observations(text, evidence.iter(), &checks);
            let mut shown = style.mark(verdict.into(), &verdict.to_string());
            if !verdict.is(expected) {
                let _ = write!(shown, ", but {expected} was expected");
            }
            if let Verdict::Inconclusive { reason } = verdict {
                let _ = write!(shown, ": {reason}");
            }
            let _ = writeln!(text, "{:MARGIN$}{shown}", "verdict");
        }
    }
    if !matches!(trial.result, Outcome::Judged { .. }) {
        field(text, "expected", &expected.to_string());
    }
    field(text, "why", &trial.claim.why);
}

/// What was said to be seen beside what was.
fn predictions(text: &mut String, checks: &[Check], style: Style) {
    let width = checks
        .iter()
        .map(|check| check.prediction.len())
        .max()
        .unwrap_or(0);
    let mut title = "evidence";
    for check in checks {
        let (mark, word) = match check.agrees {
            Some(true) => (Mark::Good, "yes"),
            Some(false) => (Mark::Bad, "no "),
            None => (Mark::Open, "?  "),
        };
        let part = match check.part {
            Part::Control => "control",
            Part::Predicts => "claimed",
            Part::Sighting => "possible",
            Part::ToTheLetter => "literal",
            Part::Instead => "instead",
        };
        let word = style.mark(mark, word);
        let Check {
            prediction, values, ..
        } = check;
        let _ = writeln!(
            text,
            "{title:MARGIN$}{part:8} {word} {prediction:width$}  {values}"
        );
        title = "";
    }
}

/// What else was seen.
fn observations<'a>(
    text: &mut String,
    seen: impl Iterator<Item = &'a Observation>,
    checks: &[Check],
) {
    let mentioned = |label: &str| {
        let mut words = checks.iter().flat_map(|check| check.prediction.split(' '));
        words.any(|word| word == label || word.rsplit_once('.').is_some_and(|it| it.0 == label))
    };
    let others: Vec<_> = seen.filter(|seen| !mentioned(&seen.label)).collect();
    let mut title = "also seen";
    for Observation { label, value } in others.iter().take(SHOWN_OBSERVATIONS) {
        let _ = writeln!(text, "{title:MARGIN$}{label} = {value}");
        title = "";
    }
    if let Some(left_out @ 1..) = others.len().checked_sub(SHOWN_OBSERVATIONS) {
        let _ = writeln!(text, "{title:MARGIN$}({left_out} more: run --json)");
    }
}

/// A titled paragraph.
fn field(text: &mut String, title: &str, body: &str) {
    paragraph(text, &format!("{title:MARGIN$}"), body);
}
