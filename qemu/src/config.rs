//! Kernel configurations: read, and compared option by option.

use std::collections::BTreeMap;
use std::fmt;

/// The options of a `.config` file (`Documentation/kbuild/kconfig.rst`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config(BTreeMap<String, String>);

/// An option that two configurations disagree about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name, such as `CONFIG_RUST`.
    pub option: String,
    /// Its value in the first configuration, which is how it is wanted.
    pub was: Option<String>,
    /// Its value in the second.
    pub is: Option<String>,
}

impl Config {
    /// Reads the text of a `.config` file; an option that is said to be not set has the value `n`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let option = |line: &str| {
            if let Some(name) = line
                .strip_prefix("# ")
                .and_then(|rest| rest.strip_suffix(" is not set"))
            {
                return Some((name.to_owned(), "n".to_owned()));
            }
            let (name, value) = line.split_once('=')?;
            name.starts_with("CONFIG_")
                .then(|| (name.to_owned(), value.to_owned()))
        };
        Self(text.lines().filter_map(option).collect())
    }

    /// The value of an option, such as `y` or a string without its quotation marks.
    #[must_use]
    pub fn get(&self, option: &str) -> Option<&str> {
        self.0.get(option).map(|value| value.trim_matches('"'))
    }

    /// What of this configuration, which asks for some options, has not become of it in `made`.
    #[must_use]
    pub fn missing_in(&self, made: &Self) -> Vec<Difference> {
        let mut differences = self.differences(made);
        differences.retain(|difference| self.0.contains_key(&difference.option));
        differences
    }

    /// The options in which `other` differs. An option that is absent counts as not set.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let value =
            |config: &Self, option: &str| config.0.get(option).filter(|v| *v != "n").cloned();
        let mut options: Vec<&String> = self.0.keys().chain(other.0.keys()).collect();
        options.sort();
        options.dedup();
        options
            .into_iter()
            .map(|option| Difference {
                option: option.clone(),
                was: value(self, option),
                is: value(other, option),
            })
            .filter(|difference| difference.was != difference.is)
            .collect()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".into());
        write!(
            f,
            "{}: {} wanted, {} here",
            self.option,
            show(&self.was),
            show(&self.is)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "#\n# Automatically generated file; DO NOT EDIT.\n#\n\
        CONFIG_CC_VERSION_TEXT=\"gcc-14 (Debian) 14.2.0\"\nCONFIG_RUST=y\n# CONFIG_KASAN is not set\n";

    #[test]
    fn values_lose_their_quotation_marks() {
        let config = Config::parse(DEBIAN);
        assert_eq!(
            config.get("CONFIG_CC_VERSION_TEXT"),
            Some("gcc-14 (Debian) 14.2.0")
        );
        assert_eq!(config.get("CONFIG_KASAN"), Some("n"));
        assert_eq!(config.get("CONFIG_NONE"), None);
    }

    #[test]
    fn an_option_that_was_dropped_is_named() {
        let differences = Config::parse(DEBIAN)
            .differences(&Config::parse(&DEBIAN.replace("CONFIG_RUST=y\n", "")));
        assert_eq!(differences.len(), 1);
        assert_eq!(
            differences[0].to_string(),
            "CONFIG_RUST: y wanted, not set here"
        );
    }

    #[test]
    fn of_what_was_asked_for_only_that_is_missing_which_came_out_otherwise() {
        let asked = Config::parse("CONFIG_RUST=y\nCONFIG_NR_CPUS=8\n# CONFIG_KASAN is not set\n");
        assert_eq!(
            asked.missing_in(&Config::parse(
                "CONFIG_RUST=y\nCONFIG_NR_CPUS=8\nCONFIG_X=y\n"
            )),
            []
        );
        let made = Config::parse("CONFIG_NR_CPUS=4\nCONFIG_KASAN=y\n");
        let missing: Vec<_> = asked
            .missing_in(&made)
            .into_iter()
            .map(|it| it.option)
            .collect();
        assert_eq!(missing, ["CONFIG_KASAN", "CONFIG_NR_CPUS", "CONFIG_RUST"]);
    }

    #[test]
    fn not_set_and_absent_are_the_same() {
        let without = DEBIAN.replace("# CONFIG_KASAN is not set\n", "");
        assert_eq!(
            Config::parse(DEBIAN).differences(&Config::parse(&without)),
            []
        );
    }
}
