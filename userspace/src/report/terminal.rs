//! Terminal: the report a person reads: grouped by verdict, the false claims first; pure.

use std::collections::HashSet;
use std::fmt::Write;

use crate::claim::Part;
use crate::report::style::{Mark, Style, paragraph};
use crate::run::{Finding, Outcome, Standing, Summary, Trial};
use crate::verdict::{Check, Verdict, checks};

/// Checks shown under a claim; `explain` shows all.
const SHOWN_CHECKS: usize = 3;
/// Columns of a claim's name where each claim has one line.
const ID_WIDTH: usize = 46;
/// Columns of what was seen, in such a line.
const SEEN_WIDTH: usize = 60;

/// How much is said of each claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// One line.
    Line,
    /// A paragraph.
    Paragraph,
}

/// The whole report.
#[must_use]
pub fn render(planned: usize, findings: &[Finding<'_>], detail: Detail, style: Style) -> String {
    let mut text = String::new();
    for section in Section::ALL {
        let inside: Vec<_> = findings
            .iter()
            .filter(|finding| Section::of(finding) == section)
            .collect();
        if inside.is_empty() {
            continue;
        }
        let title = format!("{} ({})", section.title(), inside.len());
        let _ = writeln!(text, "{}", style.mark(Mark::Heading, &title));
        for finding in &inside {
            match (section, detail) {
                (Section::Skipped, _) => {}
                (_, Detail::Line) => line(&mut text, finding, style),
                (_, Detail::Paragraph) => entry(&mut text, finding, style),
            }
        }
        if section == Section::Skipped {
            skipped(&mut text, &inside, style);
        }
        text.push('\n');
    }
    summary(&mut text, Summary::of(planned, findings), findings, style);
    text
}

/// The parts of the report, in order.
#[derive(Clone, Copy, PartialEq, Eq)]
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

    /// By the verdict on the first node; a broken or skipped trial anywhere goes before.
    fn of(finding: &Finding<'_>) -> Self {
        match finding.standing() {
            Standing::Broke => return Self::Broke,
            Standing::Skipped => return Self::Skipped,
            Standing::AsExpected | Standing::NotAsExpected => {}
        }
        match finding.headline().and_then(Trial::verdict) {
            Some(Verdict::False) => Self::False,
            Some(Verdict::HoldsWithQualification) => Self::Qualified,
            Some(Verdict::Holds) => Self::Holds,
            Some(Verdict::Inconclusive { .. }) | None => Self::Inconclusive,
        }
    }
}

/// The name of a claim in the colour of its verdict, padded.
fn id(finding: &Finding<'_>, width: usize, style: Style) -> String {
    let mark = finding.headline().and_then(Trial::verdict);
    style.mark(
        mark.map_or(Mark::Open, Mark::from),
        &format!("{:width$}", finding.claim.id),
    )
}

/// A claim in one line: its name, what was seen, and where that is different.
fn line(text: &mut String, finding: &Finding<'_>, style: Style) {
    let _ = write!(text, "  {}", id(finding, ID_WIDTH, style));
    let seen = finding.headline().map(seen).unwrap_or_default();
    let mut shown: String = seen.chars().take(SEEN_WIDTH).collect();
    if shown.len() < seen.len() {
        shown.push_str("...");
    }
    let _ = write!(text, "  {shown}");
    for trial in finding.different() {
        let node = trial.node.map(|node| node.to_string()).unwrap_or_default();
        let word = match &trial.result {
            Outcome::Judged { verdict, .. } => verdict.to_string(),
            Outcome::Inapplicable(_) => continue,
            Outcome::Skipped(_) => "skipped".to_owned(),
            Outcome::Broke(reason) => format!("broke: {reason}"),
        };
        let _ = write!(
            text,
            "  {}",
            style.mark(Mark::Faint, &format!("({node}: {word})"))
        );
    }
    end_line(text, finding, style);
}

/// Ends the line of a claim's name: where the verdict is not the one expected.
fn end_line(text: &mut String, finding: &Finding<'_>, style: Style) {
    for trial in unexpected(finding) {
        let node = trial
            .node
            .map_or_else(String::new, |node| format!(" on {node}"));
        let wrong = format!("NOT AS EXPECTED{node} ({})", trial.claim.expected);
        let _ = write!(text, "  {}", style.mark(Mark::Bad, &wrong));
    }
    text.push('\n');
}

fn unexpected<'a>(finding: &'a Finding<'_>) -> impl Iterator<Item = &'a Trial> {
    let trials = finding.trials.iter();
    trials.filter(|trial| trial.standing() == Some(Standing::NotAsExpected))
}

fn entry(text: &mut String, finding: &Finding<'_>, style: Style) {
    let _ = write!(text, "  {}", id(finding, 0, style));
    end_line(text, finding, style);
    field(text, "said", &finding.claim.statement);
    if let Some(trial) = finding.headline() {
        field(text, "seen", &seen(trial));
        match &trial.result {
            Outcome::Judged {
                verdict: Verdict::Inconclusive { reason },
                ..
            } => field(text, "open", reason),
            // What is as the documents say needs no reason here; `explain` has it.
            Outcome::Judged {
                verdict: Verdict::Holds,
                ..
            } => {}
            Outcome::Judged { .. } => field(text, "why", &trial.claim.why),
            Outcome::Inapplicable(reason) | Outcome::Skipped(reason) | Outcome::Broke(reason) => {
                field(text, "open", reason);
            }
        }
    }
    for trial in finding.different() {
        let node = trial.node.map(|node| node.to_string()).unwrap_or_default();
        field(text, &node, &difference(trial));
    }
}

/// What is different on a node, and why.
#[must_use]
pub fn difference(trial: &Trial) -> String {
    match &trial.result {
        Outcome::Judged {
            verdict: Verdict::Inconclusive { reason },
            ..
        } => format!("inconclusive: {reason}"),
        Outcome::Judged { verdict, .. } => {
            format!("{verdict}: {}. {}", seen(trial), trial.claim.why)
        }
        Outcome::Inapplicable(reason) => format!("not tried: {reason}"),
        Outcome::Skipped(reason) => format!("skipped: {reason}"),
        Outcome::Broke(reason) => format!("the lab broke: {reason}"),
    }
}

/// What decides a trial.
fn seen(trial: &Trial) -> String {
    match &trial.result {
        Outcome::Judged { evidence, .. } => telling(checks(&trial.claim, evidence)).join("; "),
        Outcome::Inapplicable(reason) | Outcome::Skipped(reason) | Outcome::Broke(reason) => {
            reason.clone()
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
    let reason = |finding: &Finding<'_>| {
        let mut trials = finding.trials.iter();
        trials.find_map(|trial| match &trial.result {
            Outcome::Skipped(reason) => Some(reason.clone()),
            _ => None,
        })
    };
    let mut reasons: Vec<_> = findings.iter().map(|finding| reason(finding)).collect();
    let mut told = HashSet::new();
    reasons.retain(|reason| told.insert(reason.clone()));
    for shared in reasons {
        let title = shared
            .as_deref()
            .unwrap_or("it says nothing about any node");
        let _ = writeln!(text, "  {}", style.mark(Mark::Open, title));
        for finding in findings {
            if reason(finding) == shared {
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
            .filter(|finding| Section::of(finding) == section)
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
    for finding in findings {
        if finding.standing() == Standing::NotAsExpected {
            let nodes: Vec<_> = unexpected(finding)
                .filter_map(|trial| trial.node)
                .map(|node| node.to_string())
                .collect();
            let on = if nodes.is_empty() {
                String::new()
            } else {
                format!(" (on {})", nodes.join(", "))
            };
            let _ = writeln!(text, "not as expected: {}{on}", finding.claim.id);
        }
    }
}
