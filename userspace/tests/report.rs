//! The reports, word for word, on evidence that is made up.
//!
//! `UPDATE_GOLDEN=1 cargo test` writes what the reports say now into `tests/data`; the change then shows
//! in the diff.

#![expect(
    clippy::unwrap_used,
    reason = "what helps a test may panic as the test may"
)]

use std::path::PathBuf;

use mmapdemo::catalogue::{Catalogue, ClaimsFile};
use mmapdemo::device::Device;
use mmapdemo::error::Error;
use mmapdemo::evidence::{CallEnd, Evidence, Fault, Touch};
use mmapdemo::exit_code::ExitCode;
use mmapdemo::experiment::Experiment;
use mmapdemo::fixture::Fixture;
use mmapdemo::report::style::Style;
use mmapdemo::report::terminal::Detail;
use mmapdemo::report::{explanation, json, junit, ktap, terminal};
use mmapdemo::run::{Finding, Summary, run};

const CLAIMS: [ClaimsFile<'static>; 1] = [ClaimsFile {
    name: "claims-made-up.toml",
    text: include_str!("data/claims-made-up.toml"),
}];

const EXPERIMENTS: [&Experiment; 2] = [
    &Experiment {
        name: "told",
        summary: "Sees what the test tells it to see.",
        run: |_| Ok(told()),
    },
    &Experiment {
        name: "broken",
        summary: "Breaks.",
        run: |_| {
            Err(Error::Gone {
                who: "the reader".to_owned(),
                what: "it read # 1".to_owned(),
            })
        },
    },
];

fn told() -> Evidence {
    let mut evidence = Evidence::new();
    evidence.note("writer.map", CallEnd::Ok);
    evidence.note("writer.bytes", &b"hello"[..]);
    evidence.note("reader.bytes", &b"hello"[..]);
    evidence.note(
        "readonly.store",
        Touch::Faulted(Fault::from_raw(11, 2, 0x7f00_007b)),
    );
    evidence.note("first.faults", 1);
    evidence.note("second.faults", 0);
    evidence.note("rare.count", 0);
    evidence
}

/// Runs the made-up claims and hands the findings to `look`.
fn with_findings(look: impl FnOnce(&[Finding<'_>])) {
    let catalogue = Catalogue::parse(&CLAIMS, &EXPERIMENTS).unwrap();
    let claims = catalogue.select(&[]).unwrap();
    let fixture = Fixture::new(Device::new("/dev/no-such-device")).unwrap();
    look(&run(&claims, &EXPERIMENTS, &[fixture], |_| {}));
}

fn compare_with_golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, golden, "{} is different", path.display());
}

#[test]
fn terminal_groups_by_verdict_and_puts_false_claims_first() {
    with_findings(|findings| {
        let text = terminal::render(findings.len(), findings, Detail::Paragraph, Style::Plain);
        compare_with_golden("report.txt", &text);
    });
}

#[test]
fn one_line_a_claim_where_there_are_many() {
    with_findings(|findings| {
        let text = terminal::render(findings.len(), findings, Detail::Line, Style::Plain);
        compare_with_golden("report-lines.txt", &text);
    });
}

#[test]
fn junit_has_a_case_for_every_trial() {
    with_findings(|findings| {
        let catalogue = Catalogue::parse(&CLAIMS, &EXPERIMENTS).unwrap();
        let text = junit::render("7.3.4", &catalogue, findings).unwrap();
        compare_with_golden("report.junit.xml", &text);
    });
}

#[test]
fn colours_change_no_word() {
    with_findings(|findings| {
        let coloured =
            terminal::render(findings.len(), findings, Detail::Paragraph, Style::Coloured);
        assert!(
            coloured.contains("\u{1b}[31mmade-it-is-false\u{1b}[0m"),
            "{coloured}"
        );
        let mut plain = String::new();
        for (index, part) in coloured.split('\u{1b}').enumerate() {
            let words = part.split_once('m').map_or("", |(_code, words)| words);
            plain.push_str(if index == 0 { part } else { words });
        }
        assert_eq!(
            plain,
            terminal::render(findings.len(), findings, Detail::Paragraph, Style::Plain)
        );
    });
}

#[test]
fn ktap_says_ok_only_to_expected_verdicts_and_skips() {
    with_findings(|findings| {
        let mut text = ktap::head(findings.len());
        for (index, finding) in findings.iter().enumerate() {
            text += &ktap::line(index + 1, finding);
        }
        compare_with_golden("report.ktap", &text);
    });
}

#[test]
fn json_has_all_evidence_and_a_schema_version() {
    with_findings(|findings| {
        let catalogue = Catalogue::parse(&CLAIMS, &EXPERIMENTS).unwrap();
        let text = json::render("7.3.4", &catalogue, &EXPERIMENTS, findings).unwrap() + "\n";
        compare_with_golden("report.json", &text);
    });
}

#[test]
fn explanations_show_evidence_beside_predictions() {
    with_findings(|findings| {
        let mut text = String::new();
        for finding in findings {
            let name = &finding.claim.experiment;
            let experiment = EXPERIMENTS
                .iter()
                .find(|experiment| experiment.name == name);
            text += &explanation::render(finding, experiment.copied(), Style::Plain);
            text.push('\n');
        }
        compare_with_golden("report.explain", &text);
    });
}

#[test]
fn every_way_to_end_is_counted() {
    with_findings(|findings| {
        let summary = Summary::of(findings.len(), findings);
        let expected = Summary {
            planned: 7,
            run: 5,
            as_expected: 3,
            not_as_expected: 2,
            skipped: 1,
            broke: 1,
        };
        assert_eq!(summary, expected);
        assert_eq!(ExitCode::from(summary), ExitCode::LabBroke);
    });
}
