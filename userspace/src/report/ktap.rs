//! KTAP: one line a claim, in the form of Documentation/dev-tools/ktap.rst; pure.

use std::fmt::Write;

use crate::run::{Finding, Outcome, Standing, Trial};
use crate::verdict::Verdict;

/// The lines before the first result.
#[must_use]
pub fn head(planned: usize) -> String {
    format!("KTAP version 1\n1..{planned}\n")
}

/// The line of the `number`th result, counted from 1.
///
/// "ok" says that every verdict is the one expected, which may be "false".
#[must_use]
pub fn line(number: usize, finding: &Finding<'_>) -> String {
    let id = &finding.claim.id;
    let standing = finding.standing();
    let (word, remark) = match standing {
        Standing::AsExpected => ("ok", verdicts(finding)),
        Standing::Skipped => ("ok", format!("SKIP {}", reasons(finding, standing))),
        Standing::NotAsExpected => ("not ok", reasons(finding, standing)),
        Standing::Broke => {
            let reasons = reasons(finding, standing);
            ("not ok", format!("the lab broke: {reasons}"))
        }
    };
    format!("{word} {number} {id} # {remark}\n")
}

/// The verdict, and those of the nodes where it is another.
fn verdicts(finding: &Finding<'_>) -> String {
    let mut text = finding
        .headline()
        .and_then(Trial::verdict)
        .map_or_else(String::new, |verdict| format!("verdict {verdict}"));
    let attempts = finding.trials.iter().map(|trial| trial.attempts).max();
    if let Some(attempts @ 2..) = attempts {
        let _ = write!(text, " at attempt {attempts}");
    }
    for trial in finding.different() {
        if let (Some(node), Some(verdict)) = (trial.node, trial.verdict()) {
            let _ = write!(text, ", on {node} {verdict}");
        }
    }
    text
}

/// What the trials say that make the finding count as it does.
fn reasons(finding: &Finding<'_>, standing: Standing) -> String {
    let of_standing = |trial: &&Trial| trial.standing() == Some(standing);
    let mut reasons: Vec<String> = Vec::new();
    for trial in finding.trials.iter().filter(of_standing) {
        let on = trial
            .node
            .map_or_else(String::new, |node| format!("on {node}: "));
        let reason = one_line(&reason(trial));
        // What is the same everywhere is said once.
        if !reasons.iter().any(|other| other.ends_with(&reason)) {
            reasons.push(format!("{on}{reason}"));
        }
    }
    reasons.join("; ")
}

fn reason(trial: &Trial) -> String {
    let expected = trial.claim.expected;
    match &trial.result {
        Outcome::Skipped(reason) | Outcome::Broke(reason) | Outcome::Inapplicable(reason) => {
            reason.clone()
        }
        Outcome::Judged {
            verdict: Verdict::Inconclusive { reason },
            ..
        } => format!("verdict inconclusive, expected {expected}: {reason}"),
        Outcome::Judged { verdict, .. } => format!("verdict {verdict}, expected {expected}"),
    }
}

/// A newline would end the result, and a second `#` begin a directive.
fn one_line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('#', "")
}
