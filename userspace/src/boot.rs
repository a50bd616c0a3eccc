//! Boot: the machines that a run is spread over; what one of them saw is judged in the last.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A start of the machine.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// The one that judges.
    #[default]
    Main,
    /// One that ends without warning; the main one then has its disk.
    PowerCut,
    /// One with little memory.
    SmallMemory,
    /// One whose clock counts the instructions of its only CPU: QEMU's `-icount shift=0,sleep=off`.
    Counting,
}

impl Boot {
    /// Those that come before the main one, in this order.
    pub const EARLIER: [Self; 3] = [Self::PowerCut, Self::SmallMemory, Self::Counting];

    /// Why the main boot cannot do what this one does.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Main => "only this boot judges",
            Self::PowerCut => "nobody cut the power before this boot",
            Self::SmallMemory => "nothing was recorded in a boot with little memory",
            Self::Counting => "nothing was recorded in a boot that counts instructions",
        }
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Main => "main",
            Self::PowerCut => "power-cut",
            Self::SmallMemory => "small-memory",
            Self::Counting => "counting",
        })
    }
}
