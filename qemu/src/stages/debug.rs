//! `lab debug`: gdb attached to the guest.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::run::{color, extras_of, require_known};
use crate::cache;
use crate::cli::debug::Debug;
use crate::command::find_program;
use crate::debugger::{self, Begun, Debugger, Gdb, Knowledge, Place};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::job::{self, Program, Work};
use crate::kit::{self, Kit};
use crate::lock::Lock;
use crate::module::SOURCE_MOUNT;
use crate::outcome::Outcome;
use crate::package::hex;
use crate::plan::{self, Label, Plan};
use crate::programs::Programs;
use crate::report::{ProgramStatus, Report};
use crate::session::Streams;
use crate::symbol_file;
use crate::terminal;
use crate::workshop::{Built, Workshop};

/// Where the sysroot has the sources of Rust's own crates.
const RUST_SOURCES: &str = "usr/lib/rustlib/src";

/// A command of gdb's: by now its own Python has started by these variables, and another one, which the user runs by
/// gdb's `shell`, would not start by them.
const FORGET_PYTHON: &str = "python import os; [os.environ.pop(name, None) for name in ('PYTHONHOME', 'PYTHONDONTWRITEBYTECODE')]";

/// Changes whenever the lines of the lab that shape a symbol file do.
const RECIPE: &str = "symbols 2";

/// `lab debug`.
///
/// # Errors
///
/// When the guest cannot be made or started, gdb not be had, or it leaves the guest stopped.
pub fn debug(workshop: &Workshop<'_>, args: &Debug) -> Result<ExitCode> {
    // A mistyped name shows before anything is prepared for it.
    let copies = plan::copied_files(&args.copy)?;
    let claims: Vec<String> = args.claim.iter().cloned().collect();
    let work = work(args)?;
    if let Some(own) = args.gdb.as_ref().filter(|own| find_program(own).is_none()) {
        return Err(Failure::Usage(format!("no program {}", own.display())).into());
    }
    let (place, listener) = Place::make()?;
    let set_up = |programs: &Programs| {
        require_known(claims.iter(), programs, &workshop.stop)?;
        if claims.is_empty() {
            return Ok(Default::default());
        }
        let instead = |boot: &str| {
            format!("boot that without gdb: cargo lab exec --boot {boot} -- mmapdemo ...")
        };
        let extras = extras_of(&claims, programs, &workshop.stop, instead)?;
        Ok((extras, workshop.kit_for(extras, &args.kernel)?))
    };
    let (built, (extras, kit)) = workshop.build_and(&args.kernel, set_up)?;
    let symbols = Symbols::prepare(workshop, args, &built)?;
    place.write_module(&built.module.elf)?;
    let attach = Arc::new(Attach {
        knowledge: knowledge(workshop, args, &built, &symbols, &place)?,
        place,
        starter: Starter::prepare(workshop, args)?,
        status: Arc::default(),
        print: args.print,
        gdb_args: args.gdb_args.clone(),
    });
    let is_shell = matches!(work, Work::Shell(_));
    let plan = Plan {
        accel: args.guest.accel,
        insmod_args: &args.guest.insmod_args,
        timeout: args.guest.timeout(),
        debugger: Some(Debugger {
            listener,
            begin: {
                let attach = Arc::clone(&attach);
                Box::new(move |sections| attach.begin(sections, is_shell))
            },
        }),
        ..Plan::new(&built, work)
    };
    let plan = plan.files(copies).extras(kit.as_ref(), extras)?;
    let report = plan.boot(workshop, streams(is_shell)?)?;
    verdict(&report, attach.status.get().copied())
}

/// What the guest does.
fn work(args: &Debug) -> Result<Work> {
    let command: Vec<OsString> = match (&args.claim, &args.sh) {
        (Some(claim), _) => {
            let words = ["mmapdemo", "run", "--color", color(), "--details"];
            let words = words.map(OsString::from).into_iter();
            words.chain([claim.into()]).collect()
        }
        (None, Some(commands)) => ["sh", "-c", commands].map(OsString::from).into(),
        (None, None) => return shell(args),
    };
    Ok(Work::Programs(vec![Program::new(command)]))
}

fn shell(args: &Debug) -> Result<Work> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let text = "the guest's shell needs a terminal; elsewhere name a claim, or use --sh";
        return Err(Failure::Usage(text.into()).into());
    }
    if !args.gdb_args.is_empty() {
        let text = "the guest's shell has this terminal, and gdb is to be started in another one, with its arguments; \
                    or name a claim, or use --sh";
        return Err(Failure::Usage(text.into()).into());
    }
    Ok(Work::Shell(job::Shell {
        term: env::var("TERM").unwrap_or_else(|_| "vt100".into()),
        size: terminal::size_of(&stdin),
    }))
}

/// The shell has the lab's terminal; programs read nothing, as gdb does.
fn streams(is_shell: bool) -> Result<Streams> {
    let stdin = is_shell.then(|| io::stdin().as_fd().try_clone_to_owned());
    let stdin = stdin
        .transpose()
        .context("failed to duplicate the terminal")?;
    Ok(Streams {
        stdin,
        ..Streams::outputs()
    })
}

/// What attaches a debugger to the guest, once that waits.
struct Attach {
    knowledge: Knowledge,
    place: Place,
    starter: Starter,
    status: Arc<OnceLock<ExitStatus>>,
    print: bool,
    gdb_args: Vec<OsString>,
}

impl Attach {
    fn begin(&self, sections: &[job::Section], is_shell: bool) -> Result<Begun> {
        let place = &self.place;
        let commands = self.knowledge.commands(sections, &place.socket());
        let env = self.starter.env.iter();
        let env: Vec<_> = env.map(|(name, value)| (*name, value.as_path())).collect();
        let script = debugger::script(&self.starter.argv, &env, &place.commands());
        place.write(&commands, &script)?;
        let script = place.script();
        if self.print {
            println!(
                "{commands}# The same: source {}",
                place.commands().display()
            );
            if !is_shell {
                eprintln!("  the guest waits until a debugger has attached; Ctrl-C ends it");
            }
        }
        if is_shell {
            if !self.print {
                eprintln!("  gdb, in another terminal: {}", script.display());
            }
            return Ok(Begun::AtLeisure);
        }
        if self.print {
            return Ok(Begun::Elsewhere);
        }
        Gdb::start(&script, &self.gdb_args, Arc::clone(&self.status)).map(Begun::Here)
    }
}

/// How gdb is started.
struct Starter {
    argv: Vec<OsString>,
    env: Vec<(&'static str, PathBuf)>,
    /// Keeps other runs from removing it.
    #[expect(dead_code, reason = "held for its Drop")]
    kit: Option<Kit>,
}

impl Starter {
    /// The user's own gdb; or Debian's, fetched if it is not there.
    fn prepare(workshop: &Workshop<'_>, args: &Debug) -> Result<Self> {
        if let Some(own) = args.gdb.as_ref().and_then(find_program) {
            return Ok(Self {
                argv: vec![own.into()],
                env: Vec::new(),
                kit: None,
            });
        }
        let kit = workshop.kit_of(&kit::GDB, &args.kernel, false)?;
        let usr = kit.root().join("usr");
        let mut words = kit.host_program("gdb");
        words.extend(["--data-directory".into(), usr.join("share/gdb").into()]);
        words.extend(["-iex".into(), FORGET_PYTHON.into()]);
        Ok(Self {
            argv: words,
            env: vec![
                ("PYTHONHOME", usr),
                // It would write what it compiles beside the sources, into the cache.
                ("PYTHONDONTWRITEBYTECODE", "1".into()),
            ],
            kit: Some(kit),
        })
    }
}

/// The kernel's symbols, in a file that gdb reads.
struct Symbols {
    path: PathBuf,
    /// Keeps other runs from removing it.
    #[expect(dead_code, reason = "held for its Drop")]
    held: Option<Lock>,
}

impl Symbols {
    /// The image itself, if it has them; or what the kernel of a guest says, which is asked once.
    fn prepare(workshop: &Workshop<'_>, args: &Debug, built: &Built) -> Result<Self> {
        let (layout, kernel) = (&workshop.layout, &built.target.kernel);
        let key = Sha256::digest(format!("{RECIPE} {}", kernel.key));
        let dir = layout.cache.join(format!("symbols-{}", hex(&key[..6])));
        let path = dir.join("vmlinux.symbols");
        let read = || {
            let path = &kernel.image;
            fs::read(path).with_context(|| format!("failed to read {}", path.display()))
        };
        if cache::state(&dir)? != cache::Entry::Whole {
            let image = read()?;
            if symbol_file::is_complete(&image) {
                return Ok(Self {
                    path: kernel.image.clone(),
                    held: None,
                });
            }
            let frames = symbol_file::call_frames(&image).with_context(|| {
                format!(
                    "failed to make symbols for {}; a kernel of your own with CONFIG_DEBUG_INFO_DWARF5=y (--kernel DIR) \
                     brings its own",
                    kernel.image.display()
                )
            })?;
            cache::make(
                &dir,
                "read the kernel's symbols",
                workshop.progress,
                |dir| {
                    let kallsyms = kallsyms(workshop, args, built)?;
                    let file = symbol_file::make(&image, frames, &kallsyms)?;
                    let path = dir.join("vmlinux.symbols");
                    fs::write(&path, file)
                        .with_context(|| format!("failed to write {}", path.display()))
                },
            )?;
        }
        Ok(Self {
            path,
            held: Some(cache::hold(&dir)?),
        })
    }
}

/// What `/proc/kallsyms` says in a guest. `nokaslr` makes it the same in each.
fn kallsyms(workshop: &Workshop<'_>, args: &Debug, built: &Built) -> Result<String> {
    let program = Program {
        capture: true,
        ..Program::new(["cat", "/proc/kallsyms"])
    };
    let plan = Plan {
        accel: args.guest.accel,
        label: Some(Label {
            name: "symbols".into(),
            what: "to read its symbols, once".into(),
        }),
        ..Plan::new(built, Work::Programs(vec![program]))
    };
    let report = plan.boot(workshop, Streams::outputs())?;
    match (&report.outcome, report.programs.as_slice()) {
        (Outcome::Completed, [program]) if program.status == Some(ProgramStatus::Exited(0)) => {
            Ok(String::from_utf8_lossy(&program.stdout).into_owned())
        }
        (Outcome::Interrupted, _) => {
            Err(Failure::Interrupted("reading the kernel's symbols".into()).into())
        }
        (outcome, _) => bail!(
            "{}failed to read the kernel's symbols in a guest: {outcome}",
            report.last_words()
        ),
    }
}

/// What gdb has to know.
fn knowledge(
    workshop: &Workshop<'_>,
    args: &Debug,
    built: &Built,
    symbols: &Symbols,
    place: &Place,
) -> Result<Knowledge> {
    let target = &built.target;
    let project = args.kernel.driver.as_ref();
    let project = project.and_then(|dir| fs::canonicalize(dir).ok());
    let rust = (
        Path::new("/").join(RUST_SOURCES),
        target.sysroot.path(RUST_SOURCES),
    );
    let mut sources = vec![
        (
            SOURCE_MOUNT.into(),
            project.unwrap_or_else(|| workshop.layout.project.clone()),
        ),
        rust,
    ];
    let mounts = target.kernel.mounts.iter();
    sources.extend(mounts.map(|(host, inside)| (inside.clone(), host.clone())));
    Ok(Knowledge {
        kernel: symbols.path.clone(),
        module: place.module(),
        sections: symbol_file::sections_in_memory(&built.module.elf)?,
        sources,
    })
}

/// What became of it, as an exit status.
fn verdict(report: &Report, gdb: Option<ExitStatus>) -> Result<ExitCode> {
    let program = report.programs.first();
    let program = program.and_then(|program| program.status.as_ref());
    match (&report.outcome, gdb) {
        (Outcome::Completed, Some(status)) if !status.success() => {
            eprintln!("lab: gdb {}", debugger::describe(status));
            Ok(ExitCode::NotAsExpected)
        }
        (Outcome::Completed, _) => Ok(match program {
            None | Some(ProgramStatus::Exited(0)) => ExitCode::AsExpected,
            Some(status) => {
                eprintln!("lab: the guest's program {status}");
                ExitCode::NotAsExpected
            }
        }),
        (Outcome::Interrupted, _) => Err(Failure::Interrupted("debugging".into()).into()),
        (outcome, _) => {
            // The kernel has no part in that one.
            if !matches!(outcome, Outcome::OutputClosed(_)) {
                eprint!("{}", report.last_words());
            }
            eprintln!("lab: {outcome}");
            Ok(outcome.exit_code())
        }
    }
}
