//! Boot: a start of the machine that comes before the main one, because some claims take another machine.
//!
//! What differs is data: one more kind of boot is one more value in [`EARLIER`]. The experiments know them
//! by the same names (`userspace/src/boot.rs`).

use std::time::Duration;

use crate::disk;
use crate::job::Ending;
use crate::machine::{Clock, Hardware};

/// A kind of boot.
#[derive(Debug, PartialEq, Eq)]
pub struct Boot {
    /// What the experiments call it.
    pub name: &'static str,
    /// What is special about it, in words that follow "boot Linux".
    pub what: &'static str,
    /// The machine.
    pub hardware: Hardware,
    /// The disk that it has.
    pub disk: Option<disk::Name>,
    /// How it ends.
    pub ending: Ending,
    /// How long its experiments may take, together: many times what they need.
    pub timeout: Duration,
}

/// All that may come before the main boot, in this order.
pub const EARLIER: [Boot; 3] = [
    Boot {
        name: "power-cut",
        what: "until its power is cut",
        hardware: Hardware::USUAL,
        disk: Some(disk::Name::Cut),
        ending: Ending::PowerCut,
        timeout: Duration::from_secs(120),
    },
    Boot {
        name: "small-memory",
        what: "with little memory",
        hardware: Hardware {
            memory_mib: 320,
            ..Hardware::USUAL
        },
        disk: Some(disk::Name::Scratch),
        ending: Ending::PowerOff,
        timeout: Duration::from_secs(180),
    },
    Boot {
        name: "counting",
        what: "with a clock that counts instructions",
        hardware: Hardware {
            nr_cpus: 1,
            clock: Clock::Instructions,
            ..Hardware::USUAL
        },
        disk: None,
        ending: Ending::PowerOff,
        timeout: Duration::from_secs(180),
    },
];

/// The boot of this name.
///
/// # Errors
///
/// Names those that there are.
pub fn find(name: &str) -> Result<&'static Boot, String> {
    let found = EARLIER.iter().find(|boot| boot.name == name);
    found.ok_or_else(|| {
        let names: Vec<_> = EARLIER.iter().map(|boot| boot.name).collect();
        format!("none of {}", names.join(", "))
    })
}
