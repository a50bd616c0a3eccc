//! `lab test`: the tests that need the guest, and the claims, on each kernel, counted.

mod score;
mod shares;

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::run;
use crate::checks::Checks;
use crate::cli::{AccelChoice, Extras, GuestArgs, Kernel, KernelArgs, Run, Test};
use crate::exceptions::Exceptions;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::job::Program;
use crate::outcome::Outcome;
use crate::parallel;
use crate::plan::Plan;
use crate::programs::{Programs, TestProgram};
use crate::release::Wanted;
use crate::session::Streams;
use crate::workshop::Workshop;
use score::{Score, score, summarise};
use shares::Share;

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
        let mut programs = workshop.guest_tests(self.checks)?;
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

    /// What runs the tests of a program.
    fn program(&self, test: &TestProgram) -> Program {
        let mut program = program(test);
        if self.checks.injects_faults {
            // The C library has the kernel write to its memory on any way back to user space (rseq(2)); if that takes a page and
            // fails, the program is killed, whatever the test is about.
            let without = ("GLIBC_TUNABLES".into(), "glibc.pthread.rseq=0".into());
            program.env.push(without);
        }
        program
    }

    /// In how many guests the tests run at the same time: in several, if this kernel makes them take long.
    fn nr_guests(&self) -> usize {
        if self.checks.slowdown() == 1 {
            return 1;
        }
        // Each guest boots, and has memory of its own: more than two would not be worth it.
        thread::available_parallelism()
            .map_or(1, usize::from)
            .min(2)
    }

    /// The claims that may be skipped.
    fn may_skip(&self) -> Vec<String> {
        let everywhere = MAY_SKIP.iter().map(|&name| name.to_owned());
        everywhere.chain(self.exceptions.claims()).collect()
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
    let guest = GuestArgs {
        accel,
        insmod_args: Vec::new(),
        timeout: None,
    };
    let args = Run {
        may_skip: Some(subject.may_skip()),
        ..Run::all(subject.kernel.clone(), guest)
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

/// Runs all test programs.
fn on_kernel(workshop: &Workshop<'_>, subject: &Subject, accel: AccelChoice) -> Result<Score> {
    let (kernel, tests) = (&subject.kernel, subject.tests(workshop)?);
    let planned = tests.iter().map(|test| test.tests.len()).sum();
    ensure!(planned > 0, "there is no test to run on {}", kernel.kernel);
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
    let shares = shares::divide(&tests, subject.nr_guests());
    let run = |share: &Share| {
        let plan = Plan {
            accel,
            timeout: Some(TIMEOUT * subject.checks.slowdown()),
            label: share.label(),
            ..Plan::new(&built, share.work(subject))
        };
        let plan = plan.files(share.files()).extras(kit.as_ref(), extras)?;
        plan.boot(workshop, Streams::outputs())
    };
    let reports = parallel::map(&shares, |_| 1, &workshop.stop, |share, _| run(share))?;
    let mut sum = Score {
        kernel: built.target.kernel.release.clone(),
        excepted: subject.exceptions.nr_tests(),
        ..Score::default()
    };
    for (share, report) in shares.iter().zip(reports) {
        if report.outcome == Outcome::Interrupted {
            return Err(Failure::Interrupted("running the tests in the guest".into()).into());
        }
        sum.add(&score(&sum.kernel, share, &report));
    }
    Ok(sum)
}

/// Where a test program is in the guest.
pub(super) fn guest_path(test: &TestProgram) -> std::path::PathBuf {
    Path::new(TESTS_DIR).join(&test.name)
}

/// What runs its tests there.
pub(super) fn program(test: &TestProgram) -> Program {
    let names = test.tests.iter().map(Into::into);
    let mut program = Program {
        capture: true,
        env: vec![
            // Where assert_cmd looks for the program under test; at compile time it was on the host.
            ("CARGO_BIN_EXE_mmapdemo".into(), "/bin/mmapdemo".into()),
            // There is one device, for which several would take turns; and each would have it loaded in its way.
            ("RUST_TEST_THREADS".into(), "1".into()),
        ],
        ..Program::new([guest_path(test)])
    };
    program.argv.push("--exact".into());
    program.argv.extend(names);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_that_broke_the_run_count_and_do_not_end_it() {
        let broke = counted(Err(anyhow::anyhow!("the experiments broke: a"))).unwrap();
        assert_eq!(broke, ExitCode::LabBroke);
        let score = Score {
            claims: Some(broke),
            ..Score::default()
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
}
