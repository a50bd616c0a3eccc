//! `lab exec` with real guests: what a program there does is seen here as if it had run here.
//!
//! Uses the cache that `lab` itself uses, and fills it if need be.
#![expect(
    clippy::unwrap_used,
    reason = "what helps a test may panic as the test may"
)]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use assert_cmd::Command;
use lab::exit_code::ExitCode;
use nix::sys::signal::Signal;

/// After that, the lab hangs: its own deadlines, for all phases together, end before.
const HUNG: Duration = Duration::from_secs(20 * 60);

/// What a shell says of a program that it does not find (`sh(1)`).
const NOT_FOUND: i32 = 127;

/// One guest at a time: each takes two processors, and their times are compared with deadlines.
static MACHINE: Mutex<()> = Mutex::new(());

/// How a program ended, as the lab shows it.
struct Ended {
    /// The lab's own end, and what came out of it.
    lab: Output,
    /// What `--status FILE` got.
    written: String,
}

impl Ended {
    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.lab.stderr).into_owned()
    }

    /// The lab failed, and said so in every place.
    fn assert_lab_failed(&self) {
        let code = i32::from(ExitCode::ExecFailed.number());
        assert_eq!(self.lab.status.code(), Some(code), "{}", self.stderr());
        assert_eq!(self.written, "lab failed\n");
    }
}

/// Runs a program in a guest of its own.
fn exec(options: &[&str], argv: &[&str]) -> Ended {
    exec_with_input(options, argv, &[])
}

fn exec_with_input(options: &[&str], argv: &[&str], input: &[u8]) -> Ended {
    // What another test has found is no reason not to find more.
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let status = dir.path().join("status");
    let lab = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["--quiet", "exec", "--status"])
        .arg(&status)
        .args(options)
        .arg("--")
        .args(argv)
        .write_stdin(input)
        .timeout(HUNG)
        .output()
        .unwrap();
    let written = fs::read_to_string(&status);
    let written = written.unwrap_or_else(|_| String::from_utf8_lossy(&lab.stderr).into_owned());
    Ended { lab, written }
}

/// 1 MiB with all values of a byte, in an order that does not repeat every 256 bytes.
fn all_bytes() -> Vec<u8> {
    let blocks = (0..=u8::MAX).cycle().take(1 << 12);
    blocks
        .flat_map(|block| (0..=u8::MAX).map(move |byte| byte ^ block))
        .collect()
}

/// Compares without printing a million bytes.
fn assert_same_bytes(got: &[u8], sent: &[u8]) {
    let differs = got.iter().zip(sent).position(|(got, sent)| got != sent);
    assert_eq!(differs, None, "the first byte that differs");
    assert_eq!(got.len(), sent.len());
}

#[test]
fn the_exit_status_is_the_programs() {
    for status in [0, 1, 42] {
        let ended = exec(&[], &["sh", "-c", &format!("exit {status}")]);
        assert_eq!(ended.lab.status.code(), Some(status), "{}", ended.stderr());
        assert_eq!(ended.written, format!("exited {status}\n"));
    }
}

#[test]
fn the_experiments_find_the_program_of_their_actors() {
    let program = "test \"$MMAPDEMO_ACTOR\" != /bin/mmapdemo && test -x \"$MMAPDEMO_ACTOR\"";
    let ended = exec(&[], &["sh", "-c", program]);
    assert!(ended.lab.status.success(), "{}", ended.stderr());
}

#[test]
fn death_by_signal_is_death_by_the_same_signal() {
    for signal in [Signal::SIGSEGV, Signal::SIGKILL] {
        let number = signal as i32;
        let ended = exec(&[], &["sh", "-c", &format!("kill -{number} $$")]);
        assert_eq!(
            ended.lab.status.signal(),
            Some(number),
            "{}",
            ended.stderr()
        );
        assert_eq!(ended.written, format!("signaled {number}\n"));
    }
}

#[test]
fn standard_input_and_output_are_byte_exact() {
    let sent = all_bytes();
    let ended = exec_with_input(&[], &["cat"], &sent);
    assert!(ended.lab.status.success(), "{}", ended.stderr());
    assert_same_bytes(&ended.lab.stdout, &sent);
    assert_eq!(ended.stderr(), "");
}

#[test]
fn standard_error_is_byte_exact_and_apart_from_standard_output() {
    let sent = all_bytes();
    let ended = exec_with_input(&[], &["sh", "-c", "cat >&2"], &sent);
    assert!(ended.lab.status.success());
    assert_same_bytes(&ended.lab.stderr, &sent);
    assert_same_bytes(&ended.lab.stdout, &[]);
}

#[test]
fn a_panic_of_the_guest_is_the_labs_failure_and_called_a_panic() {
    let ended = exec(&[], &["sh", "-c", "echo c > /proc/sysrq-trigger"]);
    ended.assert_lab_failed();
    let line = ended.stderr();
    assert!(line.contains("panicked during program 1"), "{line}");
}

#[test]
fn a_program_that_is_not_there_has_the_shells_status_for_it() {
    let ended = exec(&[], &["/root/no-such-program"]);
    assert_eq!(ended.lab.status.code(), Some(NOT_FOUND));
    let line = ended.stderr();
    assert!(line.contains("cannot run /root/no-such-program"), "{line}");
    assert!(ended.written.starts_with("not started: "));
}

#[test]
fn a_program_that_takes_too_long_is_stopped_in_time_and_the_phase_is_named() {
    let (timeout, late) = (3.0, 13.0);
    let ended = exec(&["--timeout", "3", "--timings"], &["sleep", "1000"]);
    ended.assert_lab_failed();
    let text = ended.stderr();
    assert!(text.contains("timed out during program 1"), "{text}");
    let process = text
        .lines()
        .find(|line| line.contains(" sleep 1000: sleeps in "));
    let process = process.expect(&text);
    assert!(process.contains("nanosleep"), "{process}");
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with("guest: program 1 "));
    let took = line.and_then(|line| line.split_whitespace().last());
    let took: f64 = took.unwrap().parse().unwrap();
    assert!((timeout..late).contains(&took), "{took} s");
}

#[test]
fn the_status_of_an_insmod_that_is_refused_comes_through() {
    let dir = tempfile::tempdir().unwrap();
    let junk = dir.path().join("junk.ko");
    fs::write(&junk, "no module").unwrap();
    let insmod = "insmod /root/junk.ko; status=$?; echo $status; exit $status";
    let ended = exec(&["--copy", junk.to_str().unwrap()], &["sh", "-c", insmod]);
    let (said, text) = (String::from_utf8_lossy(&ended.lab.stdout), ended.stderr());
    assert!(text.contains("invalid module format"), "{text}");
    assert_ne!(said, "0\n");
    assert_eq!(format!("{}\n", ended.lab.status.code().unwrap()), said);
    assert_eq!(ended.written, format!("exited {said}"));
}

#[test]
fn a_trace_shows_the_driver_among_the_functions_of_the_kernel() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let trees = dir.path().join("trees");
    let lab = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["--quiet", "trace", "fault-ptes-built-at-mmap"])
        .args(["--device", "/dev/mmapdemo-fault", "--output"])
        .arg(&trees)
        .timeout(HUNG)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&lab.stderr);
    assert_eq!(lab.status.code(), Some(0), "{stderr}");
    let trees = fs::read_to_string(trees).unwrap();
    let lines: Vec<_> = trees.lines().map(str::trim).collect();
    let place = |line: &str| lines.iter().position(|it| it.contains(line));
    for (caller, called) in [
        ("__mmap_region", "MiscDevice>::mmap [mmapdemo]"),
        ("__do_fault", "::fault [mmapdemo]"),
        ("remove_vma", "::close [mmapdemo]"),
    ] {
        let above = place(caller);
        assert!(above.is_some() && above < place(called), "{trees}");
    }
    let noise = ["_lock", "rcu_", "memcg", "perf_"];
    assert!(noise.iter().all(|noise| !trees.contains(noise)), "{trees}");
}
