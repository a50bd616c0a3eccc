//! `lab doctor`: what is there, what is missing, and how to mend it.

use std::env;
use std::time::Duration;

use anyhow::Result;

use crate::accel;
use crate::apt;
use crate::cache::{self, Entry};
use crate::cli::{AccelChoice, Kernel, KernelArgs};
use crate::command::HostCommand;
use crate::exit_code::ExitCode;
use crate::host::{self, TOOLS, Tool};
use crate::kit;
use crate::layout::Layout;
use crate::own_kernel;
use crate::prepare::Resolution;
use crate::stop::Stop;
use crate::workshop::Workshop;

/// What the cache may come to hold, in bytes.
const CACHE_BYTES: u64 = 2_000_000_000;

/// The oldest cargo that builds the project (`rust-version` in Cargo.toml).
const OLDEST_CARGO: (u32, u32) = (1, 85);

/// What a check found.
enum Finding {
    /// All is well.
    Good(String),
    /// Not there yet, and the lab will make it.
    Later(String),
    /// Missing or not matching; the second text says how to mend it.
    Bad(String, String),
}

/// `lab doctor`.
///
/// # Errors
///
/// When a check itself cannot be made.
pub fn doctor(workshop: &Workshop<'_>, args: &KernelArgs) -> Result<ExitCode> {
    let (layout, stop) = (&workshop.layout, &workshop.stop);
    let mut findings = tools();
    findings.push((
        "name spaces",
        or_bad(host::require_name_spaces(stop), "allowed"),
    ));
    findings.push(("cargo", cargo(stop)));
    findings.push(("cache", cache(layout)));
    findings.push(("mirror", mirror(args, stop)));
    findings.extend(prepared(layout, args, stop)?);
    findings.push(("kit", kit(layout)?));
    let mut code = ExitCode::AsExpected;
    for (what, finding) in findings {
        match finding {
            Finding::Good(text) => println!("ok       {what:<12} {text}"),
            Finding::Later(text) => println!("to do    {what:<12} {text}"),
            Finding::Bad(text, remedy) => {
                println!(
                    "MISSING  {what:<12} {text}\n         {:<12} next step: {remedy}",
                    ""
                );
                code = ExitCode::SetUpMissing;
            }
        }
    }
    Ok(code)
}

fn tools() -> Vec<(&'static str, Finding)> {
    let (there, missing): (Vec<&Tool>, Vec<&Tool>) = TOOLS.iter().partition(|tool| tool.is_there());
    let mut findings: Vec<_> = missing
        .iter()
        .map(|tool| {
            let remedy = format!(
                "sudo apt-get install --no-install-recommends -y {}",
                tool.package
            );
            (
                "tool",
                Finding::Bad(format!("{}: {}", tool.name, tool.purpose), remedy),
            )
        })
        .collect();
    let names: Vec<_> = there
        .iter()
        .map(|tool| tool.name.rsplit('/').next().unwrap_or(tool.name))
        .collect();
    findings.push(("tools", Finding::Good(names.join(", "))));
    findings
}

/// What some guests have beside the usual.
fn kit(layout: &Layout) -> Result<Finding> {
    let what = "pmap, strace and an empty disk for guests that need them";
    Ok(match kit::current(&kit::TOOLS, layout) {
        Some(dir) => entry(&cache::state(&dir)?, what),
        None => Finding::Later(format!("{what}: cargo lab prepare")),
    })
}

fn or_bad(result: Result<()>, good: &str) -> Finding {
    match result {
        Ok(()) => Finding::Good(good.into()),
        Err(error) => bad(&error),
    }
}

/// An error as a finding: what follows "next step:" in its text is the remedy.
fn bad(error: &anyhow::Error) -> Finding {
    let text = format!("{error:#}");
    let (what, remedy) = text
        .split_once("next step:")
        .unwrap_or((&text, "see above"));
    Finding::Bad(what.trim().into(), remedy.trim().into())
}

fn cargo(stop: &Stop) -> Finding {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let asked = HostCommand::new("ask cargo for its version", program)
        .arg("--version")
        .stdout(stop);
    let text = match asked {
        Ok(text) => text.trim().to_owned(),
        Err(error) => return bad(&error),
    };
    let mut numbers = text.split([' ', '.']).filter_map(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST_CARGO => Finding::Good(text),
        _ => {
            let (major, minor) = OLDEST_CARGO;
            Finding::Bad(
                format!("{text} is older than {major}.{minor}"),
                "install a newer Rust toolchain".into(),
            )
        }
    }
}

fn cache(layout: &Layout) -> Finding {
    if let Err(error) = layout.make_cache() {
        return bad(&error);
    }
    let dir = layout.cache.display();
    match host::free_bytes(&layout.cache) {
        Err(error) => bad(&error),
        Ok(free) if free < CACHE_BYTES && !layout.packages().exists() => Finding::Bad(
            format!(
                "{dir} has {} MB free, and 2000 MB may be needed",
                free / 1_000_000
            ),
            "make room, or set MMAPDEMO_CACHE to a directory on another disk".into(),
        ),
        Ok(free) => Finding::Good(format!("{dir}, {} MB free", free / 1_000_000)),
    }
}

fn mirror(args: &KernelArgs, stop: &Stop) -> Finding {
    match apt::mirror_or_host(args.mirror.as_deref(), stop) {
        Ok(mirror) => Finding::Good(mirror),
        Err(error) => bad(&error),
    }
}

/// The toolchain, the kernel and what would run the guest.
fn prepared(
    layout: &Layout,
    args: &KernelArgs,
    stop: &Stop,
) -> Result<Vec<(&'static str, Finding)>> {
    let wanted = match args.kernel.toolchain() {
        Ok(wanted) => wanted,
        Err(error) => return Ok(vec![("own kernel", bad(&error))]),
    };
    let Some(resolution) = Resolution::load(layout, &wanted) else {
        let text = format!(
            "nothing is prepared for {0} yet: cargo lab prepare --kernel {0}",
            args.kernel
        );
        return Ok(vec![("kernel", Finding::Later(text))]);
    };
    let entries = resolution.entries(layout);
    let days = resolution
        .asked
        .elapsed()
        .unwrap_or(Duration::ZERO)
        .as_secs()
        / 86_400;
    let release = &resolution.release;
    let mut findings = vec![
        (
            "toolchain",
            entry(
                &entries.sysroot.state()?,
                &entries.sysroot.root.display().to_string(),
            ),
        ),
        (
            "kernel",
            entry(
                &entries.kernel.state()?,
                &format!(
                    "{release}, chosen {days} days ago (cargo lab prepare --update asks again)"
                ),
            ),
        ),
    ];
    if entries.sysroot.state()? == Entry::Whole {
        if let Kernel::Own(dir) = &args.kernel {
            let finding = match own_kernel::describe(dir, &entries.sysroot, stop) {
                Ok(tree) => Finding::Good(tree.release),
                Err(error) => bad(&error),
            };
            findings.push(("own kernel", finding));
        }
        let qemu = entries.sysroot.qemu();
        let finding = match accel::choose(AccelChoice::Auto.into(), &qemu, &layout.accel_answer()) {
            Ok(choice) => Finding::Good(choice.to_string()),
            Err(error) => bad(&error),
        };
        findings.push(("accelerator", finding));
    }
    Ok(findings)
}

fn entry(state: &Entry, what: &str) -> Finding {
    match state {
        Entry::Whole => Finding::Good(what.into()),
        Entry::Absent => Finding::Later(format!("{what}: not made yet")),
        Entry::Damaged(path) => Finding::Later(format!(
            "{what}: {} has changed, so it will be made again",
            path.display()
        )),
    }
}
