//! The program on the real device, in the guest, as root.
//!
//! Built with the feature `vm` alone, and run by `cargo lab test`. The program under test is the one
//! that `CARGO_BIN_EXE_mmapdemo` names at run time.

#![expect(
    clippy::unwrap_used,
    reason = "what helps a test may panic as the test may"
)]

use std::collections::HashSet;
use std::fs;
use std::process::{Command as Plain, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use mmapdemo::CLAIMS_OF_THE_DOCUMENTS;
use mmapdemo::boot::Boot;
use mmapdemo::catalogue::Catalogue;
use mmapdemo::claim::{Claim, Object};
use mmapdemo::example::ALL;
use mmapdemo::experiment;
use mmapdemo::need::Need;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

/// There is one device, and every test refills its buffer.
static DEVICE: Mutex<()> = Mutex::new(());

fn device() -> MutexGuard<'static, ()> {
    // A test that failed left nothing behind that the next one does not overwrite.
    DEVICE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mmapdemo(args: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin("mmapdemo"));
    command.args(args);
    command
}

fn catalogue() -> Catalogue {
    Catalogue::parse(CLAIMS_OF_THE_DOCUMENTS, &experiment::all()).unwrap()
}

/// The catalogue as one file.
fn all_claims() -> String {
    let texts = CLAIMS_OF_THE_DOCUMENTS.iter().map(|file| file.text);
    texts.collect::<Vec<_>>().join("\n")
}

/// The claim whose expectation a test turns round.
const FLIPPED: &str = "fault-sigbus-means-foreign-memory";

/// Of each group, without [`FLIPPED`], the first claim about the device and the first about something else, as far as
/// every kernel can judge them in one boot. After the tests `cargo lab test` judges all claims.
fn sample() -> Vec<Claim> {
    let mut seen = HashSet::new();
    let mut claims = catalogue().claims;
    claims.retain(|claim| {
        let anywhere = claim.boot() == Boot::Main
            && !claim.needs.contains(&Need::ExternalSoftware)
            && !claim.needs.contains(&Need::Btf)
            && !claim.needs.contains(&Need::Ftrace)
            && claim.id.as_str() != FLIPPED;
        anywhere && seen.insert((claim.group.clone(), claim.object == Object::Device))
    });
    claims
}

#[test]
fn claims_are_run_and_judged_on_each_node_and_reported_in_each_format() {
    let _device = device();
    let dir = tempfile::tempdir().unwrap();
    let (ktap, json) = (dir.path().join("ktap"), dir.path().join("json"));
    let claims = sample();
    let mut run = mmapdemo(&["run"]);
    run.args(claims.iter().map(|claim| claim.id.as_str()))
        .arg("--ktap")
        .arg(&ktap)
        .arg("--json")
        .arg(&json);
    let nr = claims.len();
    let all =
        format!("{nr} claims planned, {nr} run: {nr} as expected, 0 not as expected; 0 skipped");
    run.assert().success().stdout(contains(all));

    let ktap = fs::read_to_string(ktap).unwrap();
    let mut lines = ktap.lines();
    assert_eq!(lines.next(), Some("KTAP version 1"));
    assert_eq!(lines.next(), Some(format!("1..{nr}").as_str()));
    for (index, (line, claim)) in lines.zip(&claims).enumerate() {
        let result = format!("ok {} {} # verdict ", index + 1, claim.id);
        assert!(line.starts_with(&result), "{line}");
    }

    let json: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let judged = json["claims"].as_array().unwrap();
    assert_eq!(judged.len(), nr);
    for (entry, claim) in judged.iter().zip(&claims) {
        assert_eq!(entry["id"], claim.id.as_str());
        let trials = entry["trials"].as_array().unwrap();
        let nr_places = if claim.object == Object::Device { 3 } else { 1 };
        assert_eq!(trials.len(), nr_places, "{entry}");
        for trial in trials {
            let judged =
                trial["as_expected"] == true && !trial["evidence"].as_array().unwrap().is_empty();
            assert!(judged || trial["result"] == "inapplicable", "{entry}");
        }
    }
}

#[test]
fn an_expectation_flipped_by_hand_fails_the_run_and_is_named() {
    let _device = device();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("claims.toml");
    let claims = all_claims();
    let (before, claim) = claims.split_at(claims.find(&format!("id = \"{FLIPPED}")).unwrap());
    let flipped = claim.replacen("expected = \"false\"", "expected = \"holds\"", 1);
    fs::write(&file, format!("{before}{flipped}")).unwrap();
    let mut run = mmapdemo(&["run", FLIPPED]);
    run.args(sample().iter().map(|claim| claim.id.as_str()));
    let run = run.arg("--claims").arg(&file).assert().code(1);
    run.stdout(
        contains(format!("not as expected: {FLIPPED}")).and(contains(", 1 not as expected;")),
    );
}

#[test]
fn a_writer_and_a_reader_started_by_hand_meet_in_the_device() {
    let _device = device();
    let mut reader = Plain::new(cargo_bin("mmapdemo"));
    reader
        .args(["reader", "--timeout", "20"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let reader = reader.spawn().unwrap();
    let writer = mmapdemo(&["writer", "--wait", "--timeout", "20", "from the other side"]).assert();
    // The reader ends by itself, at the latest after its own timeout.
    let read = reader.wait_with_output().unwrap();
    writer.success();
    assert!(read.status.success());
    assert_eq!(
        String::from_utf8(read.stdout).unwrap(),
        "from the other side\n"
    );
}

#[test]
fn every_example_shows_as_root_on_this_kernel_what_it_is_to_show() {
    for it in ALL {
        mmapdemo(&["example", it.name]).assert().success();
        if it.as_written.is_some() {
            let flawed = mmapdemo(&["example", it.name, "--as-written"]).assert();
            flawed.success().stdout(contains("why "));
        }
    }
}

#[test]
fn explain_shows_frames_before_and_after_the_first_store() {
    let _device = device();
    let explained = mmapdemo(&["explain", "private-first-write-copies-page"])
        .assert()
        .success();
    explained.stdout(
        contains("read.a-pfn == kernel.pfn")
            .and(contains("pfn 0x"))
            .and(contains("verdict     holds")),
    );
}

#[test]
fn another_node_is_not_mistaken_for_the_device() {
    let run = mmapdemo(&[
        "run",
        "--device",
        "/dev/zero",
        "shared-ipc-requires-map-shared",
    ])
    .assert();
    run.code(1)
        .stdout(contains("not as expected: shared-ipc-requires-map-shared"));
}
