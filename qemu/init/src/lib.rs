//! PID 1 of the guest: mount, load the module, run the programs, say the last word, power off.
//!
//! It follows an [`Order`] and judges nothing: what it sees goes to the host as [`Event`]s. Whatever it
//! fails at is an event and a line on the console, and then the guest powers off.
//!
//! A package of its own, as it is compiled for an emulated processor, and the lab is not.
#![forbid(unsafe_code)]

mod archive;
mod children;
mod debugged;
mod early;
pub mod job;
mod leaks;
pub mod mark;
mod memory;
mod mounts;
mod order;
mod ports;
mod processes;
mod programs;
mod shell;

use std::fs::{self, File};
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};
use nix::sys::reboot::{RebootMode, reboot};
use nix::time::{ClockId, clock_gettime};
use rustix::system::uname;

use crate::job::{Ending, Event, INIT_FAILED, Job, Module, Order, Refusal, Work};
use children::Children;
use ports::{Control, Ports};

/// The argument with which `init` calls itself to become a shell on a terminal.
const LOGIN: &str = "login";

/// What PID 1 does; it does not come back.
pub fn main() {
    if std::env::args().nth(1).as_deref() == Some(LOGIN) {
        complain(&format!("{:#}", shell::login()));
        return;
    }
    // If PID 1 ended, the kernel would panic and the reason would drown in that.
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => complain(&format!("{error:#}")),
        Err(_) => complain("it panicked, see above"),
    }
    power_off();
}

/// Says on the console what went wrong, where the host looks for it when no event tells.
fn complain(why: &str) {
    // Without a console there is nobody to tell, and a panic (as by `eprintln!`) would end PID 1.
    let _ = writeln!(io::stderr(), "{INIT_FAILED}{why}");
}

/// From the first mount to the last word.
fn work() -> Result<()> {
    mounts::mount_all()?;
    let ports = Ports::find()?;
    let mut control = ports.control()?;
    let done = follow(&ports, &mut control);
    if let Err(error) = &done {
        control.say(&Event::Failed {
            why: format!("{error:#}"),
        })?;
    }
    control.say(&Event::Down { taint: taint()? })?;
    control.wait_for_bye()?;
    done
}

fn follow(ports: &Ports, control: &mut Control) -> Result<()> {
    let children = Children::adopt()?;
    let (order, ahead) = order::take(ports, &children, control)?;
    control.say(&ready()?)?;
    let Order {
        job:
            Job {
                module,
                work,
                ending,
                debugged,
            },
        mark,
    } = order;
    let is_restored = ahead.unaccounted.is_some();
    let count = || ahead.unaccounted.map_or_else(memory::unaccounted, Ok);
    let before = module.is_some().then(count).transpose()?;
    if let Some(kib) = before {
        control.say(&Event::Unaccounted { kib })?;
    }
    let is_shell = matches!(work, Work::Shell(_));
    let loaded = module
        .as_ref()
        .map_or(Ok(true), |module| load(module, control))?;
    if let Some(module) = module.as_ref().filter(|_| loaded && debugged) {
        debugged::wait(module, control)?;
    }
    let has_turn = matches!(&work, Work::Programs(programs) if loaded && !programs.is_empty());
    if ahead.early.is_some() && !has_turn {
        // Before its socket is closed, of which it would complain.
        children.kill_all()?;
    }
    match work {
        Work::Programs(programs) if loaded => {
            programs::run(&programs, ahead.early, &mark, ports, &children, control)?;
            if ending == Ending::PowerCut {
                return await_cut(control);
            }
        }
        Work::Programs(_) => {}
        Work::Shell(shell) => shell::run(&shell, &children, control)?,
    }
    children.kill_leftovers(control)?;
    if let Some(module) = module.filter(|_| loaded) {
        unload(&module, control)?;
    }
    if let Some(before) = before {
        let kib = memory::settled(before, is_restored)?;
        control.say(&Event::Unaccounted { kib })?;
    }
    // A person who leaves a shell does not want to wait for that.
    if !is_shell {
        leaks::scan()?.map_or(Ok(()), |found| control.say(&found))?;
    }
    Ok(())
}

/// Waits for the host to cut the power. Nothing is unmounted, written back or unloaded here: whoever loses
/// power does not come to that either.
fn await_cut(control: &mut Control) -> Result<()> {
    control.say(&Event::AwaitsCut { taint: taint()? })?;
    control.wait_for_bye()?;
    bail!("the host did not cut the power")
}

fn ready() -> Result<Event> {
    let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME).context("failed to read the clock")?;
    let uptime_ms = Duration::from(uptime).as_millis().try_into();
    Ok(Event::Ready {
        release: uname().release().to_string_lossy().into_owned(),
        uptime_ms: uptime_ms.context("failed to count milliseconds")?,
        taint: taint()?,
    })
}

fn taint() -> Result<u64> {
    let path = "/proc/sys/kernel/tainted";
    let text = read_trimmed(path)?;
    let taint = text.parse();
    taint.with_context(|| format!("failed to parse {path}: {text}"))
}

fn read_trimmed(path: &str) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("failed to read {path}"))?;
    Ok(text.trim_end().to_owned())
}

/// Inserts the module, as insmod(8) does; false if the kernel refused it.
fn load(module: &Module, control: &mut Control) -> Result<bool> {
    let path = module.path.display();
    let file = File::open(&module.path).with_context(|| format!("failed to open {path}"))?;
    let params = std::ffi::CString::new(module.params.as_str())
        .with_context(|| format!("failed to pass parameters to {path}"))?;
    match finit_module(&file, &params, ModuleInitFlags::empty()) {
        Ok(()) => control.say(&Event::ModuleLoaded).map(|()| true),
        Err(errno) => control
            .say(&Event::ModuleRefused(io::Error::from(errno).into()))
            .map(|()| false),
    }
}

/// Removes the module, as rmmod(8) does: without waiting for users of it, of whom none should be left.
fn unload(module: &Module, control: &mut Control) -> Result<()> {
    if !Path::new("/sys/module").join(&module.name).exists() {
        return control.say(&Event::ModuleGone);
    }
    let name = std::ffi::CString::new(module.name.as_str())
        .with_context(|| format!("failed to name the module {}", module.name))?;
    match delete_module(&name, DeleteModuleFlags::O_NONBLOCK) {
        Ok(()) => control.say(&Event::ModuleUnloaded),
        Err(errno) => control.say(&Event::UnloadRefused(Refusal::from(io::Error::from(errno)))),
    }
}

/// Ends the machine. With QEMU's `-no-reboot` a reset is the end, as is a power-off by ACPI; the
/// difference is below what can be measured, and only one of them does not look like a crash.
fn power_off() {
    // What is on a disk is owed this; only a power cut comes without.
    nix::unistd::sync();
    let Err(errno) = reboot(RebootMode::RB_POWER_OFF);
    complain(&format!("failed to power off: {errno}"));
    // The host has its deadline; ending here would be a kernel panic that says nothing.
    loop {
        thread::park();
    }
}
