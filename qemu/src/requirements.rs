//! Requirements: what the experiments of some claims take, in the words of `mmapdemo requirements`; pure.

use anyhow::{Result, bail};

use crate::boot::{self, Boot, EARLIER};
use crate::cli::Extras;

/// What the host has to set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// The boots that come before the main one.
    pub boots: Vec<&'static Boot>,
    /// What the main one has beside the usual.
    pub extras: Extras,
}

impl Requirements {
    /// Reads one requirement a line. Words that are no business of the host's, such as `two-cpus`, are the
    /// experiments' own to check.
    ///
    /// # Errors
    ///
    /// Names a boot that is none of [`EARLIER`].
    pub fn parse(text: &str) -> Result<Self> {
        let mut extras = Extras::default();
        let mut wanted = Vec::new();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("boot", name)) => wanted.push(name),
                None if line == "disk" => extras.disk = true,
                None if line == "tools" => extras.tools = true,
                _ => {}
            }
        }
        for name in &wanted {
            if let Err(known) = boot::find(name) {
                bail!("the experiments ask for a boot that is {known}: {name}");
            }
        }
        let boots = EARLIER.iter();
        Ok(Self {
            boots: boots.filter(|boot| wanted.contains(&boot.name)).collect(),
            extras,
        })
    }

    /// Whether a machine that was saved can do it: it was, before anything was on its disks, and at no
    /// earlier boot's end.
    #[must_use]
    pub fn fits_a_restored_machine(&self) -> bool {
        self.boots.is_empty() && !self.extras.disk
    }

    /// The part that a machine that was saved can do.
    #[must_use]
    pub fn of_a_restored_machine(&self) -> Self {
        Self {
            boots: Vec::new(),
            extras: Extras {
                disk: false,
                ..self.extras
            },
        }
    }

    /// What of the kit is used, by the main boot or an earlier one.
    #[must_use]
    pub fn of_the_kit(&self) -> Extras {
        Extras {
            disk: self.extras.disk || self.boots.iter().any(|boot| boot.disk.is_some()),
            tools: self.extras.tools,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_required_is_set_up() {
        assert_eq!(Requirements::parse("").unwrap(), Requirements::default());
        let small = Requirements::parse("device\ntwo-cpus\ntools\n").unwrap();
        assert!(small.boots.is_empty() && small.extras.tools && !small.extras.disk);
        assert!(!small.of_the_kit().disk);
    }

    #[test]
    fn a_restored_machine_has_no_disk_and_no_past() {
        let parse = |text| Requirements::parse(text).unwrap();
        for other in ["disk\ntools\n", "boot counting\ntools\n"] {
            assert!(!parse(other).fits_a_restored_machine());
            let part = parse(other).of_a_restored_machine();
            assert!(part.fits_a_restored_machine() && part.extras.tools);
        }
        assert!(parse("device\ntools\n").fits_a_restored_machine());
    }

    #[test]
    fn boots_come_in_their_own_order_and_once() {
        let text = "boot counting\nboot power-cut\nboot counting\n";
        let both = Requirements::parse(text).unwrap();
        let names: Vec<_> = both.boots.iter().map(|boot| boot.name).collect();
        assert_eq!(names, ["power-cut", "counting"]);
        assert!(both.of_the_kit().disk && !both.extras.disk);
    }

    #[test]
    fn an_unknown_boot_is_named() {
        let error = Requirements::parse("disk\nboot on-the-moon\n").unwrap_err();
        assert!(error.to_string().ends_with("on-the-moon"), "{error}");
    }
}
