//! Warm starts: a machine that was saved after its boot goes on, and meanwhile the module is built.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::cli::{AccelChoice, Extras};
use crate::failure::Failure;
use crate::job::Program;
use crate::kit::Kit;
use crate::machine::{Accel, Hardware};
use crate::phase::Deadlines;
use crate::programs::Programs;
use crate::report::Report;
use crate::session::{self, Guest, Refused, Resting, Streams};
use crate::snapshot::{Ingredients, Snapshot};
use crate::workshop::{Target, Workshop};

/// How a guest begins.
#[derive(Default)]
pub enum Start {
    /// It boots, as nothing else was asked for.
    #[default]
    Cold,
    /// It boots, although it was to be restored, for this reason.
    Instead(String),
    /// It is restored.
    Warm(Box<Warm>),
}

/// A machine that was restored, and waits.
pub struct Warm {
    resting: Resting,
    snapshot: Snapshot,
}

impl Start {
    /// Restores a guest with these programs, and with what of the kit is wanted; makes the snapshot first,
    /// if there is none.
    ///
    /// # Errors
    ///
    /// When something cannot be read, or the lab is interrupted. That a machine cannot be saved is a reason
    /// to boot.
    pub fn warm(
        workshop: &Workshop<'_>,
        target: &Target,
        programs: &Programs,
        accel: AccelChoice,
        (kit, wanted): (Option<&Kit>, Extras),
    ) -> Result<Self> {
        if wanted.disk {
            return Ok(Self::Instead(
                "a disk is not what it was when it was saved".into(),
            ));
        }
        let machine = workshop.machine_for(target, accel, Hardware::USUAL)?;
        if machine.accel == Accel::Kvm {
            let why = "by KVM a boot takes no time, and what is saved by it was never tried";
            return Ok(Self::Instead(why.into()));
        }
        let archives: Vec<PathBuf> = kit
            .filter(|_| wanted.tools)
            .map(Kit::programs)
            .into_iter()
            .collect();
        let ingredients = Ingredients {
            machine: &machine,
            release: &target.kernel.release,
            kernel_key: &target.kernel.key,
            programs,
            archives: &archives,
        };
        let layout = &workshop.layout;
        let snapshot = Snapshot::of(layout, &ingredients)?;
        let base = || workshop.base_archive(target, programs);
        match snapshot.make(layout, &ingredients, base, workshop.progress) {
            Err(error) if matches!(error.downcast_ref(), Some(Failure::Interrupted(_))) => {
                return Err(error);
            }
            Err(error) => return Ok(Self::Instead(format!("{error:#}"))),
            Ok(()) => {}
        }
        let Some(resting) = snapshot.restore(&machine)? else {
            let why = format!("{} has just been removed", snapshot.dir().display());
            return Ok(Self::Instead(why));
        };
        Ok(Self::Warm(Box::new(Warm { resting, snapshot })))
    }
}

impl Warm {
    /// Has the guest start the program that its job begins with, and that get ready, while nobody waits for it.
    pub fn rehearse(&self, program: Program) {
        self.resting.rehearse(program);
    }

    /// Waits until that is ready; false if it is not in this time.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    pub fn rehearsed(&mut self, timeout: Duration) -> Result<bool> {
        self.resting.rehearsed(timeout)
    }

    /// How the machine ended, if it has.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    pub fn ended(&mut self) -> Result<Option<String>> {
        self.resting.ended()
    }

    /// Has the guest do its job. The inner error is for the caller to boot instead; then the next run makes
    /// the snapshot again.
    ///
    /// # Errors
    ///
    /// As [`session::resume`].
    pub fn run(
        self,
        guest: &Guest,
        streams: Streams,
        deadlines: &Deadlines,
    ) -> Result<Result<Report, Refused>> {
        let resumed = session::resume(self.resting, guest, streams, deadlines)?;
        if resumed.is_err() {
            self.snapshot.discard()?;
        }
        Ok(resumed)
    }
}
