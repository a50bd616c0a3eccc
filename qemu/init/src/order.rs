//! Where `init` has its order from: the initramfs; or the host, once the machine has been restored.
//!
//! The host may take its time. What a guest can do meanwhile need not be done while somebody waits for a verdict.

use std::fs;
use std::io::{self, BufReader};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use linux_crng_ioctl::ioctl::{add_randomness_to_kernel, force_kernel_crng_reseed};
use nix::sys::mman::{MlockAllFlags, mlockall, munlockall};
use nix::time::{ClockId, clock_settime};

use crate::children::Children;
use crate::early::{Early, Start};
use crate::job::{AWAIT_PATH, Command, Event, ORDER_PATH, Order, Program};
use crate::ports::{Control, Ports};
use crate::programs::Outputs;
use crate::{archive, memory, taint};

/// What was done before the order came.
#[derive(Default)]
pub(crate) struct Ahead {
    /// A program that waits for its turn.
    pub(crate) early: Option<(Early, Outputs)>,
    /// [`memory::unaccounted`], before the module.
    pub(crate) unaccounted: Option<u64>,
}

impl Ahead {
    /// Does what can be done now, and returns what the host says then.
    fn get_on(
        &mut self,
        program: Program,
        ports: &Ports,
        children: &Children,
        control: &mut Control,
    ) -> Result<Command> {
        match Early::start(program, ports, children, control)? {
            Start::Interrupted(command) => return Ok(command),
            Start::Failed => {}
            Start::Ready(early, outputs) => self.early = Some((early, outputs)),
        }
        let ready = self.early.is_some();
        control.say(&Event::Rehearsed { ready })?;
        control.next()
    }
}

/// Takes it, and waits for it if need be.
pub(crate) fn take(
    ports: &Ports,
    children: &Children,
    control: &mut Control,
) -> Result<(Order, Ahead)> {
    if Path::new(AWAIT_PATH).exists() {
        return wait_for_host(ports, children, control);
    }
    let text = fs::read(ORDER_PATH).with_context(|| format!("failed to read {ORDER_PATH}"))?;
    let order = serde_json::from_slice(&text);
    let order = order.with_context(|| format!("failed to parse {ORDER_PATH}"))?;
    Ok((order, Ahead::default()))
}

/// Between the first word and the answer to it lies the time for which the machine was saved. It may be
/// restored many times, and all of them go on from there.
fn wait_for_host(
    ports: &Ports,
    children: &Children,
    control: &mut Control,
) -> Result<(Order, Ahead)> {
    let mut ahead = Ahead {
        early: None,
        // Once for all machines that are restored: what comes to them before the module does has counters.
        unaccounted: Some(memory::unaccounted()?),
    };
    fault_in().context("failed to map all of this program")?;
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
        Command::Rehearse { program } => ahead.get_on(program, ports, children, control)?,
        command => command,
    };
    let Command::Begin { order, len } = command else {
        bail!("failed to get an order: the host said {command:?}");
    };
    let mut archive = BufReader::new(control.apart(len));
    let unpacked = archive::unpack(&mut archive, Path::new("/"));
    // What follows is a command.
    let rest = io::copy(&mut archive, &mut io::sink());
    unpacked?;
    rest.context("failed to receive the files of an order")?;
    Ok((order, ahead))
}

/// Has the kernel enter every page of this program into the page table, so that what is restored later takes no fault on
/// its way (mlock(2)).
fn fault_in() -> nix::Result<()> {
    mlockall(MlockAllFlags::MCL_CURRENT)?;
    munlockall()
}

fn set_clock(now: Duration) -> Result<()> {
    clock_settime(ClockId::CLOCK_REALTIME, now.into()).context("failed to set the clock")
}

/// Has the kernel make new keys, which depend on `seed` (random(4): `RNDADDENTROPY`, `RNDRESEEDCRNG`).
fn reseed(seed: &[u8]) -> Result<()> {
    let bits = u32::try_from(seed.len() * 8)?;
    add_randomness_to_kernel(seed, bits)?;
    force_kernel_crng_reseed()
}
