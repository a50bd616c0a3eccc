//! Saves a machine in which a guest has booted and waits for its order.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::heard::Heard;
use super::listener::Listener;
use crate::console::{self, Allowance};
use crate::failure::Failure;
use crate::initramfs::{self, GuestFile};
use crate::job::{AWAIT_PATH, Event};
use crate::machine::{Channel, Machine};
use crate::outcome::End;
use crate::phase::Deadlines;
use crate::qmp;
use crate::vm::{Saved, Vm};
use std::io::Write;

/// Its outputs say nothing before its order, so it needs no mark.
const NO_MARK: &str = "";

/// Boots a guest from `archives`, saves the machine to `to`, and returns what the kernel said.
///
/// # Errors
///
/// When the guest does not come to the point where it waits, the kernel complains on the way there, or
/// QEMU does not save the machine.
pub fn save(
    machine: &Machine,
    archives: &[PathBuf],
    to: Saved,
    allowed: &[Allowance],
    deadlines: &Deadlines,
) -> Result<String> {
    let initramfs = initramfs::assemble(archives, &[GuestFile::data(AWAIT_PATH, "")])?;
    let vm = Vm::start_to_save(machine, initramfs, to)?;
    let mut listener = Listener::new(vm, NO_MARK)?;
    let spoken = |heard: &Heard| !heard.events.is_empty();
    let end = listener.listen_until(spoken, deadlines.start + deadlines.boot)?;
    go_on(&mut listener, end, "boot a guest to be saved")?;
    let taint = match listener.heard.events.as_slice() {
        [Event::Awaiting { taint }] => *taint,
        events => bail!("failed to boot a guest to be saved: it said {events:?}"),
    };
    // The guest is not stopped before: QEMU does so itself, when everything else is ready.
    let written = listener
        .vm
        .channel(Channel::Monitor)
        .write_all(&qmp::save());
    written.context("failed to tell QEMU to save the machine")?;
    let answered = |heard: &Heard| heard.monitor.saved() || heard.monitor.refused().is_some();
    let end = listener.listen_until(answered, deadlines.restore)?;
    go_on(&mut listener, end, "save the machine")?;
    if let Some(why) = listener.heard.monitor.refused() {
        bail!("failed to save the machine: QEMU says: {why}");
    }
    // Nothing of it may change any more.
    listener.close(&mut End::Dead)?;
    let log = listener.heard.console.text();
    require_sound(&log, taint, allowed)?;
    Ok(log)
}

/// Turns an early end into an error.
fn go_on(listener: &mut Listener, end: Option<End>, what: &str) -> Result<()> {
    let Some(mut end) = end else {
        return Ok(());
    };
    listener.close(&mut end)?;
    let heard = &listener.heard;
    let why = match end {
        End::Interrupted => return Err(Failure::Interrupted(format!("about to {what}")).into()),
        End::Dead => heard
            .console
            .death()
            .map_or_else(String::new, |death| format!("the guest died: {death:?}")),
        End::QemuExited {
            failure: Some(how), ..
        } => format!("QEMU {how}: {}", heard.complaints()),
        End::TimedOut => "it took too long".to_owned(),
        _ => "the guest ended by itself".to_owned(),
    };
    bail!("failed to {what}: {why}")
}

/// What is restored again and again must have begun well.
fn require_sound(log: &str, taint: u64, allowed: &[Allowance]) -> Result<()> {
    let splats = console::splats(log, allowed);
    if !splats.is_empty() {
        bail!("failed to boot a guest to be saved: its kernel complained: {splats:?}");
    }
    let unexpected = taint & !console::allowed_taint(log, allowed);
    if unexpected != 0 {
        bail!("failed to boot a guest to be saved: its kernel is tainted: flags {unexpected:#x}");
    }
    Ok(())
}
