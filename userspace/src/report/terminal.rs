//! Terminal: the report a person reads: grouped by verdict, the false claims first; pure.

use std::collections::HashSet;
use std::fmt::Write;

use crate::claim::Part;
use crate::report::style::{Mark, Style, paragraph};
use crate::run::{Finding, Outcome, Summary};
use crate::verdict::{Check, Verdict, checks};

/// Checks shown under a claim; `explain` shows all.
const SHOWN_CHECKS: usize = 3;

/// The whole report.
#[must_use]
pub fn render(planned: usize, findings: &[Finding<'_>], style: Style) -> String {
    let mut text = String::new();
    for section in Section::ALL {
        let inside: Vec<_> = findings
            .iter()
            .filter(|finding| section.has(finding))
            .collect();
        if inside.is_empty() {
            continue;
        }
        let title = format!("{} ({})", section.title(), inside.len());
        let _ = writeln!(text, "{}", style.mark(Mark::Heading, &title));
        if matches!(section, Section::Skipped) {
            skipped(&mut text, &inside, style);
        } else {
            for finding in inside {
                entry(&mut text, finding, style);
            }
        }
        text.push('\n');
    }
    summary(&mut text, Summary::of(planned, findings), findings, style);
    text
}

/// The parts of the report, in order.
#[derive(Clone, Copy)]
enum Section {
    False,
    Qualified,
    Holds,
    Inconclusive,
    Skipped,
    Broke,
}

impl Section {
    const ALL: [Self; 6] = [
        Self::False,
        Self::Qualified,
        Self::Holds,
        Self::Inconclusive,
        Self::Skipped,
        Self::Broke,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::False => "False",
            Self::Qualified => "Holds with qualification",
            Self::Holds => "Holds",
            Self::Inconclusive => "Inconclusive",
            Self::Skipped => "Skipped",
            Self::Broke => "The lab broke",
        }
    }

    fn has(self, finding: &Finding<'_>) -> bool {
        match (self, &finding.result) {
            (Self::Skipped, Outcome::Skipped(_)) | (Self::Broke, Outcome::Broke(_)) => true,
            (section, Outcome::Judged { verdict, .. }) => matches!(
                (section, verdict),
                (Self::False, Verdict::False)
                    | (Self::Qualified, Verdict::HoldsWithQualification)
                    | (Self::Holds, Verdict::Holds)
                    | (Self::Inconclusive, Verdict::Inconclusive { .. })
            ),
            _ => false,
        }
    }
}

fn entry(text: &mut String, finding: &Finding<'_>, style: Style) {
    let claim = finding.claim;
    let id = |mark: Mark| style.mark(mark, claim.id.as_str());
    match &finding.result {
        Outcome::Judged { verdict, evidence } => {
            let _ = write!(text, "  {}", id(verdict.into()));
            if !verdict.is(finding.expected) {
                let wrong = format!("NOT AS EXPECTED ({})", finding.expected);
                let _ = write!(text, "  {}", style.mark(Mark::Bad, &wrong));
            }
            text.push('\n');
            field(text, "said", &claim.statement);
            let seen = telling(checks(claim, evidence));
            field(text, "seen", &seen.join("; "));
            match verdict {
                Verdict::Inconclusive { reason } => field(text, "open", reason),
                // What is as the documents say needs no reason here; `explain` has it.
                Verdict::Holds => {}
                _ => field(text, "why", &claim.why),
            }
        }
        Outcome::Skipped(reason) | Outcome::Broke(reason) => {
            let _ = writeln!(text, "  {}  {reason}", id(Mark::Open));
        }
    }
}

/// A titled paragraph of an entry.
fn field(text: &mut String, title: &str, body: &str) {
    paragraph(text, &format!("    {title:6}"), body);
}

/// What the deciding checks saw: first what contradicts the claim, then what bears it out.
fn telling(checks: Vec<Check>) -> Vec<String> {
    let (missed, met): (Vec<_>, Vec<_>) = checks
        .into_iter()
        .filter(|check| !matches!(check.part, Part::Control | Part::Instead))
        .partition(|check| check.agrees != Some(true));
    let seen: Vec<String> = (missed.into_iter().chain(met))
        .map(|check| check.seen)
        .collect();
    let mut told = HashSet::new();
    seen.iter()
        // Several checks may look at one value; what says more includes what says less.
        .filter(|one| {
            !seen
                .iter()
                .any(|other| other != *one && other.starts_with(one.as_str()))
        })
        .filter(|one| told.insert((*one).clone()))
        .take(SHOWN_CHECKS)
        .cloned()
        .collect()
}

/// Claims not run, under the reason that they share.
fn skipped(text: &mut String, findings: &[&Finding<'_>], style: Style) {
    let mut reasons: Vec<&str> = Vec::new();
    for finding in findings {
        if let Outcome::Skipped(reason) = &finding.result {
            if !reasons.contains(&reason.as_str()) {
                reasons.push(reason);
            }
        }
    }
    for reason in reasons {
        let _ = writeln!(text, "  {}", style.mark(Mark::Open, reason));
        for finding in findings {
            if matches!(&finding.result, Outcome::Skipped(other) if other == reason) {
                let _ = writeln!(text, "      {}", finding.claim.id);
            }
        }
    }
}

fn summary(text: &mut String, summary: Summary, findings: &[Finding<'_>], style: Style) {
    let Summary {
        planned,
        run,
        as_expected,
        not_as_expected,
        skipped,
        broke,
    } = summary;
    let mark = if not_as_expected + broke > 0 {
        Mark::Bad
    } else {
        Mark::Heading
    };
    let mut line = format!(
        "{planned} claims planned, {run} run: {as_expected} as expected, {not_as_expected} not as \
         expected; {skipped} skipped"
    );
    if broke > 0 {
        let _ = write!(line, "; the lab broke on {broke}");
    }
    let _ = writeln!(text, "{}", style.mark(mark, &line));
    let count = |section: Section| {
        findings
            .iter()
            .filter(|finding| section.has(finding))
            .count()
    };
    let _ = writeln!(
        text,
        "of what was judged, {} false, {} true with a qualification, {} true, {} left open",
        count(Section::False),
        count(Section::Qualified),
        count(Section::Holds),
        count(Section::Inconclusive)
    );
    for finding in findings
        .iter()
        .filter(|finding| finding.as_expected() == Some(false))
    {
        let _ = writeln!(text, "not as expected: {}", finding.claim.id);
    }
}
