//! A guest to be spoilt: everything as in a good run, but for what a test replaces.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use lab::cli::{AccelChoice, Cli, Command, KernelArgs};
use lab::failure::Failure;
use lab::initramfs::GuestFile;
use lab::job::{Ending, Job, MODULE_PATH, Module, Program, Work};
use lab::layout::Layout;
use lab::machine::{Hardware, Machine};
use lab::module::{Builder, Manner};
use lab::outcome::Outcome;
use lab::patch::{MUTANTS, Patch, Sources};
use lab::phase::Deadlines;
use lab::progress::Progress;
use lab::session::{self, Guest, Streams};
use lab::workshop::{Built, Workshop};

/// How long after the guest's death a run may go on. Two seconds on a machine that does nothing else; what this tells
/// apart is a death that is noticed from one that is waited out.
pub(crate) const DEATH: Duration = Duration::from_secs(10);

/// What all tests share, made once.
struct Parts {
    built: Built,
    base: PathBuf,
    saboteur: PathBuf,
    machine: Machine,
}

/// A set-up that fails is not tried again by each test: the lock is then poisoned for good.
static PARTS: LazyLock<Parts> = LazyLock::new(make_parts);

fn parts() -> &'static Parts {
    &PARTS
}

fn make_parts() -> Parts {
    let progress = Progress::new(true);
    let workshop = Workshop::open(&progress).unwrap();
    let built = workshop.build(&kernel_args()).unwrap();
    let base = workshop
        .base_archive(&built.target, &built.programs)
        .unwrap();
    let machine = workshop
        .machine(&built.target, AccelChoice::Auto, Hardware::USUAL, None)
        .unwrap();
    let saboteur = saboteur(&workshop, &built);
    Parts {
        built,
        base,
        saboteur,
        machine,
    }
}

/// The kernel that this test program is about.
fn kernel_args() -> KernelArgs {
    let args = ["lab", "build", "--kernel", crate::KERNEL];
    let cli = <Cli as clap::Parser>::try_parse_from(args).unwrap();
    let Command::Build(args) = cli.command else {
        panic!("`lab build` is another command");
    };
    args
}

/// Builds the module that breaks rules, by the lab's own means, below `target/`.
fn saboteur(workshop: &Workshop<'_>, built: &Built) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/saboteurs/module");
    let project = workshop.layout.project.join("target/lab/saboteur");
    fs::create_dir_all(project.join("driver")).unwrap();
    for file in ["Kbuild", "driver/mmapdemo.rs"] {
        fs::copy(source.join(file), project.join(file)).unwrap();
    }
    build(project, workshop, built)
}

/// Builds the module whose sources are in `project`.
fn build(project: PathBuf, workshop: &Workshop<'_>, built: &Built) -> PathBuf {
    let layout = Layout {
        project,
        cache: workshop.layout.cache.clone(),
    };
    let builder = Builder {
        layout: &layout,
        sysroot: &built.target.sysroot,
        kernel: &built.target.kernel,
        manner: Manner::Whole,
    };
    match builder.build(workshop.progress, &workshop.stop) {
        Ok(module) => module.path,
        Err(error) => panic!("{}{error:#}", Failure::diagnostics_of(&error)),
    }
}

/// A guest, its machine, and how much time it has.
pub(crate) struct Sabotage {
    pub(crate) machine: Machine,
    pub(crate) files: Vec<GuestFile>,
    pub(crate) job: Job,
    pub(crate) deadlines: Deadlines,
}

impl Sabotage {
    /// A program that promises results, with the driver loaded.
    pub(crate) fn of_results(script: &str) -> Self {
        let mut sabotage = Self::of_programs(script);
        if let Work::Programs(programs) = &mut sabotage.job.work {
            programs[0].ktap = true;
        }
        sabotage
    }

    /// A program that promises nothing, with the driver loaded.
    pub(crate) fn of_programs(script: &str) -> Self {
        let parts = parts();
        let program = Program::new(["sh", "-c", script]);
        Self {
            machine: parts.machine.clone(),
            files: vec![GuestFile::copy(
                &parts.built.module.path,
                MODULE_PATH,
                0o644,
            )],
            job: Job {
                module: Some(Module::mmapdemo("")),
                work: Work::Programs(vec![program]),
                ending: Ending::PowerOff,
                debugged: false,
            },
            deadlines: parts.built.target.kernel.checks.deadlines(),
        }
    }

    /// The module that breaks the rule with this number.
    pub(crate) fn of_module(how: u32) -> Self {
        let mut sabotage = Self::of_programs("true");
        sabotage.files = vec![GuestFile::copy(&parts().saboteur, MODULE_PATH, 0o644)];
        sabotage.job.module = Some(Module::mmapdemo(format!("how={how}")));
        sabotage
    }

    /// The driver with one of the mistakes in `driver/mutants`, and a program that may meet it.
    #[allow(
        dead_code,
        reason = "only one of the programs that share this file has one"
    )]
    pub(crate) fn of_mutant(name: &str, script: &str) -> Self {
        let progress = Progress::new(true);
        let workshop = Workshop::open(&progress).unwrap();
        let project = &workshop.layout.project;
        let mutants = Patch::all(&project.join(MUTANTS)).unwrap();
        let mutant = mutants.iter().find(|it| it.name == name).unwrap();
        let mut sources = Sources::read(project).unwrap();
        sources.apply(mutant).unwrap();
        let copy = project.join("target/lab/mutant").join(name);
        sources.write(&copy).unwrap();
        let module = build(copy, &workshop, &parts().built);
        let mut sabotage = Self::of_programs(script);
        sabotage.files = vec![GuestFile::copy(module, MODULE_PATH, 0o644)];
        sabotage
    }

    /// Another PID 1: this shell script.
    pub(crate) fn of_init(script: &str) -> Self {
        let mut sabotage = Self::of_programs("true");
        let text = format!("#!/bin/sh\n{script}\n");
        sabotage.files.push(GuestFile {
            mode: 0o755,
            ..GuestFile::data("/init", text)
        });
        sabotage
    }

    /// Runs it, and returns how it ended and how long after the last word on its standard output.
    pub(crate) fn run_timed(self) -> (Outcome, Option<Duration>) {
        let guest = Guest {
            archives: vec![parts().base.clone()],
            files: self.files,
            job: self.job,
            allowed: lab::allowed::complaints().unwrap(),
        };
        let heard = Heard::default();
        let streams = Streams {
            stdin: None,
            stdout: Box::new(heard.clone()),
            stderr: Box::new(io::sink()),
            waiting: None,
        };
        let report = session::run(&self.machine, &guest, streams, &self.deadlines).unwrap();
        let last = *heard.0.lock().unwrap();
        let outcome = report.outcome.clone();
        assert!(
            !matches!(outcome, Outcome::SetUp { .. }),
            "{}",
            report.last_words()
        );
        (outcome, last.map(|at| at.elapsed()))
    }

    /// Runs it, and returns how it ended.
    pub(crate) fn run(self) -> Outcome {
        self.run_timed().0
    }
}

/// Remembers when it was written to last.
#[derive(Clone, Default)]
struct Heard(std::sync::Arc<std::sync::Mutex<Option<Instant>>>);

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        *self.0.lock().unwrap() = Some(Instant::now());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A run that has ended: seen from inside the lab, or as its users see it.
pub(crate) trait Ended {
    /// The exit status, and what was said.
    fn status_and_message(&self) -> (Option<i32>, String);
}

impl Ended for Outcome {
    fn status_and_message(&self) -> (Option<i32>, String) {
        (Some(self.exit_code().number().into()), self.to_string())
    }
}

impl Ended for Output {
    fn status_and_message(&self) -> (Option<i32>, String) {
        let said = String::from_utf8_lossy(&self.stderr).into_owned();
        (self.status.code(), said)
    }
}

/// The run has ended with this exit status, and its message has these parts.
#[track_caller]
pub(crate) fn assert_ends(ended: &impl Ended, status: i32, parts: &[&str]) {
    let (code, message) = ended.status_and_message();
    assert_eq!(code, Some(status), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}
