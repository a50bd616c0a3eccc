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
        Some(ProgramStatus::Exited(0)) if program.stdout.ends_with(b"\n") => Ok(&program.stdout),
        Some(ProgramStatus::Exited(0)) => bail!("the experiments saw nothing"),
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
