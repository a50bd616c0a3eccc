//! What a Rust test program prints, compared with the tests that it was known to hold.

use std::collections::BTreeMap;

/// How one test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestEnd {
    /// `ok`
    Passed,
    /// `FAILED`
    Failed,
    /// `ignored`
    Ignored,
}

/// The tests of one program, planned and seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that passed.
    pub passed: Vec<String>,
    /// Those that failed.
    pub failed: Vec<String>,
    /// Those that did not run although they were planned, or said something that is no result.
    pub missing: Vec<String>,
    /// Those that ran although nobody had planned them.
    pub unplanned: Vec<String>,
}

impl Tally {
    /// Compares the output of a test program with its plan. What was ignored is missing: a test that
    /// cannot run has no place in a plan.
    #[must_use]
    pub fn of(planned: &[String], output: &str) -> Self {
        let mut ends = parse(output);
        let mut tally = Self::default();
        for name in planned {
            let list = match ends.remove(name) {
                Some(TestEnd::Passed) => &mut tally.passed,
                Some(TestEnd::Failed) => &mut tally.failed,
                Some(TestEnd::Ignored) | None => &mut tally.missing,
            };
            list.push(name.clone());
        }
        tally.unplanned = ends.into_keys().collect();
        tally
    }

    /// Whether every planned test, and no other, ran and passed, and there was one.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.passed.is_empty()
            && self.failed.is_empty()
            && self.missing.is_empty()
            && self.unplanned.is_empty()
    }
}

/// Reads the lines `test NAME ... END` (`rustc --test`, the pretty format).
#[must_use]
pub fn parse(output: &str) -> BTreeMap<String, TestEnd> {
    let end = |line: &str| {
        let (name, end) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let end = match end.split([',', ' ']).next()? {
            "ok" => TestEnd::Passed,
            "FAILED" => TestEnd::Failed,
            "ignored" => TestEnd::Ignored,
            _ => return None,
        };
        // `test NAME - should panic ... ok`
        Some((name.split(" - ").next()?.to_owned(), end))
    };
    output.lines().filter_map(end).collect()
}

/// The test that had begun, and not come to its end, when the output was cut off; a program that runs one test at a time
/// writes its name first.
#[must_use]
pub fn unfinished(output: &str) -> Option<&str> {
    let line = output.lines().next_back()?;
    line.trim_end().strip_prefix("test ")?.strip_suffix(" ...")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\nrunning 4 tests\ntest a::one ... ok\ntest two ... FAILED\n\
        test three ... ignored, no device\ntest four - should panic ... ok\n\nfailures:\n\n---- two stdout ----\n\
        test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.05s\n";

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn ends_are_told_apart_and_ignored_counts_as_missing() {
        let tally = Tally::of(&names(&["a::one", "two", "three", "four"]), OUTPUT);
        assert_eq!(tally.passed, names(&["a::one", "four"]));
        assert_eq!(tally.failed, names(&["two"]));
        assert_eq!(tally.missing, names(&["three"]));
        assert!(!tally.is_good());
    }

    #[test]
    fn output_that_is_cut_off_leaves_tests_missing() {
        let tally = Tally::of(
            &names(&["a::one", "two"]),
            "running 2 tests\ntest a::one ... ok\ntest two ...",
        );
        assert_eq!(tally.missing, names(&["two"]));
        assert!(!tally.is_good());
    }

    #[test]
    fn the_test_in_which_the_output_ends_is_known() {
        assert_eq!(unfinished("test a ... ok\ntest b::c ... "), Some("b::c"));
        assert_eq!(unfinished("test a ... ok\n"), None);
        assert_eq!(unfinished(""), None);
    }

    #[test]
    fn a_test_that_nobody_planned_is_not_good() {
        let tally = Tally::of(
            &names(&["a::one"]),
            "test a::one ... ok\ntest extra ... ok\n",
        );
        assert_eq!(tally.unplanned, names(&["extra"]));
        assert!(!tally.is_good());
    }

    #[test]
    fn no_test_at_all_is_not_good() {
        assert!(!Tally::of(&[], "running 0 tests\n").is_good());
        assert!(Tally::of(&names(&["a"]), "test a ... ok\n").is_good());
    }
}
