//! The documents' claims, judged by evidence that a guest saw, and by the same evidence falsified.
//!
//! `data/evidence-7.3.jsonl` is what `mmapdemo observe` printed on Debian's 7.3.4, one experiment a line.

#![expect(
    clippy::unwrap_used,
    reason = "what helps a test may panic as the test may"
)]

use mmapdemo::CLAIMS_OF_THE_DOCUMENTS;
use mmapdemo::boot::Boot;
use mmapdemo::catalogue::{Catalogue, ClaimsFile};
use mmapdemo::claim::{Claim, Setting};
use mmapdemo::evidence::{CallEnd, Evidence, Fault, Touch, Value};
use mmapdemo::experiment;
use mmapdemo::need::Need;
use mmapdemo::record::Records;
use mmapdemo::strategy::Strategy;
use mmapdemo::verdict::{Verdict, judge};
use proptest::prelude::*;
use proptest::sample::{Index, select};

const SAVED: &str = include_str!("data/evidence-7.3.jsonl");

fn catalogue() -> Catalogue {
    Catalogue::parse(CLAIMS_OF_THE_DOCUMENTS, &experiment::all()).unwrap()
}

/// The claim as it is on each node for which its experiment has evidence, with that evidence.
fn for_each_claim(mut look: impl FnMut(&Claim, &Evidence)) {
    let saved = Records::parse(SAVED).unwrap();
    for claim in catalogue().claims {
        if claim.needs.contains(&Need::ExternalSoftware) {
            continue;
        }
        let mut nr_trials = 0;
        for node in NODES {
            // A power cut is judged by what the main boot saw of it.
            let boots = [claim.boot(), Boot::Main];
            let find = |boot| saved.find(boot, &claim.experiment, node);
            let Some(evidence) = boots.into_iter().rev().find_map(find) else {
                continue;
            };
            let release = "7.3.4";
            if let Ok(there) = claim.in_setting(Setting { release, node }) {
                look(&there, evidence);
                nr_trials += 1;
            }
        }
        assert!(nr_trials > 0, "{} has no saved evidence", claim.id);
    }
}

const NODES: [Option<Strategy>; 4] = [
    None,
    Some(Strategy::Insert),
    Some(Strategy::Pfn),
    Some(Strategy::Fault),
];

/// Something else of the same type.
fn falsified(value: &Value) -> Value {
    match value {
        Value::Bytes(bytes) => Value::Bytes(bytes.iter().map(|byte| !byte).collect()),
        Value::Count(0) => Value::Count(1),
        Value::Count(_) | Value::Addr(_) => Value::Count(0),
        Value::Flag(flag) => Value::Flag(!flag),
        Value::Call(CallEnd::Ok) => Value::Call(CallEnd::Refused("EIO".to_owned())),
        Value::Call(CallEnd::Refused(_)) => Value::Call(CallEnd::Ok),
        Value::Touch(Touch::Completed(_)) => Touch::Faulted(Fault::from_raw(4, 1, 0)).into(),
        Value::Touch(Touch::Faulted(_)) => Touch::Completed(0).into(),
        Value::Pfn(None) => Value::Pfn(Some(1)),
        Value::Pfn(Some(_)) => Value::Pfn(None),
        Value::Words(_) => Value::Words(Vec::new()),
        Value::Text(text) => Value::Text(format!("not-{text}")),
    }
}

#[test]
fn evidence_of_a_guest_leads_to_the_verdicts_expected() {
    for_each_claim(|claim, evidence| {
        let verdict = judge(claim, evidence);
        assert!(verdict.is(claim.expected), "{}: {verdict:?}", claim.id);
    });
}

#[test]
fn without_evidence_nothing_is_judged() {
    for_each_claim(|claim, _| {
        let verdict = judge(claim, &Evidence::new());
        assert!(
            matches!(verdict, Verdict::Inconclusive { .. }),
            "{}: {verdict:?}",
            claim.id
        );
    });
}

/// Whether the verdict changes if something else was seen under a label of the prediction: another value,
/// or the value that was seen under its other label.
fn matters(claim: &Claim, evidence: &Evidence, prediction: &str) -> bool {
    let labels = prediction.split(' ');
    let seen: Vec<_> = labels.filter_map(|label| evidence.whole(label)).collect();
    let changes = |label: &str, value: Value| {
        let mut other = evidence.clone();
        other.note(label, value);
        !judge(claim, &other).is(claim.expected)
    };
    seen.iter().any(|one| {
        let others = seen.iter().map(|other| other.value.clone());
        let mut values = others.chain([falsified(&one.value)]);
        values.any(|value| changes(&one.label, value))
    })
}

#[test]
fn every_prediction_rests_on_something_that_matters() {
    let mut idle = Vec::new();
    for_each_claim(|claim, evidence| {
        let predictions = claim
            .predictions()
            .map(|(_, prediction)| prediction.to_string());
        for prediction in predictions.filter(|text| !matters(claim, evidence, text)) {
            idle.push(format!("{}: {prediction}", claim.id));
        }
    });
    assert_eq!(idle, Vec::<String>::new());
}

/// The files of the claims, of which one has `noise` in the place of the bytes at `from`.
fn spoilt(
    which: Index,
    from: Index,
    len: Index,
    noise: &str,
) -> (Vec<(&'static str, String)>, bool) {
    let files = CLAIMS_OF_THE_DOCUMENTS;
    let which = which.index(files.len());
    let mut texts: Vec<_> = files
        .iter()
        .map(|file| (file.name, file.text.to_owned()))
        .collect();
    let text = &mut texts[which].1;
    let floor = |at: usize| {
        (0..=at)
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0)
    };
    let from = floor(from.index(text.len() + 1));
    let until = floor(from + len.index(100).min(text.len() - from));
    text.replace_range(from..until, noise);
    let same = files
        .iter()
        .zip(&texts)
        .all(|(file, (_, text))| file.text == text);
    (texts, same)
}

fn parsed(texts: &[(&str, String)]) -> Result<Catalogue, mmapdemo::catalogue::CatalogueError> {
    let files: Vec<_> = texts
        .iter()
        .map(|(name, text)| ClaimsFile { name, text })
        .collect();
    Catalogue::parse(&files, &experiment::all())
}

proptest! {
    // Each of them reads all of the claims.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn spoilt_claims_are_refused_or_still_claims(
        which in any::<Index>(), from in any::<Index>(), len in any::<Index>(),
        noise in select(&["", "\0", "[[claim]]\n", "id = 'x'\n", "\"", "\n", "= ", "\u{feff}"][..]),
    ) {
        let (texts, same) = spoilt(which, from, len, noise);
        match parsed(&texts) {
            Ok(catalogue) => prop_assert!(!catalogue.claims.is_empty()),
            Err(error) => prop_assert!(!same && !error.to_string().is_empty()),
        }
    }
}

#[test]
fn a_file_that_is_cut_off_never_has_all_claims() {
    let all = catalogue().claims.len();
    for (which, file) in CLAIMS_OF_THE_DOCUMENTS.iter().enumerate() {
        let Some(last) = file.text.rfind("[[claim]]") else {
            continue;
        };
        // In the middle of its last claim, and right before that.
        for len in [last, last + "[[claim]]\nid = ".len()] {
            let mut texts: Vec<_> = CLAIMS_OF_THE_DOCUMENTS
                .iter()
                .map(|file| (file.name, file.text.to_owned()))
                .collect();
            texts[which].1.truncate(len);
            if let Ok(catalogue) = parsed(&texts) {
                assert!(catalogue.claims.len() < all, "{} cut at {len}", file.name);
            }
        }
    }
}

/// The tests in the guest run a sample of claims that takes none of this, and demand that none of them is skipped.
#[test]
fn claims_that_may_be_skipped_on_the_debug_kernel_are_there_and_no_part_of_a_sample() {
    let exceptions = include_str!("../../qemu/debug-exceptions.toml");
    let exceptions: toml::Table = toml::from_str(exceptions).unwrap();
    let catalogue = catalogue();
    for exception in exceptions["claim"].as_array().unwrap() {
        let claim = catalogue.find(exception["name"].as_str().unwrap()).unwrap();
        let traces = claim.needs.contains(&Need::Btf) || claim.needs.contains(&Need::Ftrace);
        assert!(traces || claim.boot() != Boot::Main, "{}", claim.id);
    }
}
