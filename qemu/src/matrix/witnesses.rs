//! Witnesses: those who are asked whether something is wrong.

use std::collections::BTreeSet;

use super::{beginning_of_line, kept};

/// How many tests, and how many claims, are asked again.
const NR_ASKED: usize = 4;

/// Those who are asked whether something is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witnesses {
    /// Tests.
    pub tests: Vec<String>,
    /// Claims.
    pub claims: Vec<String>,
}

impl Witnesses {
    /// Some of those who noticed the mutant of this name, according to the document; none, if the guest's end alone gave
    /// it away.
    #[must_use]
    pub fn recorded(document: &str, mutant: &str) -> Self {
        let beginning = beginning_of_line(mutant);
        let line = kept(document, &beginning).unwrap_or_default();
        let (tests, claims) = line.split_once("; ").unwrap_or_default();
        let names = |said: &str, what: &str| {
            let names = said.split_once(&format!("{what}: "));
            let names = names.into_iter().flat_map(|(_, names)| names.split(", "));
            names.take(NR_ASKED).map(str::to_owned).collect()
        };
        Self {
            tests: names(tests, "tests"),
            claims: names(claims, "claims"),
        }
    }

    /// All of these, each once.
    #[must_use]
    pub fn of_all<'a>(them: impl Iterator<Item = &'a Self>) -> Self {
        let (mut tests, mut claims) = (BTreeSet::new(), BTreeSet::new());
        for each in them {
            tests.extend(each.tests.iter().cloned());
            claims.extend(each.claims.iter().cloned());
        }
        Self {
            tests: tests.into_iter().collect(),
            claims: claims.into_iter().collect(),
        }
    }

    /// One of `few` that is not among these.
    #[must_use]
    pub fn lacks<'a>(&self, few: &'a Self) -> Option<&'a str> {
        let missing = |few: &'a [String], all: &[String]| few.iter().find(|it| !all.contains(it));
        missing(&few.tests, &self.tests)
            .or_else(|| missing(&few.claims, &self.claims))
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mutant, names};
    use super::super::{Caught, Fate, Tried, document};
    use super::*;

    #[test]
    fn those_who_noticed_are_read_off_the_document() {
        let caught = |tests: &[&str], claims: &[&str]| {
            Fate::Caught(Caught {
                end: None,
                tests: names(tests),
                claims: names(claims),
            })
        };
        let all = [mutant("01-x"), mutant("02-y"), mutant("03-z")];
        let fates = [
            (&all[0], caught(&["a", "b", "c", "d", "e"], &["f"])),
            (&all[1], caught(&[], &["g", "h"])),
            (&all[2], caught(&[], &[])),
        ];
        let tried = Tried {
            release: "7.3".into(),
            nr_tests: 1,
            nr_claims: 2,
            left_out: &[],
        };
        let document = document(&tried, &all, &fates, "");
        let recorded = |name| Witnesses::recorded(&document, name);
        assert_eq!(recorded("01-x"), few(&["a", "b", "c", "d"], &["f"]));
        assert_eq!(recorded("02-y"), few(&[], &["g", "h"]));
        assert_eq!(recorded("03-z"), Witnesses::default());
        assert_eq!(recorded("04"), Witnesses::default());
    }

    #[test]
    fn all_of_them_are_asked_once() {
        let them = [few(&["a", "b"], &["f"]), few(&["b", "c"], &["f"])];
        let of_all = few(&["a", "b", "c"], &["f"]);
        assert_eq!(Witnesses::of_all(them.iter()), of_all);
    }

    #[test]
    fn one_that_is_not_tried_any_more_is_named() {
        let all = few(&["a", "b"], &["f", "g"]);
        assert_eq!(all.lacks(&few(&["b"], &["g"])), None);
        assert_eq!(all.lacks(&few(&["c"], &["h"])), Some("c"));
        assert_eq!(all.lacks(&few(&[], &["g", "h"])), Some("h"));
    }

    fn few(tests: &[&str], claims: &[&str]) -> Witnesses {
        Witnesses {
            tests: names(tests),
            claims: names(claims),
        }
    }
}
