//! The outcomes as exit statuses.

use super::Outcome;
use crate::exit_code::ExitCode;

impl Outcome {
    /// The exit status that says how the run ended: each bad end has its own.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Completed | Self::Passed { .. } => ExitCode::AsExpected,
            Self::Failed { .. } => ExitCode::NotAsExpected,
            Self::Skipped { .. } => ExitCode::Skipped,
            Self::SetUp { .. } => ExitCode::SetUpMissing,
            Self::Interrupted => ExitCode::Interrupted,
            Self::NoTests => ExitCode::NoTests,
            Self::MissingTests { .. } => ExitCode::MissingTests,
            Self::Unparsable { .. } => ExitCode::Unparsable,
            Self::Contradicted { .. } => ExitCode::Contradicted,
            Self::NotStarted { .. } => ExitCode::NotStarted,
            Self::OutputLost => ExitCode::OutputLost,
            Self::OutputClosed(_) => ExitCode::OutputClosed,
            Self::Splat { .. } => ExitCode::Splat,
            Self::Tainted { .. } => ExitCode::Tainted,
            Self::NotCut => ExitCode::NotCut,
            Self::NotTainted { .. } => ExitCode::NotTainted,
            Self::Leaked { .. } => ExitCode::Leaked,
            Self::Unreferenced { .. } => ExitCode::Unreferenced,
            Self::InsmodRefused(_) => ExitCode::InsmodRefused,
            Self::UnloadRefused(_) => ExitCode::UnloadRefused,
            Self::InitFailed { .. } => ExitCode::InitFailed,
            Self::DiedInBoot { .. } => ExitCode::DiedInBoot,
            Self::Panicked { .. } => ExitCode::Panicked,
            Self::Oopsed { .. } => ExitCode::Oopsed,
            Self::Vanished { .. } => ExitCode::Vanished,
            Self::QemuDied { .. } => ExitCode::QemuDied,
            Self::TimedOut { .. } => ExitCode::TimedOut,
        }
    }
}
