//! KTAP: one line a claim, in the form of Documentation/dev-tools/ktap.rst; pure.

use crate::run::{Finding, Outcome};
use crate::verdict::Verdict;

/// The lines before the first result.
#[must_use]
pub fn head(planned: usize) -> String {
    format!("KTAP version 1\n1..{planned}\n")
}

/// The line of the `number`th result, counted from 1.
///
/// "ok" says that the verdict is the one expected, which may be "false".
#[must_use]
pub fn line(number: usize, finding: &Finding<'_>) -> String {
    let id = &finding.claim.id;
    let expected = finding.expected;
    match (&finding.result, finding.as_expected()) {
        (Outcome::Skipped(reason), _) => format!("ok {number} {id} # SKIP {}\n", one_line(reason)),
        (Outcome::Broke(error), _) => {
            format!(
                "not ok {number} {id} # the lab broke: {}\n",
                one_line(error)
            )
        }
        (Outcome::Judged { verdict, .. }, Some(true)) => {
            format!("ok {number} {id} # verdict {verdict}\n")
        }
        (
            Outcome::Judged {
                verdict: Verdict::Inconclusive { reason },
                ..
            },
            _,
        ) => {
            let reason = one_line(reason);
            format!("not ok {number} {id} # verdict inconclusive, expected {expected}: {reason}\n")
        }
        (Outcome::Judged { verdict, .. }, _) => {
            format!("not ok {number} {id} # verdict {verdict}, expected {expected}\n")
        }
    }
}

/// A newline would end the result, and a second `#` begin a directive.
fn one_line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('#', "")
}
