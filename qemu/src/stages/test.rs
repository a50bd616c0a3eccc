//! `lab test`: the tests that need the guest, and the claims, on each kernel, counted.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::run;
use crate::checks::Checks;
use crate::cli::{AccelChoice, Extras, GuestArgs, Kernel, KernelArgs, Run, Test};
use crate::exceptions::Exceptions;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::initramfs::GuestFile;
use crate::job::{Program, Work};
use crate::libtest::Tally;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::programs::{Programs, TestProgram};
use crate::release::Wanted;
use crate::report::{ProgramStatus, Report};
use crate::session::Streams;
use crate::workshop::Workshop;

/// How long one test program may take: many times what it needs.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Claims that are about software which is not brought along. No other may be skipped.
const MAY_SKIP: [&str; 5] = [
    "tools-app-postgresql",
    "tools-app-nginx",
    "tools-app-v8",
    "tools-app-redis-aof",
    "tools-app-redis-allocator",
];

/// The tests that are about the driver. They load the module as they need it, and leave it with any number of pages:
/// nobody comes after them.
pub(super) const DRIVER: &str = "driver";

/// Where the test programs are in the guest.
const TESTS_DIR: &str = "/root/tests";

/// What came of the tests on one kernel.
#[derive(Debug, Default)]
struct Score {
    kernel: String,
    passed: usize,
    failed: usize,
    /// Planned, and without a result.
    missing: usize,
    /// Why there could be no result at all: the archive does not offer the kernel.
    unavailable: Option<String>,
    /// Whether the guest itself came to a bad end.
    broke: bool,
    /// What came of the claims, if they were judged.
    claims: Option<ExitCode>,
    /// How many tests were left out, as this kernel is an exception to them.
    excepted: usize,
}

/// A kernel, and what is different about it.
struct Subject {
    kernel: KernelArgs,
    checks: Checks,
    exceptions: Exceptions,
}

impl Subject {
    fn new(kernel: KernelArgs) -> Result<Self> {
        let checks = kernel.kernel.checks()?;
        let exceptions = match kernel.kernel {
            Kernel::Debian(Wanted::Debug) => Exceptions::of_debug_kernel()?,
            _ => Exceptions::default(),
        };
        Ok(Self {
            kernel,
            checks,
            exceptions,
        })
    }

    /// The test programs, without the tests that this kernel is an exception to.
    fn tests(&self, workshop: &Workshop<'_>) -> Result<Vec<TestProgram>> {
        let mut programs = TestProgram::build_all(&workshop.layout, self.checks, &workshop.stop)?;
        programs.sort_by_key(|program| program.name == DRIVER);
        let mut excepted = 0;
        for program in &mut programs {
            let before = program.tests.len();
            let names = self.exceptions.tests(&program.name);
            program.tests.retain(|test| !names.contains(test));
            excepted += before - program.tests.len();
        }
        ensure!(
            excepted == self.exceptions.nr_tests(),
            "qemu/debug-exceptions.toml names {} tests, of which there are {excepted}",
            self.exceptions.nr_tests()
        );
        Ok(programs)
    }

    /// What runs a test program, without those tests.
    fn program(&self, test: &TestProgram) -> Program {
        let mut program = program(test);
        if self.checks.injects_faults {
            // The C library has the kernel write to its memory on any way back to user space (rseq(2)); if that takes a page and
            // fails, the program is killed, whatever the test is about.
            let without = ("GLIBC_TUNABLES".into(), "glibc.pthread.rseq=0".into());
            program.env.push(without);
        }
        for name in self.exceptions.tests(&test.name) {
            program
                .argv
                .extend(["--exact".into(), "--skip".into(), name.into()]);
        }
        program
    }

    /// The claims that may be skipped.
    fn may_skip(&self) -> Vec<String> {
        let everywhere = MAY_SKIP.iter().map(|&name| name.to_owned());
        everywhere.chain(self.exceptions.claims()).collect()
    }
}

impl Score {
    /// Whether the claims were judged, and not as expected.
    fn claims_failed(&self) -> bool {
        self.claims.is_some_and(|code| code != ExitCode::AsExpected)
    }
}

/// `lab test`.
///
/// # Errors
///
/// When the tests do not compile, or a guest cannot be made or started.
pub fn test(workshop: &Workshop<'_>, args: &Test) -> Result<ExitCode> {
    let mut scores = Vec::new();
    for kernel in args.kernels.each() {
        let subject = Subject::new(kernel)?;
        let mut score = match on_kernel(workshop, &subject, args.accel) {
            Ok(score) => score,
            Err(error) => {
                // What was found on the kernels before is not to get lost.
                summarise(&scores);
                return Err(error);
            }
        };
        if score.unavailable.is_none() {
            score.claims = Some(claims(workshop, &subject, args.accel)?);
        }
        scores.push(score);
    }
    Ok(summarise(&scores))
}

/// Judges all claims, as `lab run` does.
///
/// # Errors
///
/// If it was interrupted; whatever else keeps it from an answer counts, and the rest is still to be told.
fn claims(workshop: &Workshop<'_>, subject: &Subject, accel: AccelChoice) -> Result<ExitCode> {
    let args = Run {
        kernel: subject.kernel.clone(),
        guest: GuestArgs {
            accel,
            insmod_args: Vec::new(),
            timeout: None,
        },
        claims: Vec::new(),
        details: false,
        warm: false,
        may_skip: Some(subject.may_skip()),
        json: None,
        junit: None,
    };
    counted(run::run(workshop, &args))
}

/// Turns an error into what it counts as, and tells it.
fn counted(judged: Result<ExitCode>) -> Result<ExitCode> {
    match judged {
        Err(error) if Failure::exit_code_of(&error) != ExitCode::Interrupted => {
            eprintln!("{}lab: {error:#}", Failure::diagnostics_of(&error));
            Ok(Failure::exit_code_of(&error))
        }
        judged => judged,
    }
}

/// Runs all test programs in one guest.
fn on_kernel(workshop: &Workshop<'_>, subject: &Subject, accel: AccelChoice) -> Result<Score> {
    let (kernel, tests) = (&subject.kernel, subject.tests(workshop)?);
    let planned = tests.iter().map(|test| test.tests.len()).sum();
    let extras = Extras {
        disk: true,
        tools: true,
    };
    let kit = |_: &Programs| workshop.kit_for(extras, kernel);
    let (built, kit) = match workshop.build_and(kernel, kit) {
        Err(error) => {
            let Some(Failure::Unavailable(why)) = error.downcast_ref() else {
                return Err(error);
            };
            let why = why.clone();
            let name = kernel.kernel.to_string();
            return Ok(Score {
                kernel: name,
                missing: planned,
                unavailable: Some(why),
                ..Score::default()
            });
        }
        Ok(built) => built,
    };
    let files = tests
        .iter()
        .map(|test| GuestFile::copy(&test.path, guest_path(test), 0o755));
    let programs = tests.iter().map(|test| subject.program(test));
    let plan = Plan {
        accel,
        timeout: Some(TIMEOUT * subject.checks.slowdown()),
        ..Plan::new(&built, Work::Programs(programs.collect()))
    };
    let plan = plan.files(files).extras(kit.as_ref(), extras)?;
    let report = plan.boot(workshop, Streams::outputs())?;
    if report.outcome == Outcome::Interrupted {
        return Err(Failure::Interrupted("running the tests in the guest".into()).into());
    }
    Ok(Score {
        excepted: subject.exceptions.nr_tests(),
        ..score(&built.target.kernel.release, &tests, &report)
    })
}

/// Where a test program is in the guest.
pub(super) fn guest_path(test: &TestProgram) -> std::path::PathBuf {
    Path::new(TESTS_DIR).join(&test.name)
}

/// What runs it there.
pub(super) fn program(test: &TestProgram) -> Program {
    Program {
        capture: true,
        env: vec![
            // Where assert_cmd looks for the program under test; at compile time it was on the host.
            ("CARGO_BIN_EXE_mmapdemo".into(), "/bin/mmapdemo".into()),
            // There is one device, for which several would take turns; and each would have it loaded in its way.
            ("RUST_TEST_THREADS".into(), "1".into()),
        ],
        ..Program::new([guest_path(test)])
    }
}

/// Counts what the test programs said, and shows what is not good.
fn score(release: &str, tests: &[TestProgram], report: &Report) -> Score {
    let mut score = Score {
        kernel: release.to_owned(),
        ..Score::default()
    };
    for (index, test) in tests.iter().enumerate() {
        let program = report.programs.get(index);
        let output = program
            .map(|program| String::from_utf8_lossy(&program.stdout))
            .unwrap_or_default();
        let tally = Tally::of(&test.tests, &output);
        println!(
            "{release} {}: {} planned, {} passed, {} failed, {} without a result",
            test.name,
            test.tests.len(),
            tally.passed.len(),
            tally.failed.len(),
            tally.missing.len()
        );
        if !tally.is_good() {
            let errors = program
                .map(|program| String::from_utf8_lossy(&program.stderr))
                .unwrap_or_default();
            println!("{output}{errors}");
        }
        let status = program.and_then(|program| program.status.as_ref());
        if let Some(status) = status.filter(|status| !status.is_of_libtest()) {
            println!("{release} {}: {status}", test.name);
        }
        for name in &tally.missing {
            println!("{release} {}: no result for {name}", test.name);
        }
        for name in &tally.unplanned {
            println!("{release} {}: {name} was not planned", test.name);
        }
        score.passed += tally.passed.len();
        score.failed += tally.failed.len() + tally.unplanned.len();
        score.missing += tally.missing.len();
        // Results that are all good, of a program that says otherwise, are not.
        let contradicted = tally.is_good() && status != Some(&ProgramStatus::Exited(0));
        score.broke |= tally.passed.is_empty() || contradicted;
    }
    if report.outcome != Outcome::Completed {
        println!("{}{release}: {}", report.last_words(), report.outcome);
        score.broke = true;
    }
    score
}

/// Prints the table and the closing line, and decides the exit status.
fn summarise(scores: &[Score]) -> ExitCode {
    println!();
    for score in scores {
        let Score {
            kernel,
            passed,
            failed,
            missing,
            unavailable,
            broke,
            claims: _,
            excepted,
        } = score;
        match unavailable {
            Some(why) => println!("{kernel}: UNAVAILABLE, {missing} tests not run: {why}"),
            None if *broke => println!(
                "{kernel}: {passed} passed, {failed} failed, {missing} missing, and the guest broke"
            ),
            None => println!("{kernel}: {passed} passed, {failed} failed, {missing} missing"),
        }
        if *excepted > 0 {
            println!("{kernel}: {excepted} tests left out, see qemu/debug-exceptions.toml");
        }
        if score.claims_failed() {
            println!("{kernel}: the claims are not as expected, or were not all judged");
        }
    }
    let sum = |part: fn(&Score) -> usize| scores.iter().map(part).sum::<usize>();
    let lost = sum(|score| {
        if score.unavailable.is_some() {
            0
        } else {
            score.missing
        }
    });
    let broke = scores.iter().filter(|score| score.broke).count();
    // What is lost has failed; what has no kernel was skipped.
    let failed = sum(|score| score.failed + usize::from(score.claims_failed())) + lost + broke;
    let skipped = sum(|score| {
        if score.unavailable.is_some() {
            score.missing
        } else {
            0
        }
    });
    println!(
        "{} passed, {failed} failed, {skipped} skipped",
        sum(|score| score.passed)
    );
    if failed > 0 {
        ExitCode::NotAsExpected
    } else if scores.iter().all(|score| score.unavailable.is_some()) {
        ExitCode::Skipped
    } else {
        ExitCode::AsExpected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ProgramReport;

    fn good() -> Score {
        Score {
            kernel: "7.3".into(),
            passed: 5,
            ..Score::default()
        }
    }

    #[test]
    fn only_results_count_as_passed() {
        assert_eq!(summarise(&[good()]), ExitCode::AsExpected);
        assert_eq!(
            summarise(&[Score {
                failed: 1,
                ..good()
            }]),
            ExitCode::NotAsExpected
        );
        assert_eq!(
            summarise(&[Score {
                missing: 1,
                ..good()
            }]),
            ExitCode::NotAsExpected
        );
        assert_eq!(
            summarise(&[Score {
                broke: true,
                ..good()
            }]),
            ExitCode::NotAsExpected
        );
    }

    #[test]
    fn a_program_whose_tests_passed_and_that_ends_otherwise_is_a_failure() {
        let test = TestProgram {
            name: "driver".into(),
            path: "driver".into(),
            tests: vec!["a".into()],
        };
        let score_of = |status| {
            let program = ProgramReport {
                name: "driver".into(),
                status,
                stdout: b"test a ... ok\n".to_vec(),
                stderr: Vec::new(),
            };
            let report = Report {
                outcome: Outcome::Completed,
                events: Vec::new(),
                programs: vec![program],
                console: String::new(),
                ktap: String::new(),
                qemu_stderr: String::new(),
                timings: Vec::new(),
            };
            score("7.3", std::slice::from_ref(&test), &report)
        };
        assert!(!score_of(Some(ProgramStatus::Exited(0))).broke);
        for status in [ProgramStatus::Exited(1), ProgramStatus::Signaled(11)] {
            let score = score_of(Some(status));
            assert!(score.broke && score.passed == 1);
        }
        assert!(score_of(None).broke);
    }

    #[test]
    fn claims_that_are_not_as_expected_are_a_failure() {
        for (claims, expected) in [
            (ExitCode::AsExpected, ExitCode::AsExpected),
            (ExitCode::NotAsExpected, ExitCode::NotAsExpected),
            (ExitCode::Skipped, ExitCode::NotAsExpected),
            (ExitCode::Panicked, ExitCode::NotAsExpected),
        ] {
            let claims = Some(claims);
            assert_eq!(summarise(&[Score { claims, ..good() }]), expected);
        }
    }

    #[test]
    fn claims_that_broke_the_run_count_and_do_not_end_it() {
        let broke = counted(Err(anyhow::anyhow!("the experiments broke: a"))).unwrap();
        assert_eq!(broke, ExitCode::LabBroke);
        let score = Score {
            claims: Some(broke),
            ..good()
        };
        assert_eq!(summarise(&[score]), ExitCode::NotAsExpected);
        let stopped = Failure::Interrupted("running the experiments".into());
        assert!(counted(Err(stopped.into())).is_err());
        assert_eq!(
            counted(Ok(ExitCode::AsExpected)).unwrap(),
            ExitCode::AsExpected
        );
    }

    #[test]
    fn what_may_be_skipped_is_about_other_software_and_nothing_else_is() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../userspace/claims");
        let mut others = Vec::new();
        for file in std::fs::read_dir(dir).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for claim in text.split("[[claim]]").skip(1) {
                let id = claim.lines().find_map(|line| line.strip_prefix("id = "));
                if claim.contains("needs = [\"external-software\"]") {
                    others.push(id.unwrap().trim_matches('"').to_owned());
                }
            }
        }
        others.sort();
        let mut may_skip = MAY_SKIP;
        may_skip.sort_unstable();
        assert_eq!(others, may_skip);
    }

    #[test]
    fn an_unavailable_kernel_is_never_passed() {
        let gone = || Score {
            missing: 5,
            unavailable: Some("gone".into()),
            ..Score::default()
        };
        assert_eq!(summarise(&[gone()]), ExitCode::Skipped);
        assert_eq!(summarise(&[]), ExitCode::Skipped);
        assert_eq!(summarise(&[good(), gone()]), ExitCode::AsExpected);
    }
}
