//! Verdict: whether a claim is true, judged from evidence alone; pure.

use std::fmt;

use serde::Serialize;

use crate::claim::{Claim, Expected, Part};
use crate::evidence::Evidence;
use crate::prediction::{Agreement, Prediction};

/// The answer to: is the claim true? Says nothing about whether the lab worked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// True as it stands.
    Holds,
    /// True, but not without a condition that it leaves out.
    HoldsWithQualification,
    /// Not true.
    False,
    /// The evidence does not decide.
    Inconclusive {
        /// Why not.
        reason: String,
    },
}

/// One prediction beside what was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The part it plays.
    pub part: Part,
    /// The prediction.
    pub prediction: String,
    /// The labels with the values seen.
    pub seen: String,
    /// The values seen.
    #[serde(skip)]
    pub values: String,
    /// Whether the two agree; `None` where the evidence does not say.
    pub agrees: Option<bool>,
}

/// Judges a claim.
///
/// In this order: a control that fails, or a prediction about something that was not seen, leaves the
/// claim undecided; so does an event that only could have happened and did not. One miss in `predicts`
/// makes it false, one in `to_the_letter` qualifies it; both only if what is said to happen `instead`
/// was seen, so that no accident can refute a claim.
#[must_use]
pub fn judge(claim: &Claim, evidence: &Evidence) -> Verdict {
    let mut missed = Vec::new();
    for (part, prediction) in claim.predictions() {
        match (part, prediction.agrees_with(evidence)) {
            (_, Agreement::Yes) => {}
            (_, Agreement::Unknown(reason)) => return Verdict::Inconclusive { reason },
            (Part::Control | Part::Sighting, Agreement::No) => {
                let seen = prediction.with_values(evidence);
                let reason = format!("needs {prediction}, but {seen}");
                return Verdict::Inconclusive { reason };
            }
            (part, Agreement::No) => missed.push((part, prediction)),
        }
    }
    let missed_in = |wanted| missed.iter().find(|(part, _)| *part == wanted);
    let verdict = match (missed_in(Part::Predicts), missed_in(Part::ToTheLetter)) {
        (Some(_), _) => Verdict::False,
        (None, Some(_)) => Verdict::HoldsWithQualification,
        (None, None) => return Verdict::Holds,
    };
    match missed_in(Part::Instead) {
        None => verdict,
        Some((_, prediction)) => Verdict::Inconclusive {
            reason: format!(
                "neither as claimed nor as explained ({prediction}): {}",
                prediction.with_values(evidence)
            ),
        },
    }
}

/// Every prediction of a claim beside what was seen, in the order in which [`judge`] weighs them.
#[must_use]
pub fn checks(claim: &Claim, evidence: &Evidence) -> Vec<Check> {
    let check = |(part, prediction): (Part, &Prediction)| Check {
        part,
        prediction: prediction.to_string(),
        seen: prediction.with_values(evidence),
        values: prediction.values(evidence),
        agrees: match prediction.agrees_with(evidence) {
            Agreement::Yes => Some(true),
            Agreement::No => Some(false),
            Agreement::Unknown(_) => None,
        },
    };
    claim.predictions().map(check).collect()
}

impl Verdict {
    /// Whether this is the verdict that was expected; "inconclusive" never is.
    #[must_use]
    pub fn is(&self, expected: Expected) -> bool {
        matches!(
            (self, expected),
            (Self::Holds, Expected::Holds)
                | (
                    Self::HoldsWithQualification,
                    Expected::HoldsWithQualification
                )
                | (Self::False, Expected::False)
        )
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => f.pad("holds"),
            Self::HoldsWithQualification => f.pad("holds with qualification"),
            Self::False => f.pad("false"),
            Self::Inconclusive { .. } => f.pad("inconclusive"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A claim with one prediction of each part, each about a label of its own.
    fn claim() -> Claim {
        toml::from_str(
            r#"
            id = "shared-it-is"
            group = "shared"
            statement = "It is shared."
            sources = ["001 §1"]
            object = "device"
            expected = "holds"
            authority = ["mmap(2)"]
            experiment = "look"
            needs = []
            controls = ["control.ran == true"]
            predicts = ["main.value == 1"]
            sightings = ["rare.count > 0"]
            to_the_letter = ["extra.value == 1"]
            instead = ["truth.value == 1"]
            why = "Because."
            "#,
        )
        .unwrap()
    }

    fn evidence(control: bool, main: u64, rare: u64, extra: u64, truth: u64) -> Evidence {
        let mut evidence = Evidence::new();
        evidence.note("control.ran", control);
        evidence.note("main.value", main);
        evidence.note("rare.count", rare);
        evidence.note("extra.value", extra);
        evidence.note("truth.value", truth);
        evidence
    }

    fn verdict(evidence: &Evidence) -> Verdict {
        judge(&claim(), evidence)
    }

    #[test]
    fn a_claim_holds_if_all_it_predicts_is_seen() {
        assert_eq!(verdict(&evidence(true, 1, 5, 1, 0)), Verdict::Holds);
    }

    #[test]
    fn one_miss_refutes_a_claim() {
        assert_eq!(verdict(&evidence(true, 2, 5, 1, 1)), Verdict::False);
        assert_eq!(verdict(&evidence(true, 2, 5, 2, 1)), Verdict::False);
    }

    #[test]
    fn a_miss_to_the_letter_only_qualifies_it() {
        assert_eq!(
            verdict(&evidence(true, 1, 5, 2, 1)),
            Verdict::HoldsWithQualification
        );
    }

    #[test]
    fn a_miss_without_its_explanation_decides_nothing() {
        let is_open = |evidence| matches!(verdict(&evidence), Verdict::Inconclusive { .. });
        assert!(is_open(evidence(true, 2, 5, 1, 0)));
        assert!(is_open(evidence(true, 1, 5, 2, 0)));
    }

    #[test]
    fn a_failed_control_or_a_race_that_did_not_show_decides_nothing() {
        let Verdict::Inconclusive { reason } = verdict(&evidence(false, 1, 5, 1, 1)) else {
            panic!("decided without its control");
        };
        assert_eq!(reason, "needs control.ran == true, but control.ran = false");
        assert!(matches!(
            verdict(&evidence(true, 1, 0, 1, 1)),
            Verdict::Inconclusive { .. }
        ));
    }

    #[test]
    fn what_was_not_observed_decides_nothing() {
        let Verdict::Inconclusive { reason } = verdict(&Evidence::new()) else {
            panic!("decided without evidence");
        };
        assert_eq!(reason, "control.ran was not seen");
    }

    #[test]
    fn inconclusive_is_never_the_expected_verdict() {
        let open = Verdict::Inconclusive {
            reason: String::new(),
        };
        for expected in [
            Expected::Holds,
            Expected::HoldsWithQualification,
            Expected::False,
        ] {
            assert!(!open.is(expected));
        }
        assert!(Verdict::False.is(Expected::False));
        assert!(!Verdict::Holds.is(Expected::False));
    }
}
