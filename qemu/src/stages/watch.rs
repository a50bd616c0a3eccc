//! `lab watch`: after each change, what the claims say of it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::reports::Reports;
use super::run::{self, Parts};
use crate::changes::{Changed, Changes, Part};
use crate::cli::Run;
use crate::cli::warm::Watch;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::interrupt;
use crate::kit::Kit;
use crate::programs::Programs;
use crate::requirements::Requirements;
use crate::session::Streams;
use crate::warm::{Start, Warm};
use crate::workshop::{Built, Target, Workshop};

/// `lab watch`.
///
/// # Errors
///
/// When the first build of the experiments fails, or the lab is asked to stop.
pub fn watch(workshop: &Workshop<'_>, args: &Watch) -> Result<ExitCode> {
    let args = Run {
        claims: args.claims.clone(),
        details: args.details,
        warm: true,
        ..Run::all(args.kernel.clone(), args.guest.clone())
    };
    // From the beginning, so that no change is lost.
    let driver = workshop.driver(args.kernel.driver.as_deref())?;
    let sources = Changes::watch(&workshop.layout.project, &driver)?;
    let target = workshop.prepare(&args.kernel, false)?;
    let shown = workshop.progress.waiting("build the guest's programs");
    let programs = Programs::build(&workshop.layout, &workshop.stop)?;
    drop(shown);
    let mut rounds = Rounds::new(target, programs, args);
    let mut changed = Changed::default();
    loop {
        // What one round was told to stop for is over with it.
        let workshop = workshop.again()?;
        match rounds.round(&workshop, &changed, Streams::outputs()) {
            Ok(code @ ExitCode::OutputClosed) => return Ok(code),
            Ok(_) => {}
            Err(error) if matches!(error.downcast_ref(), Some(Failure::Interrupted(_))) => {
                return Err(error);
            }
            Err(error) => eprintln!("{}lab: {error:#}", Failure::diagnostics_of(&error)),
        }
        rounds.restore_another(&workshop)?;
        changed = wait(&workshop, &sources)?;
    }
}

/// Waits until a source of the module or of the experiments is saved.
fn wait(workshop: &Workshop<'_>, sources: &Changes) -> Result<Changed> {
    workshop.progress.note("  waiting for a change");
    loop {
        let changed = sources.take()?;
        if let Some(file) = changed.file_of(Part::Lab) {
            workshop.progress.note(&format!(
                "  {} has changed, and this lab was built before that: start it again",
                file.display()
            ));
        }
        let counts = |part| changed.file_of(part).is_some();
        if counts(Part::Driver) || counts(Part::Experiments) {
            return Ok(changed);
        }
        let mut fds = [interrupt::fd(), sources.fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("failed to wait for a change"),
        }
        if interrupt::requested() {
            return Err(Failure::Interrupted("waiting for a change".into()).into());
        }
    }
}

/// One run after another, and what they share.
pub(super) struct Rounds {
    target: Target,
    programs: Programs,
    args: Run,
    /// What the claims take, until the experiments change.
    needs: Option<Needs>,
    /// A machine that was restored before it is known what for.
    waiting: Option<Box<Warm>>,
}

/// What the claims take.
#[derive(Clone)]
struct Needs {
    required: Requirements,
    why_cold: Option<String>,
    kit: Option<Kit>,
}

impl Rounds {
    pub(super) fn new(target: Target, programs: Programs, args: Run) -> Self {
        Self {
            target,
            programs,
            args,
            needs: None,
            waiting: None,
        }
    }

    /// Builds what `changed`, and lets the claims be judged.
    pub(super) fn round(
        &mut self,
        workshop: &Workshop<'_>,
        changed: &Changed,
        streams: Streams,
    ) -> Result<ExitCode> {
        let began = Instant::now();
        let target = self.target.clone();
        // Each has a processor of its own, if there are two.
        let (module, ready) = thread::scope(|scope| {
            let driver = self.args.kernel.driver.clone();
            let target = &target;
            let module = scope.spawn(move || workshop.build_module(target, driver.as_deref()));
            let ready = self.get_ready(workshop, changed);
            (module.join(), ready)
        });
        let needs = ready?;
        let built = Built {
            module: module.unwrap_or_else(|_| Err(anyhow!("a job of the lab panicked")))?,
            target,
            programs: self.programs.clone(),
        };
        let took = began.elapsed();
        let start = match (&needs.why_cold, self.waiting.take()) {
            (Some(why), _) => Start::Instead(why.clone()),
            (None, Some(warm)) => Start::Warm(warm),
            (None, None) => self.restore(workshop, &needs)?,
        };
        let parts = Parts {
            built,
            required: needs.required,
            kit: needs.kit,
            start,
        };
        let reports = Reports::begin(None, None)?;
        let code = run::judged(workshop, &self.args, parts, reports, streams)?;
        let after = changed.since.map_or("", |_| " after the change");
        let since = changed.since.unwrap_or(began);
        workshop.progress.note(&format!(
            "  {:.2} s{after}, {:.2} s of them to build",
            since.elapsed().as_secs_f64(),
            took.as_secs_f64()
        ));
        Ok(code)
    }

    /// Restores a machine for the next round, while nobody waits for it, and has it rehearse the claims. Where all are
    /// judged, that would take as long as the round.
    pub(super) fn restore_another(&mut self, workshop: &Workshop<'_>) -> Result<()> {
        if let Some(needs) = self.needs.clone().filter(|needs| needs.why_cold.is_none()) {
            // Why it cannot be, the next round says.
            if let Start::Warm(warm) = self.restore(workshop, &needs)? {
                if !self.args.claims.is_empty() {
                    let none = Reports::default();
                    warm.rehearse(run::experiments(&self.args, &needs.required, &none));
                }
                self.waiting = Some(warm);
            }
        }
        Ok(())
    }

    /// Waits until the machine that waits has rehearsed; false if it does not come to an end of it, in this time.
    pub(super) fn wait_for_rehearsal(&mut self, timeout: Duration) -> Result<bool> {
        let waiting = self.waiting.as_mut();
        waiting.map_or(Ok(false), |warm| warm.rehearsed(timeout))
    }

    /// Everything but the module.
    fn get_ready(&mut self, workshop: &Workshop<'_>, changed: &Changed) -> Result<Needs> {
        if changed.file_of(Part::Experiments).is_some() {
            let stage = workshop.progress.stage("build the experiments");
            self.programs
                .build_experiments(&workshop.layout, &workshop.stop)?;
            stage.done();
            self.needs = None;
        }
        let needs = match self.needs.clone() {
            Some(needs) => needs,
            None => self.look_up(workshop)?,
        };
        if let Some(how) = self
            .waiting
            .as_mut()
            .map(|warm| warm.ended())
            .transpose()?
            .flatten()
        {
            let text = format!("  the machine that waited has ended, another is restored: {how}");
            workshop.progress.note(&text);
            self.waiting = None;
        }
        if self.waiting.is_none() && needs.why_cold.is_none() {
            if let Start::Warm(warm) = self.restore(workshop, &needs)? {
                self.waiting = Some(warm);
            }
        }
        Ok(needs)
    }

    /// Asks the experiments what the claims take.
    fn look_up(&mut self, workshop: &Workshop<'_>) -> Result<Needs> {
        let (args, programs) = (&self.args, &self.programs);
        run::require_known(args.claims.iter(), programs, &workshop.stop)?;
        let (required, why_cold) = run::required(args, programs, &workshop.stop)?;
        let kit = workshop.kit_for(required.of_the_kit(), &args.kernel)?;
        // It may have another set of tools, and other experiments.
        self.waiting = None;
        let needs = Needs {
            required,
            why_cold,
            kit,
        };
        Ok(self.needs.insert(needs).clone())
    }

    fn restore(&self, workshop: &Workshop<'_>, needs: &Needs) -> Result<Start> {
        let extras = (needs.kit.as_ref(), needs.required.extras);
        let accel = self.args.guest.accel;
        Start::warm(workshop, &self.target, &self.programs, accel, extras)
    }
}
