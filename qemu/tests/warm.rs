//! Guests that are restored: what they do is what guests do that boot, each is one of its own, and one that
//! cannot be restored boots.
//!
//! Uses the cache that `lab` itself uses, and fills it if need be.
#![expect(
    clippy::unwrap_used,
    reason = "what helps a test may panic as the test may"
)]

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use lab::cli::{AccelChoice, Cli, Extras, KernelArgs};
use lab::exit_code::ExitCode;
use lab::job::{KTAP_PATH, Program, Work};
use lab::ktap;
use lab::machine::Hardware;
use lab::outcome::Outcome;
use lab::patch::{Patch, Sources};
use lab::plan::Plan;
use lab::progress::Progress;
use lab::seal;
use lab::session::Streams;
use lab::snapshot::{Ingredients, Snapshot};
use lab::warm::Start;
use lab::workshop::{Built, Workshop};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use serde_json::Value;

/// What is said when a machine is saved.
const SAVED: &str = "boot a machine and save it ...";
/// What is said when one is restored.
const RESTORED: &str = "restore Linux ";
/// What is said when one is not restored.
const COLD: &str = "cold start: ";

/// After that, a process that should be gone is not going.
const LONG: Duration = Duration::from_secs(20);

/// A guest has rehearsed ten claims by then, even beside a compiler.
const REHEARSAL: Duration = Duration::from_secs(120);

/// One guest at a time, but for those that are to run at once.
static MACHINE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // What another test has found is no reason not to find more.
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn lab(args: &[&str]) -> Output {
    start(args).wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a script in a guest that is to be restored; what it wrote, and what the lab said.
#[track_caller]
fn sh(options: &[&str], script: &str) -> (String, String) {
    let args = [&["exec", "--warm"], options, &["--", "sh", "-c", script]].concat();
    let output = lab(&args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    (text(&output.stdout), said)
}

/// The usual kernel, module and programs.
fn build(workshop: &Workshop<'_>) -> Built {
    let cli = <Cli as clap::Parser>::try_parse_from(["lab", "build"]).unwrap();
    let lab::cli::Command::Build(args): lab::cli::Command = cli.command else {
        unreachable!("build was asked for");
    };
    let args: KernelArgs = args;
    workshop.build(&args).unwrap()
}

/// Where the usual machine is saved.
fn snapshot() -> PathBuf {
    let progress = Progress::new(true);
    let workshop = Workshop::open(&progress).unwrap();
    let built = build(&workshop);
    let machine = workshop
        .machine_for(&built.target, AccelChoice::Tcg, Hardware::USUAL)
        .unwrap();
    let ingredients = Ingredients {
        machine: &machine,
        release: &built.target.kernel.release,
        kernel_key: &built.target.kernel.key,
        programs: &built.programs,
        archives: &[],
    };
    let snapshot = Snapshot::of(&workshop.layout, &ingredients).unwrap();
    snapshot.dir().to_owned()
}

/// The verdicts of a run: claim, node, verdict.
fn verdicts(options: &[&str], claims: &[&str]) -> (Vec<(String, String, String)>, String) {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("results.json");
    let args = [&["run", "--json", json.to_str().unwrap()], options, claims].concat();
    let output = lab(&args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let results: Value = serde_json::from_reader(File::open(&json).unwrap()).unwrap();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut verdicts = Vec::new();
    for claim in results["claims"].as_array().unwrap() {
        for trial in claim["trials"].as_array().unwrap() {
            verdicts.push((
                word(&claim["id"]),
                word(&trial["node"]),
                word(&trial["verdict"]),
            ));
        }
    }
    (verdicts, said)
}

#[test]
fn a_restored_guest_comes_to_the_same_verdicts_as_one_that_boots() {
    let _alone = alone();
    let claims = [
        "private-is-snapshot",
        "private-first-write-copies-page",
        "shared-same-physical-page",
        "shared-writes-visible-across-processes",
        "fault-nx-exec",
        "api-length-page-multiple",
    ];
    let (warm, said) = verdicts(&["--warm", "--accel", "tcg"], &claims);
    assert!(said.contains(RESTORED), "{said}");
    let (cold, said) = verdicts(&["--accel", "tcg"], &claims);
    assert!(!said.contains(RESTORED), "{said}");
    assert!(warm.len() >= claims.len(), "{warm:?}");
    assert_eq!(warm, cold);
}

#[test]
fn claims_that_take_another_machine_boot_and_are_named() {
    let _alone = alone();
    let claims = ["private-is-snapshot", "file-last-page-zero-filled"];
    let (verdicts, said) = verdicts(&["--warm", "--accel", "tcg"], &claims);
    assert!(said.contains(&format!("{COLD}{}", claims[1])), "{said}");
    assert!(verdicts.iter().all(|(_, _, verdict)| !verdict.is_empty()));
}

#[test]
fn machines_restored_at_once_have_their_own_random_numbers_and_the_right_time() {
    let _alone = alone();
    sh(&["--accel", "tcg"], "true"); // Now it is saved.
    let before = SystemTime::now();
    let script = "cat /proc/sys/kernel/random/uuid; date +%s";
    let args = ["exec", "--warm", "--accel", "tcg", "--", "sh", "-c", script];
    let both = [start(&args), start(&args)].map(|child| child.wait_with_output().unwrap());
    let after = SystemTime::now();
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let mut uuids = Vec::new();
    for output in both {
        let said = text(&output.stderr);
        assert!(said.contains(RESTORED) && !said.contains(SAVED), "{said}");
        let stdout = text(&output.stdout);
        let (uuid, now) = stdout.trim_end().split_once('\n').unwrap();
        let now: u64 = now.parse().unwrap();
        assert!((seconds(before)..=seconds(after)).contains(&now), "{now}");
        uuids.push(uuid.to_owned());
    }
    assert_eq!(uuids[0].len(), 36);
    assert_ne!(uuids[0], uuids[1]);
}

#[test]
fn another_machine_is_saved_apart() {
    let _alone = alone();
    let find = "type strace || echo none";
    let (with, _) = sh(&["--accel", "tcg", "--tools"], find);
    let (without, _) = sh(&["--accel", "tcg"], find);
    let (disk, said) = sh(&["--accel", "tcg", "--disk"], "ls /sys/block");
    assert!(!with.contains("none") && without.contains("none"));
    assert!(said.contains(COLD) && disk.contains("nvme"), "{said}");
}

#[test]
fn what_was_damaged_is_made_again_and_what_cannot_be_restored_boots_instead() {
    let _alone = alone();
    sh(&["--accel", "tcg"], "true");
    let state = snapshot().join("state");
    let whole = fs::read(&state).unwrap();
    fs::write(&state, &whole[..whole.len() / 2]).unwrap();
    let (_, said) = sh(&["--accel", "tcg"], "true");
    assert!(
        said.contains("state has changed") && said.contains(SAVED),
        "{said}"
    );

    // The same, and nobody can tell until QEMU reads it.
    let whole = fs::read(&state).unwrap();
    fs::write(&state, &whole[..whole.len() / 2]).unwrap();
    seal::seal(&snapshot()).unwrap();
    let (output, said) = sh(&["--accel", "tcg"], "echo here");
    assert_eq!(output, "here\n");
    assert!(
        said.contains(&format!("{COLD}what was saved is of no use: QEMU ")),
        "{said}"
    );

    let (_, said) = sh(&["--accel", "tcg"], "true");
    assert!(said.contains(SAVED) && said.contains(RESTORED), "{said}");
}

#[test]
fn files_that_come_to_a_restored_guest_have_their_modes() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let modes = [0o666, 0o775, 0o400];
    let files = modes.map(|mode| {
        let path = dir.path().join(format!("{mode:o}"));
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    });
    let files: Vec<&str> = files.iter().map(|path| path.to_str().unwrap()).collect();
    let options: Vec<&str> = files.iter().flat_map(|file| ["--copy", file]).collect();
    let (seen, said) = sh(&options, "umask; stat -c '%n %a' 666 775 400");
    assert_eq!(seen, "0022\n666 666\n775 775\n400 400\n");
    assert!(said.contains(RESTORED), "{said}");
}

#[test]
fn a_restored_machine_that_is_killed_is_reported_as_that_and_no_other_is_booted() {
    let _alone = alone();
    sh(&["--accel", "tcg"], "true");
    let (mut lab, qemu) = with_a_program_that_runs();
    kill(Pid::from_raw(qemu), Signal::SIGKILL).unwrap();
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut lab.stderr.take().unwrap(), &mut stderr).unwrap();
    let code = i32::from(ExitCode::ExecFailed.number());
    assert_eq!(lab.wait().unwrap().code(), Some(code));
    let why = "QEMU was killed by signal 9 during program 1";
    assert!(stderr.contains(why) && !stderr.contains(COLD), "{stderr}");
}

#[test]
fn a_restored_machine_does_not_outlive_the_lab() {
    let _alone = alone();
    sh(&["--accel", "tcg"], "true");
    let (mut lab, qemu) = with_a_program_that_runs();
    let pid = rustix::process::Pid::from_raw(qemu).unwrap();
    let ended = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    lab.kill().unwrap();
    lab.wait().unwrap();
    assert!(is_ready(&ended), "QEMU, process {qemu}, still runs");
}

fn is_ready(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::try_from(LONG).unwrap()).unwrap() == 1
}

/// A lab whose guest has something to do for ever, and the process that is the guest.
fn with_a_program_that_runs() -> (Child, i32) {
    let script = "echo here; exec sleep 1000000";
    let mut lab = start(&[
        "--quiet", "exec", "--warm", "--accel", "tcg", "--", "sh", "-c", script,
    ]);
    let mut line = String::new();
    BufReader::new(lab.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "here\n");
    let processes = fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let own: Vec<i32> = pids.filter(|pid| is_restored_by(&lab, *pid)).collect();
    assert_eq!(own.len(), 1, "{own:?}");
    (lab, own[0])
}

/// Whether a process is a QEMU that `lab` told to restore a machine.
fn is_restored_by(lab: &Child, pid: i32) -> bool {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let parent = format!("\nPPid:\t{}\n", lab.id());
    let argv = read("cmdline");
    text(&read("status")).contains(&parent)
        && argv
            .split(|&byte| byte == 0)
            .any(|word| word == b"-incoming")
}

/// Says that it is ready, and waits, if it was started early; then says whether it was.
const PATIENT: &str = "early=$MMAPDEMO_STANDBY; [ -z \"$early\" ] || { echo; read -r go; } <&0 >&0; echo \"early=$early\"";

/// A guest that is restored, is told to start one program early, and then runs another: whether the first became ready
/// while nobody waited, if there was time for that, and what the second wrote.
fn after_an_early_start(early: &str, script: &str, in_peace: bool) -> (bool, String) {
    let program = |script: &str| Program {
        capture: true,
        ..Program::new(["sh", "-c", script])
    };
    let progress = Progress::new(true);
    let workshop = Workshop::open(&progress).unwrap();
    let built = build(&workshop);
    let nothing = (None, Extras::default());
    let (target, programs) = (&built.target, &built.programs);
    let mut start = Start::warm(&workshop, target, programs, AccelChoice::Tcg, nothing).unwrap();
    let Start::Warm(warm) = &mut start else {
        unreachable!("no machine was restored");
    };
    warm.rehearse(program(early));
    let is_ready = in_peace && warm.rehearsed(REHEARSAL).unwrap();
    let plan = Plan {
        start,
        ..Plan::new(&built, Work::Programs(vec![program(script)]))
    };
    let report = plan.boot(&workshop, Streams::outputs()).unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(text(&report.programs[0].stderr), "");
    (is_ready, text(&report.programs[0].stdout))
}

#[test]
fn a_program_that_was_started_early_begins_when_its_turn_comes() {
    let _alone = alone();
    let began = after_an_early_start(PATIENT, PATIENT, true);
    assert_eq!(began, (true, "early=1\n".into()));
}

#[test]
fn a_program_that_is_another_one_or_ended_or_was_not_ready_is_started_in_time() {
    let _alone = alone();
    let alone = "echo early=$MMAPDEMO_STANDBY; ps | grep -c '[s]leep 1000'";
    let nobody = String::from("early=\n0\n");
    let waits = "echo <&0 >&0; sleep 1000";
    assert_eq!(
        after_an_early_start(waits, alone, true),
        (true, nobody.clone())
    );
    assert_eq!(
        after_an_early_start("exit 1", alone, true),
        (false, nobody.clone())
    );
    assert_eq!(
        after_an_early_start("sleep 1000", alone, false),
        (false, nobody)
    );
}

#[test]
fn claims_that_were_rehearsed_are_judged_as_others_are() {
    let _alone = alone();
    let progress = Progress::new(true);
    let workshop = Workshop::open(&progress).unwrap();
    let built = build(&workshop);
    let claims = [
        "private-first-write-copies-page",
        "shared-same-physical-page",
    ];
    let program = Program {
        capture: true,
        ktap: true,
        ..Program::new(
            ["mmapdemo", "run", "--ktap", KTAP_PATH]
                .into_iter()
                .chain(claims),
        )
    };
    let run = |is_early: bool| {
        let nothing = (None, Extras::default());
        let (target, programs) = (&built.target, &built.programs);
        let mut start =
            Start::warm(&workshop, target, programs, AccelChoice::Tcg, nothing).unwrap();
        if let Start::Warm(warm) = &mut start {
            if is_early {
                warm.rehearse(program.clone());
                assert!(warm.rehearsed(REHEARSAL).unwrap());
            }
        }
        let plan = Plan {
            start,
            ..Plan::new(&built, Work::Programs(vec![program.clone()]))
        };
        let report = plan.boot(&workshop, Streams::outputs()).unwrap();
        (report.outcome, ktap::parse(&report.ktap).results)
    };
    let (usual, early) = (run(false), run(true));
    assert!(matches!(usual.0, Outcome::Passed { .. }), "{usual:?}");
    assert_eq!(usual, early);
}

#[test]
fn the_bench_counts_what_is_good() {
    let _alone = alone();
    let output = lab(&["bench", "--edits", "1", "--restores", "1"]);
    let said = text(&output.stdout);
    assert_eq!(
        said.matches("1 of 1 good").count(),
        2,
        "{said}{}",
        text(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(0));
}

/// Reads what is said up to a line with `last` in it.
#[track_caller]
fn read_to(lines: &mut impl BufRead, last: &str) -> String {
    let mut said = String::new();
    while !said.lines().last().is_some_and(|line| line.contains(last)) {
        let read = lines.read_line(&mut said).unwrap();
        assert!(read > 0, "it ends without {last:?}: {said}");
    }
    said
}

#[test]
fn a_driver_that_is_watched_is_judged_after_each_change() {
    let _alone = alone();
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mutants = Patch::all(&project.join("driver/mutants")).unwrap();
    let mutant = mutants.iter().find(|it| it.name == "22-private-as-shared");
    let mut sources = Sources::read(project).unwrap();
    let own = tempfile::tempdir().unwrap();
    sources.write(own.path()).unwrap();
    sources.apply(mutant.unwrap()).unwrap();
    let mutated = tempfile::tempdir().unwrap();
    sources.write(mutated.path()).unwrap();
    // In one file, so that each change is one.
    let file = "driver/raw.rs";
    let [right, wrong] =
        [&own, &mutated].map(|dir| fs::read_to_string(dir.path().join(file)).unwrap());
    let save = |text: &str| fs::write(own.path().join(file), text).unwrap();

    let driver = own.path().to_str().unwrap();
    let claim = "private-writes-invisible-to-others";
    let mut lab = start(&["watch", "--driver", driver, claim]);
    let mut said = BufReader::new(lab.stderr.take().unwrap());
    let mut next = || read_to(&mut said, "waiting for a change");
    let first = next();
    assert!(!first.contains("after the change"), "{first}");

    save(&wrong);
    let judged = next();
    let verdict = format!("not as expected: {claim}");
    assert!(judged.contains(&verdict), "{judged}");
    assert!(judged.contains("after the change"), "{judged}");

    save(&format!("{right}\nfn broken( {{\n"));
    let broken = next();
    assert!(broken.contains("--> driver/raw.rs:"), "{broken}");

    save(&right);
    let judged = next();
    assert!(judged.contains("after the change"), "{judged}");
    assert!(!judged.contains("not as expected"), "{judged}");

    kill(Pid::from_raw(lab.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = lab.wait_with_output().unwrap();
    let code = i32::from(ExitCode::Interrupted.number());
    assert_eq!(output.status.code(), Some(code));
    let verdicts = as_expected(&output.stdout);
    assert_eq!(verdicts, [1, 0, 1], "of one claim as expected");
}

/// Of each run, how many claims came out as expected.
fn as_expected(stdout: &[u8]) -> Vec<usize> {
    let text = text(stdout);
    let runs = text.split(" claims planned, ").skip(1);
    let counts = runs.map(|run| {
        let (before, _) = run.split_once(" as expected").unwrap();
        before.rsplit(' ').next().unwrap().parse().unwrap()
    });
    counts.collect()
}
