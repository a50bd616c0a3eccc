//! The program on a host: no root, no module.
//!
//! `/dev/zero` stands in for the device where a test needs one: it can be read, written and mapped, but
//! two shared mappings of it are different memory.

#![expect(
    clippy::unwrap_used,
    reason = "what helps a test may panic as the test may"
)]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use mmapdemo::CLAIMS_OF_THE_DOCUMENTS;
use mmapdemo::catalogue::Catalogue;
use mmapdemo::experiment;
use mmapdemo::standby::STANDBY;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::{contains, is_empty};

/// The program with a device that does not exist.
fn mmapdemo(args: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin("mmapdemo"));
    command.args(["--device", "/dev/no-such-device"]).args(args);
    command
}

/// The program with another device.
fn mmapdemo_on(node: &str, args: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin("mmapdemo"));
    command.args(["--device", node]).args(args);
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

#[test]
fn help_teaches_the_first_commands_and_the_exit_status() {
    let help = mmapdemo(&["--help"]).assert().success();
    help.stdout(
        contains("mmapdemo run")
            .and(contains("mmapdemo writer"))
            .and(contains("70  ")),
    );
}

#[test]
fn list_shows_every_claim_once() {
    let output = mmapdemo(&["list"])
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let text = String::from_utf8(output).unwrap();
    let words: Vec<_> = text.split_whitespace().collect();
    for claim in catalogue().claims {
        let times = words
            .iter()
            .filter(|word| **word == claim.id.as_str())
            .count();
        assert_eq!(times, 1, "{}", claim.id);
    }
}

#[test]
fn list_has_the_bare_names_for_programs() {
    let ids = |args: &[&str]| {
        let listed = mmapdemo(args).assert().success();
        String::from_utf8(listed.get_output().stdout.clone()).unwrap()
    };
    let all: Vec<String> = catalogue()
        .claims
        .iter()
        .map(|claim| claim.id.to_string())
        .collect();
    let listed = ids(&["list", "--ids"]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), all);
    let of_device = ids(&["list", "--ids", "--object", "device"]);
    assert!(of_device.lines().count() > 50 && of_device.lines().count() < all.len());
    let simple = ids(&["list", "--ids", "--needs-only", "device,pagemap"]);
    let has = |id: &str| simple.lines().any(|line| line == id);
    assert!(has("shared-same-physical-page") && !has("shared-writes-visible-across-processes"));
}

#[test]
fn list_filters_by_verdict_group_object_and_document() {
    let filtered = mmapdemo(&["list", "--verdict", "false", "--group", "shared"]).assert();
    let only = contains("shared-ipc-needs-read-and-write-prot").and(contains("private-").not());
    filtered.success().stdout(only);
    let filtered = mmapdemo(&["list", "--object", "anonymous", "--document", "000"]).assert();
    let only = contains("private-anon-suitable-for-ipc").and(contains("shared-").not());
    filtered.success().stdout(only);
}

#[test]
fn explain_says_what_a_claim_is_and_why_it_could_not_be_tried() {
    let explained = mmapdemo(&["explain", "private-is-snapshot"])
        .assert()
        .success();
    explained.stdout(
        contains("001 §4.2")
            .and(contains("not run     no /dev/no-such-device"))
            .and(contains("holds with qualification")),
    );
}

#[test]
fn an_unknown_claim_is_wrong_usage() {
    for subcommand in ["run", "explain"] {
        let refused = mmapdemo(&[subcommand, "shared-nothing"]).assert().code(2);
        refused
            .stdout(is_empty())
            .stderr(contains("no claim `shared-nothing`"));
    }
}

#[test]
fn an_unknown_option_is_wrong_usage() {
    mmapdemo(&["run", "--fast"])
        .assert()
        .code(2)
        .stderr(contains("--fast"));
}

#[test]
fn without_a_device_its_claims_are_skipped_and_counted() {
    let ids = ["shared-writes-visible-across-processes", "fault-nx-exec"];
    let skipped = mmapdemo(&["run", ids[0], ids[1]]).assert().code(4);
    skipped.stdout(
        contains("no /dev/no-such-device: the module is not loaded")
            .and(contains("2 claims planned, 0 run"))
            .and(contains("2 skipped")),
    );
}

#[test]
fn claims_that_need_nothing_run_on_any_host() {
    let needing_nothing: Vec<_> = catalogue()
        .claims
        .into_iter()
        .filter(|claim| claim.needs.is_empty())
        .map(|claim| claim.id.to_string())
        .collect();
    let nr = needing_nothing.len();
    assert!(nr >= 4, "only {nr}");
    let ids: Vec<_> = needing_nothing.iter().map(String::as_str).collect();
    let run = mmapdemo(&["run"]).args(&ids).assert().success();
    run.stdout(contains(format!(
        "{nr} claims planned, {nr} run: {nr} as expected"
    )));
}

#[test]
fn a_device_that_does_not_share_is_found_out() {
    let run = mmapdemo_on("/dev/zero", &["run", "shared-ipc-requires-map-shared"]).assert();
    run.code(1).stdout(
        contains("False (1)")
            .and(contains("NOT AS EXPECTED (holds)"))
            .and(contains("not as expected: shared-ipc-requires-map-shared")),
    );
}

#[test]
fn faults_are_reported_with_signal_code_and_address() {
    let ids = [
        "fault-access-after-munmap",
        "fault-nx-exec",
        "fault-unauthorised-access-kills",
    ];
    let run = mmapdemo_on("/dev/zero", &["run"])
        .args(ids)
        .assert()
        .success();
    run.stdout(contains("SIGSEGV SEGV_MAPERR at 0x").and(contains("SIGSEGV SEGV_ACCERR at 0x")));
}

#[test]
fn a_device_that_cannot_be_mapped_breaks_the_lab() {
    let run = mmapdemo_on("/dev/full", &["run", "fault-nx-exec"])
        .assert()
        .code(70);
    run.stdout(contains("cannot map /dev/full").and(contains("the lab broke on 1")));
}

#[test]
fn a_claims_file_that_cannot_be_trusted_is_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("claims.toml");
    let file_name = file.to_str().unwrap();
    let doubtful = all_claims().replacen("why = ", "because = ", 1);
    fs::write(&file, doubtful).unwrap();
    let refused = mmapdemo(&["list", "--claims", file_name]).assert().code(2);
    refused.stderr(contains(file_name).and(contains("because")));
    let missing = mmapdemo(&["list", "--claims", "/no/such/file"])
        .assert()
        .code(2);
    missing.stderr(contains("/no/such/file"));
}

#[test]
fn ktap_and_json_tell_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (ktap, json) = (dir.path().join("ktap"), dir.path().join("json"));
    let run = mmapdemo_on(
        "/dev/zero",
        &["run", "fault-nx-exec", "shared-anon-only-related"],
    )
    .arg("--ktap")
    .arg(&ktap)
    .arg("--json")
    .arg(&json)
    .assert();
    run.success();
    let lines = "KTAP version 1\n1..2\nok 1 shared-anon-only-related # verdict holds with \
                 qualification\nok 2 fault-nx-exec # verdict holds\n";
    assert_eq!(fs::read_to_string(ktap).unwrap(), lines);
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(json["schema"], 2);
    assert_eq!(json["summary"]["as_expected"], 2);
    assert_eq!(json["claims"][1]["trials"][0]["verdict"], "holds");
}

#[test]
fn what_an_earlier_boot_saw_is_read_and_what_is_no_record_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("recorded");
    let id = "shared-anon-only-related";
    let observed = mmapdemo(&["observe", id]).assert().success();
    fs::write(&file, &observed.get_output().stdout).unwrap();
    let run = |file: &Path| mmapdemo(&["run", id, "--recorded"]).arg(file).assert();
    run(&file).success();
    let cut = fs::read_to_string(&file).unwrap();
    fs::write(&file, &cut[..cut.len() / 2]).unwrap();
    run(&file)
        .code(70)
        .stderr(contains("line 1 of the recorded evidence"));
    run(Path::new("/no/such/file"))
        .code(70)
        .stderr(contains("/no/such/file"));
}

#[test]
fn requirements_are_the_needs_of_the_claims() {
    mmapdemo(&["requirements", "shared-same-physical-page"])
        .assert()
        .success()
        .stdout("device\npagemap\n");
}

#[test]
fn who_is_started_early_gets_ready_without_a_device_and_waits_to_be_told() {
    let (mut socket, theirs) = UnixStream::pair().unwrap();
    let mut run = std::process::Command::new(cargo_bin("mmapdemo"))
        .args([
            "run",
            "shared-anon-only-related",
            "shared-same-physical-page",
        ])
        .env(STANDBY, "1")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut byte = [0];
    socket.read_exact(&mut byte).unwrap();
    assert!(run.try_wait().unwrap().is_none());
    socket.write_all(&byte).unwrap();
    let output = run.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("2 claims planned, 1 run: 1 as expected"),
        "{said}"
    );
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn who_waits_to_be_told_and_never_is_says_so() {
    let (socket, theirs) = UnixStream::pair().unwrap();
    drop(socket);
    let output = std::process::Command::new(cargo_bin("mmapdemo"))
        .args(["run", "shared-anon-only-related"])
        .env(STANDBY, "1")
        .stdin(OwnedFd::from(theirs))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(70));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("the socket that is to say when to begin"),
        "{said}"
    );
}

#[test]
fn ktap_goes_to_a_character_device_as_well() {
    let run = mmapdemo(&["run", "shared-anon-only-related", "--ktap", "/dev/null"]).assert();
    run.success();
}

#[test]
fn a_ktap_file_that_cannot_be_written_breaks_the_lab() {
    let run = mmapdemo(&["run", "shared-anon-only-related", "--ktap", "/dev/full"]).assert();
    run.code(70).stderr(contains("write /dev/full"));
}

/// A reader that is killed if the test fails before it ends.
struct Reader(Child);

impl Reader {
    fn start(page: &Path) -> Self {
        let mut command = std::process::Command::new(cargo_bin("mmapdemo"));
        command
            .args(["reader", "--timeout", "20", "--file"])
            .arg(page);
        Self(
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    fn finish(mut self) -> String {
        let out = self.0.stdout.take().unwrap();
        let text = std::io::read_to_string(out).unwrap();
        assert!(self.0.wait().unwrap().success());
        text
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_reader_takes_what_a_writer_leaves() {
    let page = tempfile::NamedTempFile::new().unwrap();
    page.as_file().set_len(4096).unwrap();
    let file = page.path().to_str().unwrap();
    let reader = Reader::start(page.path());
    let args = [
        "writer",
        "--wait",
        "--timeout",
        "20",
        "--file",
        file,
        "how do you do",
    ];
    mmapdemo(&args).assert().success().stderr(contains("taken"));
    assert_eq!(reader.finish(), "how do you do\n");
}

#[test]
fn a_text_waits_for_its_reader() {
    let page = tempfile::NamedTempFile::new().unwrap();
    page.as_file().set_len(4096).unwrap();
    mmapdemo(&["writer", "later", "--file"])
        .arg(page.path())
        .assert()
        .success();
    assert_eq!(Reader::start(page.path()).finish(), "later\n");
}

#[test]
fn nobody_waits_for_ever() {
    let page = tempfile::NamedTempFile::new().unwrap();
    page.as_file().set_len(4096).unwrap();
    let file = page.path().to_str().unwrap();
    let reader = mmapdemo(&["reader", "--timeout", "0.1", "--file", file])
        .assert()
        .code(1);
    reader
        .stdout(is_empty())
        .stderr(contains("nobody wrote in time"));
    let writer = mmapdemo(&["writer", "x", "--wait", "--timeout", "0.1", "--file", file]).assert();
    writer.code(1).stderr(contains("nobody took it in time"));
}

#[test]
fn a_timeout_is_at_most_a_day() {
    for timeout in ["1e19", "86400.1", "-1", "nan", "inf"] {
        let timeout = format!("--timeout={timeout}");
        mmapdemo(&["reader", &timeout])
            .assert()
            .code(2)
            .stderr(contains("must be between 0 and 86400"));
    }
    // The longest is waited with, until the text comes.
    let page = tempfile::NamedTempFile::new().unwrap();
    page.as_file().set_len(4096).unwrap();
    let file = page.path().to_str().unwrap();
    mmapdemo(&["writer", "in time", "--file", file])
        .assert()
        .success();
    mmapdemo(&["reader", "--timeout", "86400", "--file", file])
        .assert()
        .success()
        .stdout("in time\n");
}

#[test]
fn a_file_without_a_whole_page_is_refused_before_it_raises_sigbus() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let refused = mmapdemo(&["reader", "--file"])
        .arg(empty.path())
        .assert()
        .code(70);
    refused.stderr(contains("0 bytes are less than a page"));
}

#[test]
fn a_text_longer_than_the_page_is_refused() {
    let page = tempfile::NamedTempFile::new().unwrap();
    page.as_file().set_len(4096).unwrap();
    let long = "x".repeat(5000);
    let refused = mmapdemo(&["writer", &long, "--file"])
        .arg(page.path())
        .assert()
        .code(70);
    refused.stderr(contains("outside a mapping of 4096 bytes"));
}

#[test]
fn shells_get_completions_and_man_a_page() {
    mmapdemo(&["completions", "bash"])
        .assert()
        .success()
        .stdout(contains("_mmapdemo").and(contains("explain")));
    mmapdemo(&["man"])
        .assert()
        .success()
        .stdout(contains(".TH mmapdemo 1").and(contains("Exit status")));
}

#[test]
fn a_trace_takes_a_claim_or_a_program() {
    for wrong in [
        &["trace"][..],
        &["trace", "private-is-snapshot", "--", "true"],
    ] {
        mmapdemo(wrong).assert().code(2);
    }
    mmapdemo(&["trace", "no-such-claim"])
        .assert()
        .code(2)
        .stderr(contains("no-such-claim"));
}
