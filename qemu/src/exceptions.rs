//! Exceptions: what the tests may leave out on the debug kernel, a file of it, each with its reason; pure.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The file, as it was when the lab was built.
const FILE: &str = include_str!("../debug-exceptions.toml");

/// What may be left out, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exceptions {
    /// Claims that may be skipped.
    #[serde(default)]
    claim: Vec<Exception>,
    /// Tests that are not run, as `program::test`.
    #[serde(default)]
    test: Vec<Exception>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    name: String,
    reason: String,
}

impl Exceptions {
    /// Those of the debug kernel.
    ///
    /// # Errors
    ///
    /// When the file is not in its format; see [`Self::parse`].
    pub fn of_debug_kernel() -> Result<Self> {
        Self::parse(FILE).context("failed to read qemu/debug-exceptions.toml")
    }

    /// Reads such a file.
    ///
    /// # Errors
    ///
    /// When it is not TOML, or an entry has no reason, or is there twice.
    pub fn parse(text: &str) -> Result<Self> {
        let this: Self = toml::from_str(text)?;
        for list in [&this.claim, &this.test] {
            for (index, Exception { name, reason }) in list.iter().enumerate() {
                if reason.trim().is_empty() {
                    bail!("{name:?} is left out without a reason");
                }
                if list[..index].iter().any(|earlier| earlier.name == *name) {
                    bail!("{name:?} is left out twice");
                }
            }
        }
        Ok(this)
    }

    /// The claims that may be skipped.
    #[must_use]
    pub fn claims(&self) -> Vec<String> {
        self.claim.iter().map(|it| it.name.clone()).collect()
    }

    /// The tests of `program` that are not run.
    #[must_use]
    pub fn tests(&self, program: &str) -> Vec<String> {
        let own = |it: &Exception| {
            let rest = it.name.strip_prefix(program)?;
            rest.strip_prefix("::").map(str::to_owned)
        };
        self.test.iter().filter_map(own).collect()
    }

    /// How many tests are not run.
    #[must_use]
    pub fn nr_tests(&self) -> usize {
        self.test.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_in_its_format() {
        let exceptions = Exceptions::of_debug_kernel().unwrap();
        assert!(!exceptions.claims().is_empty());
    }

    #[test]
    fn tests_are_those_of_a_program() {
        let text = "[[test]]\nname = 'driver::chains::as_shown'\nreason = 'no ftrace'\n";
        let exceptions = Exceptions::parse(text).unwrap();
        assert_eq!(exceptions.tests("driver"), ["chains::as_shown"]);
        assert!(exceptions.tests("device").is_empty());
        assert_eq!(exceptions.nr_tests(), 1);
    }

    #[test]
    fn what_is_left_out_needs_a_reason_and_one_is_enough() {
        let entry = "[[claim]]\nname = 'a'\nreason = 'why'\n";
        assert_eq!(Exceptions::parse(entry).unwrap().claims(), ["a"]);
        assert!(Exceptions::parse(&entry.repeat(2)).is_err());
        assert!(Exceptions::parse(&entry.replace("why", " ")).is_err());
        assert!(Exceptions::parse("[[claim]]\nname = 'a'\n").is_err());
        assert!(Exceptions::parse("[[clam]]\n").is_err());
    }
}
