//! Earlier boots: what they see is kept for the main one, which judges it.

use anyhow::{Result, bail};

use crate::boot::Boot;
use crate::cli::GuestArgs;
use crate::disk::Disk;
use crate::failure::Failure;
use crate::job::{Ending, Program, Work};
use crate::kit::Kit;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::report::{ProgramStatus, Report};
use crate::session::Streams;
use crate::workshop::{Built, Workshop};

/// What the earlier boots left behind.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// What was seen, one experiment a line.
    pub(super) records: Vec<u8>,
    /// The disks that a power cut left as they are.
    pub(super) disks: Vec<Disk>,
}

impl Earlier {
    /// Lets the experiments of `claims` look in `boot`, and keeps what they see.
    ///
    /// # Errors
    ///
    /// When the guest cannot be made or started, or does not come to the end that belongs to the boot with
    /// all its evidence delivered.
    pub(super) fn boot(
        &mut self,
        boot: &'static Boot,
        workshop: &Workshop<'_>,
        built: &Built,
        kit: Option<&Kit>,
        (args, claims): (&GuestArgs, &[String]),
    ) -> Result<()> {
        let command = ["mmapdemo", "observe", "--boot", boot.name];
        let program = Program {
            capture: true,
            ..Program::new(command.into_iter().chain(claims.iter().map(String::as_str)))
        };
        let plan = Plan {
            accel: args.accel,
            insmod_args: &args.insmod_args,
            timeout: Some(args.timeout()),
            ..Plan::new(built, Work::Programs(vec![program]))
        };
        let plan = plan.in_boot(boot, kit)?;
        let disks = plan.disks.clone();
        let report = plan.boot(workshop, Streams::outputs())?;
        let records = records(&report).map_err(|error| explain(error, boot, &report))?;
        self.records.extend_from_slice(records);
        if boot.ending == Ending::PowerCut {
            self.disks.extend(disks);
        }
        Ok(())
    }
}

/// What the experiments said, if all is well.
fn records(report: &Report) -> Result<&[u8]> {
    let program = match (&report.outcome, report.programs.as_slice()) {
        (Outcome::Interrupted, _) => {
            return Err(Failure::Interrupted("running the experiments".into()).into());
        }
        (Outcome::Completed, [program]) => program,
        (outcome, _) => bail!("{outcome}"),
    };
    match &program.status {
        // Nothing at all is for the main boot to say: it skips what has no record, and gives the reason.
        Some(ProgramStatus::Exited(0)) => Ok(&program.stdout),
        Some(ProgramStatus::Exited(code)) => bail!("{} exited with {code}", program.name),
        Some(ProgramStatus::Signaled(signal)) => {
            bail!("{} was killed by signal {signal}", program.name)
        }
        Some(ProgramStatus::NotStarted(refusal)) => {
            bail!("{} did not start: {refusal}", program.name)
        }
        None => bail!("{} did not end", program.name),
    }
}

/// Says of which boot an error is, below what led to it.
fn explain(error: anyhow::Error, boot: &Boot, report: &Report) -> anyhow::Error {
    if error.is::<Failure>() {
        return error;
    }
    for program in &report.programs {
        eprint!("{}", String::from_utf8_lossy(&program.stderr));
    }
    if report.outcome != Outcome::Completed {
        eprint!("{}", report.last_words());
    }
    error.context(format!("the boot {} failed", boot.name))
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
        assert_eq!(records(&good).unwrap(), b"{}\n");
    }

    #[test]
    fn records_of_a_boot_that_failed_are_worth_nothing_and_the_boot_is_named() {
        let phase = Phase::Program(0);
        let timed_out = report(Outcome::TimedOut { phase }, None);
        let broke = report(Outcome::Completed, Some(ProgramStatus::Exited(70)));
        let crashed = report(Outcome::Completed, Some(ProgramStatus::Signaled(11)));
        for (report, why) in [
            (timed_out, "timed out during program 1"),
            (broke, "exited with 70"),
            (crashed, "killed by signal 11"),
        ] {
            let error = explain(records(&report).unwrap_err(), &EARLIER[0], &report);
            let said = format!("{error:#}");
            assert!(said.starts_with("the boot power-cut failed: "), "{said}");
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn an_interruption_is_no_failure_of_the_boot() {
        let report = report(Outcome::Interrupted, None);
        let error = explain(records(&report).unwrap_err(), &EARLIER[0], &report);
        assert!(error.is::<Failure>(), "{error:#}");
    }
}
