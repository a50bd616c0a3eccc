//! The documents' claims, judged by evidence that a guest saw, and by the same evidence falsified.
//!
//! `data/evidence-7.3.jsonl` is what `mmapdemo observe` printed on Debian's 7.3.4, one experiment a line.

#![expect(
    clippy::unwrap_used,
    reason = "what helps a test may panic as the test may"
)]

use mmapdemo::CLAIMS_OF_THE_DOCUMENTS;
use mmapdemo::boot::Boot;
use mmapdemo::catalogue::Catalogue;
use mmapdemo::claim::{Claim, Setting};
use mmapdemo::evidence::{CallEnd, Evidence, Fault, Touch, Value};
use mmapdemo::experiment;
use mmapdemo::need::Need;
use mmapdemo::record::Records;
use mmapdemo::strategy::Strategy;
use mmapdemo::verdict::{Verdict, judge};

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
