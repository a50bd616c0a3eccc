//! Earlier boots: what they see is kept for the main one, which judges it.

use anyhow::{Result, bail};

use crate::boot::Boot;
use crate::cli::GuestArgs;
use crate::disk::Disk;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::job::{Ending, Program, Work};
use crate::kit::Kit;
use crate::machine::Clock;
use crate::outcome::Outcome;
use crate::parallel;
use crate::plan::Plan;
use crate::report::{ProgramStatus, Report};
use crate::session::Streams;
use crate::workshop::{Built, Workshop};

/// What an earlier boot left behind.
#[derive(Debug)]
pub(super) struct Earlier {
    /// Which one it was.
    pub(super) boot: &'static Boot,
    /// What was seen, one experiment a line.
    pub(super) records: Vec<u8>,
    /// The disks that a power cut left as they are.
    pub(super) disks: Vec<Disk>,
}

impl Earlier {
    /// Runs a command in each of `boots`, and keeps what it says that it saw. They know nothing of each other, and none of
    /// them measures time by the host's clock: as many run at once as there are processors.
    ///
    /// # Errors
    ///
    /// When a guest cannot be made or started, or does not come to the end that belongs to its boot with
    /// all its evidence delivered.
    pub(super) fn boot_all(
        boots: &[&'static Boot],
        workshop: &Workshop<'_>,
        built: &Built,
        kit: Option<&Kit>,
        (args, command): (&GuestArgs, impl Fn(&Boot) -> Vec<String> + Sync),
    ) -> Result<Vec<Self>> {
        // One that fails stops the others, and not who comes after them.
        let workshop = &workshop.again()?;
        // Where instructions are counted, they are executed one at a time, by one processor.
        let weight = |boot: &&Boot| u64::from(boot.hardware.clock == Clock::Instructions);
        parallel::map(boots, weight, &workshop.stop, |boot, _| {
            Self::boot(boot, workshop, built, kit, (args, command(boot)))
        })
    }

    fn boot(
        boot: &'static Boot,
        workshop: &Workshop<'_>,
        built: &Built,
        kit: Option<&Kit>,
        (args, command): (&GuestArgs, Vec<String>),
    ) -> Result<Self> {
        let program = Program {
            capture: true,
            ..Program::new(command)
        };
        let plan = Plan {
            accel: args.accel,
            insmod_args: &args.insmod_args,
            ..Plan::new(built, Work::Programs(vec![program]))
        };
        let plan = plan.in_boot(boot, kit)?.time(args.timeout());
        let mut disks = plan.disks.clone();
        if boot.ending != Ending::PowerCut {
            disks.clear();
        }
        let report = plan.boot(workshop, Streams::outputs())?;
        let records = records(boot, &report).inspect_err(|error| explain(error, &report))?;
        Ok(Self {
            boot,
            records: records.to_vec(),
            disks,
        })
    }
}

/// What the experiments said, if all is well.
fn records<'a>(boot: &Boot, report: &'a Report) -> Result<&'a [u8]> {
    let program = match (&report.outcome, report.programs.as_slice()) {
        (Outcome::Interrupted, _) => {
            return Err(Failure::Interrupted("running the experiments".into()).into());
        }
        (Outcome::Completed, [program]) => program,
        (outcome, _) => {
            let (boot, outcome) = (boot.name, Box::new(outcome.clone()));
            return Err(Failure::EarlierBoot { boot, outcome }.into());
        }
    };
    let ended = match &program.status {
        // Nothing at all is for the main boot to say: it skips what has no record, and gives the reason.
        Some(ProgramStatus::Exited(0)) => return Ok(&program.stdout),
        Some(ProgramStatus::Exited(code)) => format!("exited with {code}"),
        Some(ProgramStatus::Signaled(signal)) => format!("was killed by signal {signal}"),
        Some(ProgramStatus::NotStarted(refusal)) => format!("did not start: {refusal}"),
        None => "did not end".to_owned(),
    };
    bail!("in the boot {}: {} {ended}", boot.name, program.name)
}

/// Shows what led to an error.
fn explain(error: &anyhow::Error, report: &Report) {
    if Failure::exit_code_of(error) == ExitCode::Interrupted {
        return;
    }
    for program in &report.programs {
        eprint!("{}", String::from_utf8_lossy(&program.stderr));
    }
    if report.outcome != Outcome::Completed {
        eprint!("{}", report.last_words());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::EARLIER;
    use crate::phase::Phase;
    use crate::report::ProgramReport;

    fn report(outcome: Outcome, status: Option<ProgramStatus>) -> Report {
        Report {
            outcome,
            events: Vec::new(),
            programs: vec![ProgramReport {
                name: "mmapdemo".into(),
                status,
                stdout: b"{}\n".to_vec(),
                stderr: Vec::new(),
            }],
            console: String::new(),
            ktap: String::new(),
            qemu_stderr: String::new(),
            timings: Vec::new(),
        }
    }

    #[test]
    fn records_are_taken_from_a_boot_in_which_all_is_well() {
        let good = report(Outcome::Completed, Some(ProgramStatus::Exited(0)));
        assert_eq!(records(&EARLIER[0], &good).unwrap(), b"{}\n");
    }

    #[test]
    fn a_bad_end_of_a_boot_is_that_of_the_run_and_the_boot_is_named() {
        let (phase, line) = (Phase::Program(0), "Kernel panic".to_owned());
        for outcome in [
            Outcome::TimedOut {
                phase: phase.clone(),
                before: None,
            },
            Outcome::Panicked {
                line,
                before: None,
                phase,
            },
            Outcome::NotCut,
        ] {
            let (said, code) = (outcome.to_string(), outcome.exit_code());
            let error = records(&EARLIER[0], &report(outcome, None)).unwrap_err();
            assert_eq!(
                format!("{error:#}"),
                format!("in the boot power-cut: {said}")
            );
            assert_eq!(Failure::exit_code_of(&error), code);
        }
    }

    #[test]
    fn experiments_that_broke_in_a_boot_are_the_labs_failure_and_the_boot_is_named() {
        let broke = report(Outcome::Completed, Some(ProgramStatus::Exited(70)));
        let crashed = report(Outcome::Completed, Some(ProgramStatus::Signaled(11)));
        for (report, why) in [(broke, "exited with 70"), (crashed, "killed by signal 11")] {
            let error = records(&EARLIER[0], &report).unwrap_err();
            let said = format!("{error:#}");
            assert!(
                said.starts_with("in the boot power-cut: mmapdemo "),
                "{said}"
            );
            assert!(said.contains(why), "{said}");
            assert_eq!(Failure::exit_code_of(&error), ExitCode::LabBroke);
        }
    }

    #[test]
    fn an_interruption_is_no_failure_of_the_boot() {
        let report = report(Outcome::Interrupted, None);
        let error = records(&EARLIER[0], &report).unwrap_err();
        assert_eq!(Failure::exit_code_of(&error), ExitCode::Interrupted);
    }
}
