//! `lab mutants`: whether the tests notice a driver that is wrong.

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::test;
use crate::checks::Checks;
use crate::cli::{KernelArgs, Mutants};
use crate::command::HostCommand;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::initramfs::GuestFile;
use crate::job::{Event, KTAP_PATH, MODULE_PATH, Program, Work};
use crate::layout::Layout;
use crate::libtest;
use crate::matrix::{self, Caught, Fate, Tried, Witnesses};
use crate::module::{Builder, KernelModule};
use crate::outcome::Outcome;
use crate::parallel;
use crate::patch::{self, Patch, Sources};
use crate::phase::{Phase, Timing};
use crate::plan::{Label, Plan};
use crate::programs::TestProgram;
use crate::progress::Progress;
use crate::report::Report;
use crate::session::Streams;
use crate::workshop::{Built, Workshop};

/// How long the tests and the claims may take, each, on the driver as it is: many times what they need, as all others
/// wait for them.
const TIMEOUT: Duration = Duration::from_secs(1800);

/// How many times as long they may take on a mutant, which may make them hang: there are others beside it.
const SLOWER: u32 = 4;

/// How long they may take in any case: a few of them take a second, and then a busy host would look like a hang.
const LEAST: Duration = Duration::from_secs(300);

/// How often a mutant is booted until its fate is decided.
const ATTEMPTS: usize = 3;

/// Those of them that are left out, for the time that they take: they do the same very often, or are about the kernel
/// more than about the driver.
pub(super) const LEFT_OUT: [&str; 4] = [
    "chains::the_chains_are_as_documented",
    "module::a_hundred_loads_leave_nothing_behind",
    "module::opening_and_unloading_may_race",
    "scarce::a_buffer_that_is_not_to_be_had_is_enomem",
];

/// What the claims need that are tried. Those about races take long, and those about the kernel's functions, or other
/// machines, say little about the driver.
const NEEDS: &str = "device,pagemap";

/// Where the matrix is kept.
const MATRIX: &str = "docs/mutants.md";

/// `lab mutants`.
///
/// # Errors
///
/// When a mutant cannot be made, or somebody notices something without one.
pub fn mutants(workshop: &Workshop<'_>, args: &Mutants) -> Result<ExitCode> {
    let all = Patch::all(&workshop.layout.project.join(patch::MUTANTS))?;
    let mut open = choose(&all, &args.names)?;
    let nr_chosen = open.len();
    let suite = Suite::new(workshop, &super::of_the_clone(workshop, &args.kernel))?;
    let path = workshop.layout.project.join(MATRIX);
    let before = fs::read_to_string(&path).unwrap_or_default();
    let mut fates = Vec::new();
    if args.recorded {
        fates = suite.ask(&suite.recorded(&open, &before)?, |_| Ok(()))?;
        fates.retain(|(_, fate)| fate.is_caught());
        open.retain(|mutant| !fates.iter().any(|(caught, _)| caught.name == mutant.name));
    }
    let everybody: Vec<_> = open.into_iter().map(|it| (it, suite.all.clone())).collect();
    fates.extend(suite.ask(&everybody, |known| {
        if !args.write {
            return Ok(());
        }
        // At once: whoever interrupts the lab can go on with the others.
        let text = matrix::document(&suite.tried(), &all, known, &before);
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    })?);
    fates.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    if fates.len() != nr_chosen {
        bail!("{} of {nr_chosen} mutants were tried", fates.len());
    }
    print!("{}", matrix::table(&fates));
    Ok(summarise(&fates))
}

/// Prints the closing lines, and decides the exit status.
fn summarise(fates: &[(&Patch, Fate)]) -> ExitCode {
    let mut free = fates
        .iter()
        .filter(|(_, fate)| !fate.is_caught())
        .peekable();
    let all_caught = free.peek().is_none();
    for (mutant, fate) in free {
        eprintln!("lab: {}: {}", mutant.name, fate.summary());
    }
    let caught = fates.iter().filter(|(_, fate)| fate.is_caught()).count();
    println!("{caught} of {} mutants were caught", fates.len());
    if all_caught {
        ExitCode::AsExpected
    } else {
        ExitCode::NotAsExpected
    }
}

/// Those with these names, or with these numbers; all, if none is named.
fn choose<'a>(all: &'a [Patch], names: &[String]) -> Result<Vec<&'a Patch>> {
    let has_name = |mutant: &Patch, name: &str| {
        mutant.name == name
            || mutant
                .name
                .split_once('-')
                .is_some_and(|(nr, rest)| nr == name || rest == name)
    };
    if let Some(name) = names
        .iter()
        .find(|name| !all.iter().any(|m| has_name(m, name)))
    {
        return Err(Failure::Usage(format!("no mutant {name} in {}", patch::MUTANTS)).into());
    }
    let chosen =
        |mutant: &&Patch| names.is_empty() || names.iter().any(|name| has_name(mutant, name));
    Ok(all.iter().filter(chosen).collect())
}

/// What is tried on each driver, and where.
struct Suite<'a> {
    workshop: &'a Workshop<'a>,
    built: Built,
    test: TestProgram,
    all: Witnesses,
}

impl<'a> Suite<'a> {
    fn new(workshop: &'a Workshop<'a>, kernel: &KernelArgs) -> Result<Self> {
        let tests = workshop.guest_tests(Checks::default())?;
        let test = tests.into_iter().find(|test| test.name == test::DRIVER);
        let mut test = test.context("failed to find the tests of the driver")?;
        if let Some(name) = LEFT_OUT
            .iter()
            .find(|name| !test.tests.iter().any(|test| test == *name))
        {
            bail!("failed to leave out {name}: the driver has no such test");
        }
        test.tests.retain(|test| !LEFT_OUT.contains(&test.as_str()));
        let built = workshop.build(kernel)?;
        let ids = HostCommand::new("list the claims", &built.programs.mmapdemo)
            .args(["list", "--object", "device", "--ids", "--needs-only", NEEDS])
            .stdout(&workshop.stop)?;
        let all = Witnesses {
            tests: test.tests.clone(),
            claims: ids.lines().map(str::to_owned).collect(),
        };
        if all.tests.is_empty() || all.claims.is_empty() {
            bail!("failed to find tests and claims that could notice anything");
        }
        Ok(Self {
            workshop,
            built,
            test,
            all,
        })
    }

    fn tried(&self) -> Tried {
        Tried {
            release: self.built.target.kernel.release.clone(),
            nr_tests: self.all.tests.len(),
            nr_claims: self.all.claims.len(),
            left_out: &LEFT_OUT,
        }
    }

    /// Some of those who noticed these mutants before, as the document says; without the mutants of which it says nothing,
    /// or that nobody noticed but by the guest's end.
    fn recorded<'p>(
        &self,
        mutants: &[&'p Patch],
        document: &str,
    ) -> Result<Vec<(&'p Patch, Witnesses)>> {
        let recorded = mutants.iter().map(|mutant| {
            let few = Witnesses::recorded(document, &mutant.name);
            if let Some(name) = self.all.lacks(&few) {
                bail!(
                    "{MATRIX} says that {} is noticed by {name}, which is not tried any more; next step: cargo lab mutants \
                     --write {}",
                    mutant.name,
                    mutant.name
                );
            }
            Ok((*mutant, few))
        });
        let mut recorded = recorded.collect::<Result<Vec<_>>>()?;
        recorded.retain(|(_, few)| *few != Witnesses::default());
        Ok(recorded)
    }

    /// Finds out what becomes of these mutants, when these are asked; on the driver as it is, all of them together may notice
    /// nothing. `tell` has what is known so far, with each that comes to it.
    fn ask<'p>(
        &self,
        mutants: &[(&'p Patch, Witnesses)],
        tell: impl Fn(&[(&'p Patch, Fate)]) -> Result<()> + Sync,
    ) -> Result<Vec<(&'p Patch, Fate)>> {
        if mutants.is_empty() {
            return Ok(Vec::new());
        }
        let asked = Witnesses::of_all(mutants.iter().map(|(_, witnesses)| witnesses));
        let (fate, took) = self.try_on("healthy", &self.built.module, &asked, TIMEOUT)?;
        if fate != Fate::Survived {
            bail!("without a mistake, somebody notices one: {fate:?}");
        }
        let timeout = LEAST.max(SLOWER * took);
        let panicked = || anyhow!("a job of the lab panicked");
        let known = Mutex::new(Vec::new());
        let find_out = |(mutant, witnesses): &(&'p Patch, Witnesses)| {
            let module = self.build(mutant)?;
            let (fate, _) = self.try_on(&mutant.name, &module, witnesses, timeout)?;
            let is_open = !fate.is_caught() && *witnesses != self.all;
            let next = if is_open { "; all are asked next" } else { "" };
            let (name, summary) = (&mutant.name, fate.summary());
            let progress = self.workshop.progress;
            progress.note(&format!("  {name}: {summary}{next}"));
            let mut known = known.lock().map_err(|_| panicked())?;
            known.push((*mutant, fate));
            tell(&known)
        };
        let stop = &self.workshop.stop;
        parallel::map(mutants, |_| 1, stop, |mutant, _| find_out(mutant))?;
        known.into_inner().map_err(|_| panicked())
    }

    /// Finds out what becomes of a driver, and how long the tests or the claims took in its last boot.
    fn try_on(
        &self,
        name: &str,
        module: &KernelModule,
        witnesses: &Witnesses,
        timeout: Duration,
    ) -> Result<(Fate, Duration)> {
        let mut once: Option<Caught> = None;
        let (mut why, mut took) = ("one has noticed once".to_owned(), timeout);
        for _ in 0..ATTEMPTS {
            let (seen, longest) = self.look(name, module, witnesses, timeout)?;
            took = longest;
            let caught = match seen {
                Ok(caught) => caught,
                Err(end) => {
                    why = end;
                    continue;
                }
            };
            let decided = once.is_some() || caught.nobody() || caught.is_beyond_doubt();
            let caught = match &once {
                Some(before) if !caught.is_beyond_doubt() => caught.and(before),
                _ => caught,
            };
            match (decided, caught.nobody()) {
                (true, true) => return Ok((Fate::Survived, took)),
                (true, false) => return Ok((Fate::Caught(caught), took)),
                (false, _) => once = Some(caught),
            }
        }
        Ok((Fate::Undecided(why), took))
    }

    /// Who notices something in a run, and how long the tests or the claims took in it.
    fn look(
        &self,
        name: &str,
        module: &KernelModule,
        witnesses: &Witnesses,
        timeout: Duration,
    ) -> Result<(Result<Caught, String>, Duration)> {
        let report = self.boot(name, module, witnesses, timeout)?;
        let mut seen = Caught::by(&report, &witnesses.tests);
        let begun = |program| report.events.contains(&Event::Started { program });
        let unasked = !witnesses.claims.is_empty() && begun(0) && !begun(1);
        if let (Ok(caught), true, false) = (&mut seen, unasked, witnesses.tests.is_empty()) {
            // The guest ended while the claims were judged: the tests get one of their own.
            let tests = Witnesses {
                claims: Vec::new(),
                ..witnesses.clone()
            };
            let report = self.boot(&format!("{name}-tests"), module, &tests, timeout)?;
            if let Ok(others) = Caught::by(&report, &witnesses.tests) {
                caught.tests = others.tests;
                caught.tests.extend(ended_in(&report));
            }
        }
        Ok((seen, longest(&report.timings)))
    }

    /// Builds the module with the mistake, from a copy of its sources.
    fn build(&self, mutant: &Patch) -> Result<KernelModule> {
        let workshop = self.workshop;
        let copy = tempfile::tempdir().context("failed to make a temporary directory")?;
        let mut sources = Sources::read(&workshop.layout.project)?;
        sources.apply(mutant)?;
        sources.write(copy.path())?;
        let layout = Layout {
            project: copy.path().to_owned(),
            ..workshop.layout.clone()
        };
        let builder = Builder {
            layout: &layout,
            ..workshop.builder(&self.built.target)
        };
        // That a mutant is odd is what it is for: the compiler's warnings are of no interest.
        match builder.build(&Progress::new(true), &workshop.stop) {
            Err(error) if error.is::<Failure>() => {
                let said = Failure::diagnostics_of(&error);
                bail!("{said}{}/{}.patch: {error:#}", patch::MUTANTS, mutant.name)
            }
            module => module,
        }
    }

    /// What runs these tests; nothing, if there are none.
    fn tests(&self, names: &[String]) -> Option<Program> {
        let test = TestProgram {
            tests: names.to_vec(),
            ..self.test.clone()
        };
        (!names.is_empty()).then(|| test::program(&test))
    }

    /// Runs the claims and the tests in one guest, with this module.
    fn boot(
        &self,
        name: &str,
        module: &KernelModule,
        witnesses: &Witnesses,
        timeout: Duration,
    ) -> Result<Report> {
        let programs = [claims(&witnesses.claims), self.tests(&witnesses.tests)];
        let programs = programs.into_iter().flatten().collect();
        let plan = Plan {
            timeout: Some(timeout),
            label: Some(Label {
                name: format!("mutant-{name}"),
                what: format!("with the driver {name}"),
            }),
            // The tests leave the module with any number of pages.
            ..Plan::new(&self.built, Work::Programs(programs))
        };
        let plan = plan.files([
            GuestFile::copy(&self.test.path, test::guest_path(&self.test), 0o755),
            GuestFile::data(MODULE_PATH, module.elf.as_slice()),
        ]);
        let report = plan.boot(self.workshop, Streams::outputs())?;
        if report.outcome == Outcome::Interrupted {
            return Err(Failure::Interrupted("trying a mutant".into()).into());
        }
        Ok(report)
    }
}

/// The test in which the guest ended, if it did in one.
fn ended_in(report: &Report) -> Option<String> {
    let program = report.programs.last()?;
    let output = String::from_utf8_lossy(&program.stdout);
    let test = libtest::unfinished(&output).map(str::to_owned);
    test.filter(|_| program.status.is_none())
}

/// What judges these claims; nothing, if there are none.
fn claims(ids: &[String]) -> Option<Program> {
    let run = ["mmapdemo", "run", "--color", "never", "--ktap", KTAP_PATH];
    let argv = run.into_iter().chain(ids.iter().map(String::as_str));
    (!ids.is_empty()).then(|| Program {
        capture: true,
        ktap: true,
        ..Program::new(argv)
    })
}

/// How long the program took that took longest.
fn longest(timings: &[Timing]) -> Duration {
    let programs = timings
        .iter()
        .filter(|timing| matches!(timing.phase, Phase::Program(_)));
    let longest = programs.map(|timing| timing.elapsed).max();
    longest.unwrap_or(TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(name: &str) -> Patch {
        let patch = "It is wrong.\n\n+++ b/driver/x.rs\n@@ -1 +1 @@\n-a\n+b\n";
        Patch::parse(name, patch).unwrap()
    }

    #[test]
    fn only_mutants_that_are_all_caught_are_as_expected() {
        let mutant = mutant("01-x");
        let caught = || (&mutant, Fate::Caught(Caught::default()));
        assert_eq!(summarise(&[caught()]), ExitCode::AsExpected);
        for fate in [Fate::Survived, Fate::Undecided("it hung".into())] {
            let one_is_not = [caught(), (&mutant, fate)];
            assert_eq!(summarise(&one_is_not), ExitCode::NotAsExpected);
        }
    }

    #[test]
    fn mutants_are_chosen_by_number_name_or_both() {
        let all = [mutant("01-x"), mutant("02-y")];
        for name in ["02", "y", "02-y"] {
            let chosen = choose(&all, &[name.to_owned()]).unwrap();
            assert_eq!(chosen, [&all[1]]);
        }
        assert_eq!(choose(&all, &[]).unwrap().len(), 2);
        assert!(choose(&all, &["z".into()]).is_err());
    }
}
