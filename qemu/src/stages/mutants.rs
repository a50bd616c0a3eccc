//! `lab mutants`: whether the tests notice a driver that is wrong.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cli::Mutants;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::initramfs::GuestFile;
use crate::job::{KTAP_PORT, PORTS_DIR, Program, Work};
use crate::ktap::{self, Verdict};
use crate::layout::Layout;
use crate::libtest::Tally;
use crate::module::{Builder, KernelModule};
use crate::outcome::Outcome;
use crate::patch::{MUTANTS, Patch, Sources};
use crate::plan::Plan;
use crate::programs::TestProgram;
use crate::report::Report;
use crate::session::Streams;
use crate::workshop::{Built, Workshop};

/// How long the tests and the claims may take, each: a mutant may make them hang.
const TIMEOUT: Duration = Duration::from_secs(150);

/// The tests that are about the driver.
const TESTS: &str = "driver";

/// Where the matrix is kept.
const MATRIX: &str = "docs/mutants.md";

/// How many tests or claims a line of the matrix names.
const NR_NAMED: usize = 3;

/// Who noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Caught {
    /// The guest came to a bad end, by this name.
    end: Option<String>,
    /// Tests that failed.
    tests: Vec<String>,
    /// Claims that came out otherwise than expected.
    claims: Vec<String>,
}

impl Caught {
    fn nobody(&self) -> bool {
        *self == Self::default()
    }
}

/// `lab mutants`.
///
/// # Errors
///
/// When a mutant cannot be made, or the tests fail without one.
pub fn mutants(workshop: &Workshop<'_>, args: &Mutants) -> Result<ExitCode> {
    let all = Patch::all(&workshop.layout.project.join(MUTANTS))?;
    let chosen = choose(all, &args.names)?;
    let tests = TestProgram::build_all(&workshop.layout, &workshop.stop)?;
    let test = tests.iter().find(|test| test.name == TESTS);
    let test = test.context("failed to find the tests of the driver")?;
    let mut built = workshop.build(&args.kernel)?;
    let healthy = caught(workshop, &built, test)?;
    if !healthy.nobody() {
        bail!("without a mistake, the tests fail already: {healthy:?}");
    }
    let mut matrix = Vec::new();
    for mutant in &chosen {
        built.module = build(workshop, &built, mutant)?;
        let caught = caught(workshop, &built, test)?;
        println!("{}", row(mutant, &caught));
        matrix.push((mutant, caught));
    }
    if args.write {
        write(workshop, &built.target.kernel.release, &matrix)?;
    }
    let survivors: Vec<&str> = matrix
        .iter()
        .filter(|(_, caught)| caught.nobody())
        .map(|(mutant, _)| mutant.name.as_str())
        .collect();
    let (nr, killed) = (matrix.len(), matrix.len() - survivors.len());
    println!("{killed} of {nr} mutants were caught");
    if survivors.is_empty() {
        return Ok(ExitCode::AsExpected);
    }
    eprintln!("lab: nobody noticed {}", survivors.join(", "));
    Ok(ExitCode::NotAsExpected)
}

/// Those with these names, or with these numbers; all, if none is named.
fn choose(all: Vec<Patch>, names: &[String]) -> Result<Vec<Patch>> {
    if names.is_empty() {
        return Ok(all);
    }
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
        return Err(Failure::Usage(format!("no mutant {name} in driver/mutants")).into());
    }
    let mut chosen = all;
    chosen.retain(|mutant| names.iter().any(|name| has_name(mutant, name)));
    Ok(chosen)
}

/// Builds the module with the mistake, from a copy of its sources.
fn build(workshop: &Workshop<'_>, built: &Built, mutant: &Patch) -> Result<KernelModule> {
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
        sysroot: &built.target.sysroot,
        kernel: &built.target.kernel,
    };
    match builder.build(workshop.progress, &workshop.stop) {
        Err(error) if error.is::<Failure>() => {
            let said = Failure::diagnostics_of(&error);
            bail!("{said}driver/mutants/{}.patch: {error:#}", mutant.name)
        }
        module => module,
    }
}

/// Runs the tests and the claims in one guest.
fn caught(workshop: &Workshop<'_>, built: &Built, test: &TestProgram) -> Result<Caught> {
    let path = "/root/tests/driver";
    let tests = Program {
        capture: true,
        ..Program::new([path])
    };
    let ktap = format!("{PORTS_DIR}/{KTAP_PORT}");
    let claims = Program {
        capture: true,
        ktap: true,
        ..Program::new(["mmapdemo", "run", "--color", "never", "--ktap", &ktap])
    };
    let plan = Plan {
        timeout: Some(TIMEOUT),
        ..Plan::new(built, Work::Programs(vec![tests, claims]))
    };
    let plan = plan.files([GuestFile::copy(&test.path, path, 0o755)]);
    let report = plan.boot(workshop, Streams::outputs())?;
    if report.outcome == Outcome::Interrupted {
        return Err(Failure::Interrupted("running the tests against a mutant".into()).into());
    }
    who(&report, &test.tests)
}

/// Who noticed that something is wrong, by what the guest left.
fn who(report: &Report, planned: &[String]) -> Result<Caught> {
    let end = match &report.outcome {
        Outcome::Passed { .. } | Outcome::Failed { .. } | Outcome::Contradicted { .. } => None,
        // These say nothing about the driver.
        outcome @ (Outcome::QemuDied { .. }
        | Outcome::DiedInBoot { .. }
        | Outcome::InitFailed { .. }
        | Outcome::NotStarted { .. }
        | Outcome::OutputLost
        | Outcome::OutputClosed(_)
        | Outcome::SetUp { .. }) => bail!("{outcome}"),
        outcome => Some(outcome.to_string()),
    };
    let program = report.programs.first();
    let mut tests = Vec::new();
    if let Some(program) = program.filter(|program| program.status.is_some()) {
        let tally = Tally::of(planned, &String::from_utf8_lossy(&program.stdout));
        tests.extend(tally.failed);
        tests.extend(tally.missing);
    }
    let results = ktap::parse(&report.ktap).results;
    let claims = results
        .into_iter()
        .filter(|result| result.verdict == Verdict::NotOk)
        .map(|result| result.name);
    Ok(Caught {
        end,
        tests,
        claims: claims.collect(),
    })
}

/// A line of the matrix.
fn row(mutant: &Patch, caught: &Caught) -> String {
    let few = |names: &[String]| match names.get(..NR_NAMED) {
        Some(first) if names.len() > NR_NAMED => {
            format!("{} and {} more", first.join(", "), names.len() - NR_NAMED)
        }
        _ => names.join(", "),
    };
    let Caught { end, tests, claims } = caught;
    let end = end.clone().unwrap_or_default().replace('|', "\\|");
    let fate = if caught.nobody() {
        "SURVIVED"
    } else {
        "caught"
    };
    let (tests, claims) = (few(tests), few(claims));
    let Patch { name, sentence, .. } = mutant;
    format!("| {name} | {sentence} | {fate} | {tests} | {claims} | {end} |")
}

fn write(workshop: &Workshop<'_>, release: &str, matrix: &[(&Patch, Caught)]) -> Result<()> {
    let mut text = format!(
        "# Drivers that are wrong, and who notices\n\n\
         Written by `cargo lab mutants --write`, on Linux {release}. Each mutant is the driver with one mistake\n\
         (`driver/mutants/`); the tests of the driver and all claims were tried on it.\n\n\
         | mutant | mistake | fate | tests that failed | claims not as expected | bad end of the guest |\n\
         |---|---|---|---|---|---|\n"
    );
    for (mutant, caught) in matrix {
        text.push_str(&row(mutant, caught));
        text.push('\n');
    }
    let path = workshop.layout.project.join(MATRIX);
    fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(name: &str) -> Patch {
        let patch = "It is wrong.\n\n+++ b/driver/x.rs\n@@ -1 +1 @@\n-a\n+b\n";
        Patch::parse(name, patch).unwrap()
    }

    #[test]
    fn a_mutant_that_nobody_noticed_has_survived() {
        let nobody = Caught::default();
        assert!(nobody.nobody());
        assert!(row(&mutant("01-x"), &nobody).contains("| SURVIVED |"));
        let tests: Vec<String> = ["a", "b", "c", "d"].map(String::from).into();
        let caught = Caught { tests, ..nobody };
        assert!(!caught.nobody());
        assert!(row(&mutant("01-x"), &caught).contains("| caught | a, b, c and 1 more |"));
    }

    #[test]
    fn mutants_are_chosen_by_number_name_or_both() {
        let all = || vec![mutant("01-x"), mutant("02-y")];
        for name in ["02", "y", "02-y"] {
            let chosen = choose(all(), &[name.to_owned()]).unwrap();
            assert_eq!(chosen, [mutant("02-y")]);
        }
        assert_eq!(choose(all(), &[]).unwrap().len(), 2);
        assert!(choose(all(), &["z".into()]).is_err());
    }
}
