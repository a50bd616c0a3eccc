//! Kernel releases: which the archive offers as one consistent set of packages, and which is meant.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::apt::Apt;
use crate::cached_kernel::Recipe;
use crate::failure::Failure;
use crate::stop::Stop;

/// The series that the project's tests have passed on, newest first. `stock` is the first one offered.
pub const TESTED: [&str; 2] = ["7.3", "7.2"];

/// Debian's kernel flavour with the smallest image; it has everything built in that the guest needs.
const FLAVOUR: &str = "cloud-amd64";

/// A kernel release whose packages all have the same version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The series, such as `7.3`.
    pub series: String,
    /// What `uname -r` says, such as `7.3.4+deb13-cloud-amd64`.
    pub name: String,
    /// The version of all its packages, such as `7.3.4-1~bpo13+1`.
    pub version: String,
    /// The package with the image.
    pub image: String,
}

impl Release {
    /// The package with the sources.
    #[must_use]
    pub fn source(&self) -> String {
        format!("linux-source-{}", self.series)
    }

    /// The package with the configuration, the symbol versions and the generated headers.
    #[must_use]
    pub fn headers(&self) -> String {
        format!("linux-headers-{}", self.name)
    }

    /// The package with the compiled programs of `scripts/` and `tools/`.
    #[must_use]
    pub fn kbuild(&self) -> String {
        format!("linux-kbuild-{}", self.base())
    }

    /// The release without its flavour, such as `7.3.4+deb13`.
    #[must_use]
    pub fn base(&self) -> &str {
        self.name
            .strip_suffix(FLAVOUR)
            .unwrap_or(&self.name)
            .trim_end_matches('-')
    }

    /// Whether the project's tests have passed on this series.
    #[must_use]
    pub fn is_tested(&self) -> bool {
        TESTED.contains(&self.series.as_str())
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.version)
    }
}

/// The kernel that the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The newest release of the newest series that the project was tested with.
    Stock,
    /// The newest release of this series.
    Series(String),
    /// A kernel with checks, compiled here from the sources of the same release as [`Self::Stock`].
    Debug,
}

impl Wanted {
    /// The name of what is wanted, for messages and file names.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Stock => "stock",
            Self::Series(series) => series,
            Self::Debug => "debug",
        }
    }

    /// How such a kernel is made.
    #[must_use]
    pub fn recipe(&self) -> Recipe {
        match self {
            Self::Stock | Self::Series(_) => Recipe::Stock,
            Self::Debug => Recipe::Debug,
        }
    }

    /// All that is kept once it was prepared: other series only stay while they are in use.
    pub fn kept() -> impl Iterator<Item = Self> {
        let tested = TESTED.map(|series| Self::Series(series.to_owned()));
        [Self::Stock, Self::Debug].into_iter().chain(tested)
    }
}

/// The complete releases of the archive, newest series first, the newest release of each.
///
/// # Errors
///
/// When apt cannot be asked.
pub fn offered(apt: &Apt, stop: &Stop) -> Result<Vec<Release>> {
    Ok(complete(&apt.versions("linux-", stop)?))
}

/// Chooses among `offered`.
///
/// # Errors
///
/// When the wanted series is not offered: the message lists what is.
pub fn choose(wanted: &Wanted, offered: &[Release]) -> Result<Release, Failure> {
    let series: Vec<&str> = match wanted {
        Wanted::Stock | Wanted::Debug => TESTED.to_vec(),
        Wanted::Series(series) => vec![series],
    };
    let find = |series: &&str| offered.iter().find(|release| release.series == *series);
    series.iter().find_map(find).cloned().ok_or_else(|| {
        let names = |releases: &mut dyn Iterator<Item = &Release>| {
            releases
                .map(|release| release.series.clone())
                .collect::<Vec<_>>()
                .join(", ")
        };
        Failure::Unavailable(format!(
            "the archive offers no kernel {}; it offers {} (tested with this project: {}). \
             Next step: choose one with --kernel X.Y",
            series.join(" or "),
            names(&mut offered.iter()),
            TESTED.join(", "),
        ))
    })
}

/// Builds the releases out of (name, version) pairs, which come newest first for each name.
fn complete(versions: &[(String, String)]) -> Vec<Release> {
    let has = |name: &str, version: &str| versions.iter().any(|(n, v)| n == name && v == version);
    let mut releases = BTreeMap::new();
    for (source, version) in versions {
        let Some(series) = source.strip_prefix("linux-source-") else {
            continue;
        };
        let Some(key) = numbers(series) else { continue };
        let headers = versions
            .iter()
            .filter(|(_, v)| v == version)
            .filter_map(|(name, _)| {
                name.strip_prefix("linux-headers-")
                    .filter(|release| release.ends_with(FLAVOUR))
            });
        for name in headers {
            // The image's name has changed between series.
            let images = [
                format!("linux-binary-unsigned-{name}"),
                format!("linux-image-{name}-unsigned"),
            ];
            let Some(image) = images.into_iter().find(|image| has(image, version)) else {
                continue;
            };
            let release = Release {
                series: series.into(),
                name: name.into(),
                version: version.clone(),
                image,
            };
            if has(&release.kbuild(), version) {
                releases
                    .entry(std::cmp::Reverse(key.clone()))
                    .or_insert(release);
            }
        }
    }
    releases.into_values().collect()
}

/// `7.3` as numbers, so that 7.10 comes after 7.9.
fn numbers(series: &str) -> Option<Vec<u32>> {
    series.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<(String, String)> {
        let pairs = [
            ("linux-source-7.3", "7.3.4-1"),
            ("linux-headers-7.3.4+deb13-cloud-amd64", "7.3.4-1"),
            ("linux-headers-7.3.4+deb13-amd64", "7.3.4-1"),
            ("linux-binary-unsigned-7.3.4+deb13-cloud-amd64", "7.3.4-1"),
            ("linux-kbuild-7.3.4+deb13", "7.3.4-1"),
            // the image is still missing
            ("linux-source-7.10", "7.10.1-1"),
            ("linux-headers-7.10.1+deb13-cloud-amd64", "7.10.1-1"),
            ("linux-kbuild-7.10.1+deb13", "7.10.1-1"),
            ("linux-source-7.9", "7.9.2-1"),
            ("linux-headers-7.9.2+deb13-cloud-amd64", "7.9.2-1"),
            ("linux-headers-7.9.1+deb13-cloud-amd64", "7.9.1-1"),
            ("linux-image-7.9.2+deb13-cloud-amd64-unsigned", "7.9.2-1"),
            ("linux-kbuild-7.9.2+deb13", "7.9.2-1"),
        ];
        pairs
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .to_vec()
    }

    #[test]
    fn only_complete_sets_are_offered_newest_series_first() {
        let names: Vec<_> = complete(&archive())
            .into_iter()
            .map(|release| release.name)
            .collect();
        assert_eq!(
            names,
            ["7.9.2+deb13-cloud-amd64", "7.3.4+deb13-cloud-amd64"]
        );
    }

    #[test]
    fn stock_is_the_newest_tested_series_not_the_newest() {
        let release = choose(&Wanted::Stock, &complete(&archive())).unwrap();
        assert_eq!(release.series, "7.3");
        assert!(release.is_tested());
        assert_eq!(release.kbuild(), "linux-kbuild-7.3.4+deb13");
    }

    #[test]
    fn the_debug_kernel_is_made_of_the_sources_of_stock() {
        let stock = choose(&Wanted::Stock, &complete(&archive()));
        let debug = choose(&Wanted::Debug, &complete(&archive()));
        assert_eq!(debug.unwrap(), stock.unwrap());
    }

    #[test]
    fn an_untested_series_needs_to_be_named() {
        let release = choose(&Wanted::Series("7.9".into()), &complete(&archive())).unwrap();
        assert_eq!(
            release.image,
            "linux-image-7.9.2+deb13-cloud-amd64-unsigned"
        );
        assert!(!release.is_tested());
    }

    #[test]
    fn a_series_that_is_gone_is_unavailable_and_the_message_lists_what_is_there() {
        let failure = choose(&Wanted::Series("7.2".into()), &complete(&archive())).unwrap_err();
        assert!(matches!(failure, Failure::Unavailable(_)));
        assert!(
            failure.to_string().contains("it offers 7.9, 7.3"),
            "{failure}"
        );
    }
}
