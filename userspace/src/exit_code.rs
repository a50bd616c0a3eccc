//! Exit code: what the end of the program says about claims and about the lab, never mixed.

use std::process::{ExitCode as ProcessExitCode, Termination};

use crate::run::Summary;

/// The status with which the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Every verdict is the one expected.
    AsExpected = 0,
    /// Some verdict is not.
    NotAsExpected = 1,
    /// The command line or the claims file is wrong.
    Usage = 2,
    /// Nothing could be run here: everything was skipped.
    Skipped = 4,
    /// The lab itself broke; what it says about claims is not complete.
    LabBroke = 70,
}

impl From<Summary> for ExitCode {
    fn from(summary: Summary) -> Self {
        let missing = summary.planned != summary.run + summary.skipped;
        if summary.broke > 0 || missing {
            Self::LabBroke
        } else if summary.not_as_expected > 0 {
            Self::NotAsExpected
        } else if summary.run == 0 {
            Self::Skipped
        } else {
            Self::AsExpected
        }
    }
}

impl Termination for ExitCode {
    fn report(self) -> ProcessExitCode {
        ProcessExitCode::from(self as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(
        as_expected: usize,
        not_as_expected: usize,
        skipped: usize,
        broke: usize,
    ) -> Summary {
        Summary {
            planned: as_expected + not_as_expected + skipped + broke,
            run: as_expected + not_as_expected,
            as_expected,
            not_as_expected,
            skipped,
            broke,
        }
    }

    #[test]
    fn the_worst_thing_decides() {
        assert_eq!(ExitCode::from(summary(5, 0, 2, 0)), ExitCode::AsExpected);
        assert_eq!(ExitCode::from(summary(5, 1, 2, 0)), ExitCode::NotAsExpected);
        assert_eq!(ExitCode::from(summary(5, 1, 2, 1)), ExitCode::LabBroke);
        assert_eq!(ExitCode::from(summary(0, 0, 2, 0)), ExitCode::Skipped);
    }

    #[test]
    fn a_missing_result_is_never_a_pass() {
        let lost = Summary {
            planned: 8,
            ..summary(7, 0, 0, 0)
        };
        assert_eq!(ExitCode::from(lost), ExitCode::LabBroke);
        assert_eq!(ExitCode::from(summary(0, 0, 0, 0)), ExitCode::Skipped);
    }
}
