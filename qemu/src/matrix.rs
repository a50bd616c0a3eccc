//! The kill matrix: which test or claim noticed which mutant; pure.

mod witnesses;

pub use witnesses::Witnesses;

use crate::ktap::{self, Verdict};
use crate::libtest::Tally;
use crate::outcome::Outcome;
use crate::patch::Patch;
use crate::phase::Phase;
use crate::report::Report;

/// How many tests or claims a line of the table names.
const NR_NAMED: usize = 3;

/// Who noticed that something is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caught {
    /// The guest came to a bad end, and this says which.
    pub end: Option<String>,
    /// Tests that failed.
    pub tests: Vec<String>,
    /// Claims that came out otherwise than expected.
    pub claims: Vec<String>,
}

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Somebody noticed.
    Caught(Caught),
    /// Nobody noticed.
    Survived,
    /// No run has said anything about the driver.
    Undecided(String),
}

/// What was tried on each mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The kernel's release.
    pub release: String,
    /// How many tests.
    pub nr_tests: usize,
    /// How many claims.
    pub nr_claims: usize,
    /// Tests that were left out.
    pub left_out: &'static [&'static str],
}

impl Caught {
    /// Who noticed, by what the guest left; the last program has run the tests `planned`, one before it the claims.
    ///
    /// # Errors
    ///
    /// How the run ended, if that says nothing about the driver.
    pub fn by(report: &Report, planned: &[String]) -> Result<Self, String> {
        let end = end(&report.outcome)?;
        let mut tests = Vec::new();
        if let Some(program) = report.programs.last() {
            let tally = Tally::of(planned, &String::from_utf8_lossy(&program.stdout));
            tests.extend(tally.failed);
            // Of tests that were cut off nobody knows whether they would have noticed.
            if program.status.is_some() {
                tests.extend(tally.missing);
            }
        }
        let results = ktap::parse(&report.ktap).results;
        let claims = results
            .into_iter()
            .filter(|result| result.verdict == Verdict::NotOk)
            .map(|result| result.name);
        Ok(Self {
            end,
            tests,
            claims: claims.collect(),
        })
    }

    /// Whether nobody noticed.
    #[must_use]
    pub fn nobody(&self) -> bool {
        *self == Self::default()
    }

    /// Whether more than one noticed: one may have been wrong, for a reason that is not the driver's.
    #[must_use]
    pub fn is_beyond_doubt(&self) -> bool {
        usize::from(self.end.is_some()) + self.tests.len() + self.claims.len() > 1
    }

    /// Those who noticed in another run, too.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        // The same end may name another address or another time.
        self.end = self.end.filter(|_| other.end.is_some());
        self.tests.retain(|test| other.tests.contains(test));
        self.claims.retain(|claim| other.claims.contains(claim));
        self
    }
}

/// The name of an end that is the driver's doing; nothing, if the guest came to the end of its work.
///
/// # Errors
///
/// The name of an end that is the host's doing or the lab's, or that nobody has given a reason for.
pub fn end(outcome: &Outcome) -> Result<Option<String>, String> {
    match outcome {
        Outcome::Completed
        | Outcome::Passed { .. }
        | Outcome::Failed { .. }
        | Outcome::Skipped { .. } => Ok(None),
        Outcome::NoTests
        | Outcome::MissingTests { .. }
        | Outcome::Unparsable { .. }
        | Outcome::Contradicted { .. }
        | Outcome::Splat { .. }
        | Outcome::Tainted { .. }
        | Outcome::NotTainted { .. }
        | Outcome::Leaked { .. }
        | Outcome::Unreferenced { .. }
        | Outcome::InsmodRefused(_)
        | Outcome::UnloadRefused(_)
        | Outcome::Panicked { .. }
        | Outcome::Oopsed { .. } => Ok(Some(outcome.to_string())),
        // A guest that hangs or resets once the driver is in, has it from the driver.
        Outcome::TimedOut { phase, .. } | Outcome::Vanished { phase, .. } if has_driver(phase) => {
            Ok(Some(outcome.to_string()))
        }
        Outcome::TimedOut { .. }
        | Outcome::Vanished { .. }
        | Outcome::NotStarted { .. }
        | Outcome::NotCut
        | Outcome::OutputLost
        | Outcome::OutputClosed(_)
        | Outcome::InitFailed { .. }
        | Outcome::DiedInBoot { .. }
        | Outcome::QemuDied { .. }
        | Outcome::Interrupted
        | Outcome::SetUp { .. } => Err(outcome.to_string()),
    }
}

/// Whether what happens then may be the driver's doing.
fn has_driver(phase: &Phase) -> bool {
    match phase {
        Phase::Load | Phase::Program(_) | Phase::Unload => true,
        Phase::Start
        | Phase::Boot
        | Phase::Restore
        | Phase::HandOver
        | Phase::Attach
        | Phase::Drain
        | Phase::PowerOff => false,
    }
}

impl Fate {
    /// Whether somebody noticed.
    #[must_use]
    pub fn is_caught(&self) -> bool {
        matches!(self, Self::Caught(_))
    }

    /// In a word, and the names of those who noticed.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Caught(Caught { end, tests, claims }) => {
                let end = end
                    .as_ref()
                    .map_or_else(String::new, |end| format!(", {end}"));
                format!(
                    "caught by {} tests, {} claims{end}",
                    tests.len(),
                    claims.len()
                )
            }
            Self::Survived => "SURVIVED".to_owned(),
            Self::Undecided(why) => format!("UNDECIDED: {why}"),
        }
    }
}

/// The document: the table, and below it the names of all who noticed. `fates` take the place of what `before`, the
/// document as it was, has of the same mutants; of the others it keeps what it has. Those that are not in `all` are
/// left out.
#[must_use]
pub fn document(tried: &Tried, all: &[Patch], fates: &[(&Patch, Fate)], before: &str) -> String {
    let Tried {
        release,
        nr_tests,
        nr_claims,
        left_out,
    } = tried;
    let left_out = left_out.join("`, `");
    let mut text = format!(
        "# Drivers that are wrong, and who notices\n\n\
         Written by `cargo lab mutants --write`, on Linux {release}. Each mutant is the driver with one mistake, a patch\n\
         in [`driver/mutants/`](../driver/mutants). On each are tried, in one boot, {nr_tests} tests of the driver\n\
         (`userspace/tests/driver/`) and those {nr_claims} claims about the device that need nothing beside it but\n\
         `/proc/PID/pagemap`. On the driver as it is, all of them pass first. Left out, for the time that they take, are\n\
         tests that do the same very often or are about the kernel more than the driver:\n\
         `{left_out}`.\n\n\
         Where only one of them has noticed, it has done so in a second boot, too. A guest that ends while the claims are judged\n\
         leaves the tests to another one, and the test in which that ends has noticed. That a guest does not boot, or loses its\n\
         output, says nothing about the driver: then it is booted again.\n\n\
         {HEADS}"
    );
    let fate = |mutant: &Patch| {
        let mut fates = fates.iter();
        fates.find(|(of, _)| of.name == mutant.name)
    };
    for mutant in all {
        let row = match fate(mutant) {
            Some((_, fate)) => Some(row(mutant, fate)),
            None => kept(before, &format!("| {} |", mutant.name)),
        };
        text.extend(row.map(|row| row + "\n"));
    }
    text.push_str("\n## All who noticed\n\n");
    for mutant in all {
        let line = match fate(mutant) {
            Some((_, fate)) => Some(line(mutant, fate)),
            None => kept(before, &beginning_of_line(&mutant.name)),
        };
        text.extend(line.map(|line| line + "\n"));
    }
    text
}

const HEADS: &str = "\
| mutant | mistake | fate | tests that failed | claims not as expected | bad end of the guest |
|---|---|---|---|---|---|
";

/// The line that begins like this.
fn kept(document: &str, beginning: &str) -> Option<String> {
    let mut lines = document.lines();
    let line = lines.find(|line| line.starts_with(beginning));
    line.map(str::to_owned)
}

/// The table alone: a line for each mutant.
#[must_use]
pub fn table(fates: &[(&Patch, Fate)]) -> String {
    let rows = fates.iter().map(|(mutant, fate)| row(mutant, fate) + "\n");
    HEADS.to_owned() + &rows.collect::<String>()
}

/// All who noticed a mutant.
fn line(mutant: &Patch, fate: &Fate) -> String {
    let nobody = Caught::default();
    let caught = match fate {
        Fate::Caught(caught) => caught,
        Fate::Survived | Fate::Undecided(_) => &nobody,
    };
    let names = |what: &str, names: &[String]| match names {
        [] => format!("no {what}"),
        names => format!("{what}: {}", names.join(", ")),
    };
    let (tests, claims) = (
        names("tests", &caught.tests),
        names("claims", &caught.claims),
    );
    format!("{}{tests}; {claims}", beginning_of_line(&mutant.name))
}

fn beginning_of_line(mutant: &str) -> String {
    format!("- **{mutant}** ")
}

fn row(mutant: &Patch, fate: &Fate) -> String {
    let nobody = Caught::default();
    let (word, caught, why) = match fate {
        Fate::Caught(caught) => ("caught", caught, None),
        Fate::Survived => ("SURVIVED", &nobody, None),
        Fate::Undecided(why) => ("UNDECIDED", &nobody, Some(why)),
    };
    let few = |names: &[String]| match names.get(..NR_NAMED) {
        Some(first) if names.len() > NR_NAMED => {
            format!("{} and {} more", first.join(", "), names.len() - NR_NAMED)
        }
        _ => names.join(", "),
    };
    let end = caught.end.as_ref().or(why);
    // A bar would begin another column.
    let end = end.map_or_else(String::new, |end| end.replace('|', "\\|"));
    let (tests, claims) = (few(&caught.tests), few(&caught.claims));
    let Patch { name, sentence, .. } = mutant;
    format!("| {name} | {sentence} | {word} | {tests} | {claims} | {end} |")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{ProgramReport, ProgramStatus};

    pub(super) fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    pub(super) fn mutant(name: &str) -> Patch {
        let patch = "It is wrong.\n\n+++ b/driver/x.rs\n@@ -1 +1 @@\n-a\n+b\n";
        Patch::parse(name, patch).unwrap()
    }

    /// A run in which the test `bad` failed, another was not reached, and the claim `odd` came out otherwise.
    fn report(outcome: Outcome, status: Option<ProgramStatus>) -> Report {
        Report {
            outcome,
            events: Vec::new(),
            programs: vec![ProgramReport {
                name: "driver".into(),
                status,
                stdout: b"test good ... ok\ntest bad ... FAILED\ntest last ...".to_vec(),
                stderr: Vec::new(),
            }],
            console: String::new(),
            ktap: "KTAP version 1\n1..2\nok 1 even\nnot ok 2 odd\n".into(),
            qemu_stderr: String::new(),
            timings: Vec::new(),
        }
    }

    const FAILED: Outcome = Outcome::Failed {
        failed: Vec::new(),
        total: 2,
    };

    #[test]
    fn tests_that_failed_and_claims_not_as_expected_have_noticed() {
        let planned = names(&["good", "bad", "last"]);
        let ended = report(FAILED, Some(ProgramStatus::Exited(101)));
        let caught = Caught::by(&ended, &planned).unwrap();
        assert_eq!(caught.end, None);
        assert_eq!(caught.tests, names(&["bad", "last"]));
        assert_eq!(caught.claims, names(&["odd"]));
        let cut_off = Caught::by(&report(FAILED, None), &planned).unwrap();
        assert_eq!(cut_off.tests, names(&["bad"]));
    }

    #[test]
    fn an_end_that_is_not_the_drivers_doing_catches_nobody() {
        let nothing = [
            Outcome::TimedOut {
                phase: Phase::Boot,
                before: None,
            },
            Outcome::TimedOut {
                phase: Phase::PowerOff,
                before: None,
            },
            Outcome::Vanished {
                phase: Phase::PowerOff,
                reason: None,
                before: None,
            },
            Outcome::QemuDied {
                how: "was killed".into(),
                phase: Phase::Program(0),
            },
            Outcome::OutputLost,
        ];
        for outcome in nothing {
            let said = outcome.to_string();
            assert_eq!(Caught::by(&report(outcome, None), &[]), Err(said));
        }
        let hung = Outcome::TimedOut {
            phase: Phase::Program(0),
            before: None,
        };
        let caught = Caught::by(&report(hung, None), &[]).unwrap();
        assert_eq!(caught.end.as_deref(), Some("timed out during program 1"));
        let reset = Outcome::Vanished {
            phase: Phase::Program(0),
            reason: Some("guest-reset".into()),
            before: None,
        };
        let said = reset.to_string();
        let caught = Caught::by(&report(reset, None), &[]).unwrap();
        assert_eq!(caught.end, Some(said));
    }

    #[test]
    fn one_who_noticed_is_not_enough_unless_he_does_so_again() {
        let one = Caught {
            tests: names(&["a"]),
            ..Caught::default()
        };
        let other = Caught {
            claims: names(&["b"]),
            ..Caught::default()
        };
        assert!(!one.is_beyond_doubt() && !other.is_beyond_doubt());
        assert!(one.clone().and(&other).nobody());
        assert_eq!(one.clone().and(&one), one);
        let both = Caught {
            claims: names(&["b"]),
            ..one.clone()
        };
        assert!(both.is_beyond_doubt());
        assert_eq!(one.clone().and(&both), one);
    }

    #[test]
    fn a_row_names_a_few() {
        let caught = Caught {
            tests: names(&["a", "b", "c", "d"]),
            end: Some("a | b".into()),
            ..Caught::default()
        };
        let (fate, mutant) = (Fate::Caught(caught), mutant("01-x"));
        let row = row(&mutant, &fate);
        assert_eq!(
            row,
            "| 01-x | It is wrong. | caught | a, b, c and 1 more |  | a \\| b |"
        );
    }

    #[test]
    fn a_document_names_all_and_keeps_what_was_not_tried_again() {
        let tried = Tried {
            release: "7.3".into(),
            nr_tests: 1,
            nr_claims: 2,
            left_out: &["slow"],
        };
        let all = [mutant("01-x"), mutant("02-y")];
        let caught = Caught {
            tests: names(&["a", "b", "c", "d"]),
            ..Caught::default()
        };
        let caught = Fate::Caught(caught);
        let first = document(
            &tried,
            &all,
            &[(&all[0], caught), (&all[1], Fate::Survived)],
            "",
        );
        assert!(
            first.contains("- **01-x** tests: a, b, c, d; no claims\n"),
            "{first}"
        );
        assert!(
            first.contains("| 02-y | It is wrong. | SURVIVED |"),
            "{first}"
        );
        let again = document(&tried, &all, &[(&all[0], Fate::Survived)], &first);
        assert!(
            again.contains("| 01-x | It is wrong. | SURVIVED |"),
            "{again}"
        );
        assert!(
            again.contains("| 02-y | It is wrong. | SURVIVED |"),
            "{again}"
        );
        let fewer = document(&tried, &all[..1], &[], &again);
        assert!(!fewer.contains("02-y"), "{fewer}");
    }

    #[test]
    fn who_is_not_caught_stands_out() {
        let mutant = mutant("01-x");
        assert!(row(&mutant, &Fate::Survived).contains("| SURVIVED |"));
        let undecided = Fate::Undecided("QEMU was killed".into());
        assert!(row(&mutant, &undecided).contains("| UNDECIDED |  |  | QEMU was killed |"));
        assert!(!undecided.is_caught());
    }
}
