//! A whole run, with a shell script in the place of QEMU that speaks on its channels.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lab::job::{Ending, Job, Module, Program, Work};
use lab::machine::{Accel, Hardware, Machine, QemuProgram};
use lab::outcome::Outcome;
use lab::output::{Closed, Sink};
use lab::phase::{Deadlines, Phase};
use lab::report::{ProgramStatus, Report};
use lab::session::{Guest, Streams, run};

/// The channels by their descriptors, and the words of a guest in which all is well.
const STAND_IN: &str = r#"
mark_name=$(grep -a -o '"mark": "[0-9a-f]*"' /proc/self/fd/11 | cut -d '"' -f 4)
greet() { echo '{"QMP": {}}' >&4; }
console() { echo "[    1.000000] $*" >&3; }
event() { echo "{\"event\": \"$1\"${2:+, $2}}" >&5; }
ready() { greet; event ready '"release": "7.3.4", "uptime_ms": 1, "taint": 0'; }
started() { event started "\"program\": $1"; }
mark() { for fd in 6 7; do printf '\377%s' "$mark_name" >&$fd; done; }
exited() { mark; event exited "\"program\": $1, \"code\": $2"; }
down() { event down '"taint": 0'; read -r bye <&5; console 'reboot: Power down'; echo '{"event": "SHUTDOWN", "data": {"reason": "guest-shutdown"}}' >&4; }
"#;

/// Output that a test can look at while it grows.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One run, to be changed by a test.
struct Trial {
    module: Option<Module>,
    programs: Vec<Program>,
    stdin: Option<OwnedFd>,
    stdout: Sink,
    deadlines: Deadlines,
    ending: Ending,
}

impl Trial {
    fn new() -> Self {
        Self {
            module: None,
            programs: vec![Program::new(["prog"])],
            stdin: None,
            stdout: Box::new(io::sink()),
            deadlines: Deadlines::default(),
            ending: Ending::PowerOff,
        }
    }

    /// Runs with a QEMU that does what `script` says.
    fn run(self, script: &str) -> Report {
        let script = format!("{STAND_IN}\n{script}");
        let argv_prefix = ["sh", "-c", &script, "qemu"].map(Into::into).to_vec();
        let machine = Machine {
            qemu: QemuProgram {
                argv_prefix,
                env: Vec::new(),
            },
            kernel: "vmlinux".into(),
            accel: Accel::Tcg,
            hardware: Hardware::USUAL,
            disks: Vec::new(),
            extra_cmdline: Vec::new(),
        };
        let guest = Guest {
            archives: Vec::new(),
            files: Vec::new(),
            job: Job {
                module: self.module,
                work: Work::Programs(self.programs),
                ending: self.ending,
                debugged: false,
            },
            allowed: Vec::new(),
        };
        let streams = Streams {
            stdin: self.stdin,
            stdout: self.stdout,
            stderr: Box::new(io::sink()),
            waiting: None,
        };
        run(&machine, &guest, streams, &self.deadlines).unwrap()
    }
}

#[test]
fn output_and_status_come_through() {
    let (stdout, stderr) = (Shared::default(), Shared::default());
    let trial = Trial {
        stdout: Box::new(stdout.clone()),
        ..Trial::new()
    };
    let report = trial.run(
        "ready; console hello; started 0; printf 'no newline' >&6; printf err >&7; exited 0 42; down",
    );
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(report.programs[0].status, Some(ProgramStatus::Exited(42)));
    assert_eq!(
        (stdout.text().as_str(), stderr.text().as_str()),
        ("no newline", "")
    );
    assert_eq!(
        report.console,
        "[    1.000000] hello\n[    1.000000] reboot: Power down\n"
    );
    let phases: Vec<Phase> = report
        .timings
        .into_iter()
        .map(|timing| timing.phase)
        .collect();
    assert_eq!(
        phases,
        [
            Phase::Start,
            Phase::Boot,
            Phase::Program(0),
            Phase::Unload,
            Phase::Drain,
            Phase::PowerOff
        ]
    );
}

#[test]
fn input_comes_through_to_its_end() {
    let mut program = Program::new(["cat"]);
    program.stdin = true;
    let mut input = tempfile::tempfile().unwrap();
    let text = "0123456789abcde\n".repeat(1 << 16);
    input.write_all(text.as_bytes()).unwrap();
    io::Seek::rewind(&mut input).unwrap();
    let stdout = Shared::default();
    let trial = Trial {
        programs: vec![program],
        stdin: Some(input.into()),
        stdout: Box::new(stdout.clone()),
        ..Trial::new()
    };
    let report = trial.run("ready; started 0; cat <&9 >&6; exited 0 0; down");
    assert_eq!(report.outcome, Outcome::Completed);
    assert!(
        stdout.text() == text,
        "{} of {} bytes",
        stdout.text().len(),
        text.len()
    );
}

#[test]
fn no_input_is_an_end_of_file() {
    let mut program = Program::new(["cat"]);
    program.stdin = true;
    let report = Trial {
        programs: vec![program],
        ..Trial::new()
    }
    .run("ready; started 0; cat <&9 >&6; exited 0 0; down");
    assert_eq!(report.outcome, Outcome::Completed);
}

#[test]
fn captured_output_is_kept_apart_for_each_program() {
    let mut captured = Program::new(["captured"]);
    captured.capture = true;
    let stdout = Shared::default();
    let trial = Trial {
        programs: vec![captured.clone(), Program::new(["through"]), captured],
        stdout: Box::new(stdout.clone()),
        ..Trial::new()
    };
    let report = trial.run(
        "ready
        for i in 0 1 2; do started $i; echo out$i >&6; echo err$i >&7; exited $i $i; done
        down",
    );
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(stdout.text(), "out1\n");
    let kept: Vec<(&[u8], &[u8])> = report
        .programs
        .iter()
        .map(|program| (&*program.stdout, &*program.stderr))
        .collect();
    assert_eq!(
        kept,
        [
            (&b"out0\n"[..], &b"err0\n"[..]),
            (b"", b""),
            (b"out2\n", b"err2\n")
        ]
    );
}

#[test]
fn output_without_its_mark_is_lost() {
    let report = Trial::new().run(
        r#"ready; started 0; echo out >&6; event exited '"program": 0, "code": 0'; event down '"taint": 0'"#,
    );
    assert_eq!(report.outcome, Outcome::OutputLost);
}

#[test]
fn qemu_that_does_not_start_is_quoted() {
    let report = Trial::new().run("echo 'qemu: could not load kernel' >&2; exit 1");
    let how = "gave up with status 1".to_owned();
    assert_eq!(
        report.outcome,
        Outcome::QemuDied {
            how,
            phase: Phase::Start
        }
    );
    assert!(
        report
            .last_words()
            .contains("  | qemu: could not load kernel"),
        "{}",
        report.last_words()
    );
}

#[test]
fn killed_qemu_is_not_the_programs_status() {
    let report = Trial::new().run("ready; started 0; kill -KILL $$");
    let how = "was killed by signal 9".to_owned();
    assert_eq!(
        report.outcome,
        Outcome::QemuDied {
            how,
            phase: Phase::Program(0)
        }
    );
    assert_eq!(report.programs[0].status, None);
}

#[test]
fn silent_guest_meets_its_deadline_and_is_gone() {
    let deadlines = Deadlines {
        boot: Duration::from_millis(200),
        ..Deadlines::default()
    };
    let report = Trial {
        deadlines,
        ..Trial::new()
    }
    .run("greet; console $$; exec sleep 1000");
    let phase = Phase::Boot;
    assert_eq!(
        report.outcome,
        Outcome::TimedOut {
            phase,
            before: None
        }
    );
    let pid = report.console.trim_end().rsplit(' ').next().unwrap();
    assert!(!Path::new("/proc").join(pid).exists(), "{pid} still runs");
}

#[test]
fn each_phase_has_a_deadline_of_its_own() {
    let short = Duration::from_millis(200);
    let base = Deadlines::default;
    for (deadlines, script, phase) in [
        (
            Deadlines {
                start: short,
                ..base()
            },
            "",
            Phase::Start,
        ),
        (
            Deadlines {
                program: Some(short),
                ..base()
            },
            "ready; started 0",
            Phase::Program(0),
        ),
        (
            Deadlines {
                unload: short,
                ..base()
            },
            "ready; started 0; exited 0 0",
            Phase::Unload,
        ),
        (
            Deadlines {
                drain: short,
                ..base()
            },
            r#"ready; started 0; event exited '"program": 0, "code": 0'; event down '"taint": 0'"#,
            Phase::Drain,
        ),
        (
            Deadlines {
                power_off: short,
                ..base()
            },
            "ready; started 0; exited 0 0; down",
            Phase::PowerOff,
        ),
    ] {
        let report = Trial {
            deadlines,
            ..Trial::new()
        }
        .run(&format!("{script}\nexec sleep 1000"));
        assert_eq!(
            report.outcome,
            Outcome::TimedOut {
                phase,
                before: None
            }
        );
    }
}

#[test]
fn module_that_hangs_meets_its_deadline() {
    let deadlines = Deadlines {
        load: Duration::from_millis(200),
        ..Deadlines::default()
    };
    let module = Some(Module::mmapdemo(""));
    let report = Trial {
        module,
        deadlines,
        ..Trial::new()
    }
    .run("ready; exec sleep 1000");
    let phase = Phase::Load;
    assert_eq!(
        report.outcome,
        Outcome::TimedOut {
            phase,
            before: None
        }
    );
}

#[test]
fn dead_guest_whose_qemu_stays_is_ended_within_two_seconds() {
    let began = Instant::now();
    let report = Trial::new()
        .run("ready; started 0; console 'Kernel panic - not syncing: stuck'; exec sleep 1000");
    let line = "Kernel panic - not syncing: stuck".to_owned();
    assert_eq!(
        report.outcome,
        Outcome::Panicked {
            line,
            before: None,
            phase: Phase::Program(0)
        }
    );
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn reader_that_went_away_ends_the_run() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let report = Trial {
        stdout: Box::new(File::from(writer)),
        ..Trial::new()
    }
    .run("ready; started 0; echo out >&6; exec sleep 1000");
    assert_eq!(report.outcome, Outcome::OutputClosed(Closed::NoReader));
}

#[test]
fn full_disk_is_not_called_a_reader_that_went_away() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let report = Trial {
        stdout: Box::new(full),
        ..Trial::new()
    }
    .run("ready; started 0; echo out >&6; exec sleep 1000");
    let said = report.outcome.to_string();
    assert!(said.contains("failed to write the output"), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
}

/// A reader that takes its time for each write.
struct Slow(Shared, Duration);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        thread::sleep(self.1);
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn slow_reader_is_not_blamed_on_the_guest() {
    let stdout = Shared::default();
    let short = Duration::from_millis(100);
    let deadlines = Deadlines {
        program: Some(short),
        drain: short,
        ..Deadlines::default()
    };
    let trial = Trial {
        stdout: Box::new(Slow(stdout.clone(), 3 * short)),
        deadlines,
        ..Trial::new()
    };
    let report = trial.run("ready; started 0; echo out >&6; exited 0 0; down");
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(stdout.text(), "out\n");
}

#[test]
fn guest_that_talks_nonsense_is_no_good_guest() {
    let report = Trial::new().run("ready; echo nonsense >&5; started 0; exited 0 0; down");
    assert!(
        matches!(&report.outcome, Outcome::InitFailed { why } if why.contains("nonsense")),
        "{}",
        report.outcome
    );
}

/// A guest whose power is to be cut, and what it says once its program has ended.
fn losing_power(last_words: &str) -> Report {
    let mut program = Program::new(["prog"]);
    program.capture = true;
    let trial = Trial {
        programs: vec![program],
        ending: Ending::PowerCut,
        ..Trial::new()
    };
    trial.run(&format!("ready; started 0; {last_words}"))
}

#[test]
fn power_is_cut_when_the_output_is_complete_and_not_before() {
    let report = losing_power(
        "event exited '\"program\": 0, \"code\": 0'; event awaits-cut '\"taint\": 0'; \
         echo late >&6; mark; exec sleep 1000",
    );
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(report.programs[0].stdout, b"late\n");
}

#[test]
fn guest_that_ends_otherwise_has_not_lost_its_power() {
    let report = losing_power("exited 0 0; down");
    assert_eq!(report.outcome, Outcome::NotCut);
    let report = losing_power("exited 0 0; event awaits-cut '\"taint\": 512'; exec sleep 1000");
    assert_eq!(report.outcome, Outcome::Tainted { flags: 512 });
}
