//! Where `init` has its order from: the initramfs; or the host, once the machine has been restored.
//!
//! The host may take its time. A guest that waits can rehearse meanwhile: the code that QEMU translates then need not
//! be translated while somebody waits for a verdict.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use linux_crng_ioctl::ioctl::{add_randomness_to_kernel, force_kernel_crng_reseed};
use rustix::time::{ClockId, Timespec, clock_settime};

use super::children::{Children, Wake};
use super::ports::Control;
use super::taint;
use super::{archive, programs};
use crate::job::{AWAIT_PATH, Command, Event, ORDER_PATH, Order, Program};

/// Takes it, and waits for it if need be.
pub(super) fn take(children: &Children, control: &mut Control) -> Result<Order> {
    if Path::new(AWAIT_PATH).exists() {
        wait_for_host(children, control)?;
    }
    let text = fs::read(ORDER_PATH).with_context(|| format!("failed to read {ORDER_PATH}"))?;
    serde_json::from_slice(&text).with_context(|| format!("failed to parse {ORDER_PATH}"))
}

/// Between the first word and the answer to it lies the time for which the machine was saved. It may be
/// restored many times, and all of them go on from there.
fn wait_for_host(children: &Children, control: &mut Control) -> Result<()> {
    control.say(&Event::Awaiting { taint: taint()? })?;
    match control.next()? {
        Command::Wake { now, seed } => {
            set_clock(now)?;
            reseed(&seed).context("failed to seed the random numbers")?;
        }
        command => bail!("failed to wake up: the host said {command:?}"),
    }
    control.say(&Event::Awake)?;
    let command = match control.next()? {
        Command::Rehearse { program } => rehearse(&program, children, control)?,
        command => command,
    };
    let archive = match command {
        Command::Unpack { len } => control.receive(len)?,
        command => bail!("failed to get an order: the host said {command:?}"),
    };
    archive::unpack(&mut Cursor::new(archive), Path::new("/"))
}

/// Runs a program that nobody listens to, until it ends or the host says something, and returns what the host says.
fn rehearse(program: &Program, children: &Children, control: &mut Control) -> Result<Command> {
    let mut command = programs::command(program)?;
    command.stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(child) = command.spawn() else {
        // What cannot be rehearsed may well be done.
        return control.next();
    };
    let next = match children.wait_for(programs::pid(&child)?, control)? {
        Wake::Ended(_) => {
            control.say(&Event::Rehearsed)?;
            control.next()?
        }
        Wake::Command(command) => command,
        Wake::PowerOff => bail!("{} asked for power-off", program.name()),
    };
    children.kill_all()?;
    Ok(next)
}

fn set_clock(now: Duration) -> Result<()> {
    let time = Timespec {
        tv_sec: i64::try_from(now.as_secs()).context("failed to set the clock")?,
        tv_nsec: now.subsec_nanos().into(),
    };
    clock_settime(ClockId::Realtime, time).context("failed to set the clock")
}

/// Has the kernel make new keys, which depend on `seed` (random(4): `RNDADDENTROPY`, `RNDRESEEDCRNG`).
fn reseed(seed: &[u8]) -> Result<()> {
    let bits = u32::try_from(seed.len() * 8)?;
    add_randomness_to_kernel(seed, bits)?;
    force_kernel_crng_reseed()
}
