//! Shares: the tests of a kernel, divided among guests that run at the same time; pure.

use super::{Subject, guest_path};
use crate::initramfs::GuestFile;
use crate::job::Work;
use crate::plan::Label;
use crate::programs::TestProgram;

/// What one of the guests runs.
#[derive(Debug)]
pub(super) struct Share {
    /// The programs, with those of their tests that are run here.
    pub(super) tests: Vec<TestProgram>,
    /// Which guest it is, from 1, and of how many; nothing if there is one.
    guest: Option<(usize, usize)>,
}

/// Divides the tests of each program among so many guests, one for each in turn. What comes first stays first.
pub(super) fn divide(programs: &[TestProgram], nr_guests: usize) -> Vec<Share> {
    let share = |guest: usize| {
        let own = programs.iter().map(|program| TestProgram {
            tests: every(program, nr_guests, guest),
            ..program.clone()
        });
        Share {
            tests: own.filter(|program| !program.tests.is_empty()).collect(),
            guest: (nr_guests > 1).then_some((guest + 1, nr_guests)),
        }
    };
    let shares = (0..nr_guests.max(1)).map(share);
    shares.filter(|share| !share.tests.is_empty()).collect()
}

fn every(program: &TestProgram, step: usize, first: usize) -> Vec<String> {
    let tests = program.tests.iter().skip(first);
    tests.step_by(step.max(1)).cloned().collect()
}

impl Share {
    /// What the guest does.
    pub(super) fn work(&self, subject: &Subject) -> Work {
        let programs = self.tests.iter().map(|test| subject.program(test));
        Work::Programs(programs.collect())
    }

    /// What it does that with.
    pub(super) fn files(&self) -> impl Iterator<Item = GuestFile> {
        let tests = self.tests.iter();
        tests.map(|test| GuestFile::copy(&test.path, guest_path(test), 0o755))
    }

    /// What tells it from the others.
    pub(super) fn label(&self) -> Option<Label> {
        self.guest.map(|(guest, nr_guests)| Label {
            name: format!("tests-{guest}"),
            what: format!("for tests, {guest} of {nr_guests}"),
        })
    }

    /// Where its tests have run, behind their program's name.
    pub(super) fn place(&self) -> String {
        self.guest.map_or_else(String::new, |(guest, nr_guests)| {
            format!(", guest {guest} of {nr_guests}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str, tests: &[&str]) -> TestProgram {
        TestProgram {
            name: name.into(),
            path: name.into(),
            tests: tests.iter().map(|&test| test.to_owned()).collect(),
        }
    }

    #[test]
    fn each_test_is_in_one_share() {
        let programs = [
            program("device", &["a"]),
            program("driver", &["b", "c", "d"]),
        ];
        for nr_guests in 0..6 {
            let shares = divide(&programs, nr_guests);
            let programs = shares.iter().flat_map(|share| &share.tests);
            let mut tests: Vec<_> = programs.flat_map(|program| &program.tests).collect();
            tests.sort();
            assert_eq!(tests, ["a", "b", "c", "d"], "{nr_guests}");
        }
        let two = divide(&programs, 2);
        assert_eq!(
            two[0].tests,
            [program("device", &["a"]), program("driver", &["b", "d"])]
        );
        assert_eq!(two[1].tests, [program("driver", &["c"])]);
    }
}
