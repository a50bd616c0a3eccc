//! The failures that have an exit status of their own; every other error is "the lab broke".

use crate::exit_code::ExitCode;
use crate::outcome::Outcome;

/// A failure with a status of its own: one that the user, not the lab, can mend, or a guest's bad end.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The host lacks something; `remedy` is the one command to type.
    #[error("{what}\n  next step: {remedy}")]
    SetUpMissing {
        /// What is missing, and what for.
        what: String,
        /// The command or change that mends it.
        remedy: String,
    },
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// What was asked for is not to be had here and now, so nothing was tested.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// A source file of the project does not compile; the compiler has said why.
    #[error("{what}")]
    DoesNotBuild {
        /// The compiler's own words, to be shown as they are.
        diagnostics: String,
        /// What does not build, in the lab's words.
        what: String,
    },
    /// A boot that the main one builds upon has come to a bad end.
    #[error("in the boot {boot}: {outcome}")]
    EarlierBoot {
        /// Its name.
        boot: &'static str,
        /// Its end.
        outcome: Box<Outcome>,
    },
    /// A signal asked the lab to stop.
    #[error("interrupted while {0}; nothing was left running or half-written")]
    Interrupted(String),
}

impl Failure {
    /// The exit status that this failure ends `lab` with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::SetUpMissing { .. } => ExitCode::SetUpMissing,
            Self::Usage(_) => ExitCode::Usage,
            Self::Unavailable(_) => ExitCode::Skipped,
            Self::DoesNotBuild { .. } => ExitCode::NotAsExpected,
            Self::EarlierBoot { outcome, .. } => outcome.exit_code(),
            Self::Interrupted(_) => ExitCode::Interrupted,
        }
    }

    /// What a tool has said about the error, to be shown before the lab's own message.
    #[must_use]
    pub fn diagnostics_of(error: &anyhow::Error) -> &str {
        let mut failures = error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<Self>());
        let said = failures.find_map(|failure| match failure {
            Self::DoesNotBuild { diagnostics, .. } => Some(diagnostics.as_str()),
            _ => None,
        });
        said.unwrap_or_default()
    }

    /// The exit status for any error: that of the [`Failure`] in its chain, or [`ExitCode::LabBroke`].
    #[must_use]
    pub fn exit_code_of(error: &anyhow::Error) -> ExitCode {
        error
            .chain()
            .find_map(|cause| cause.downcast_ref::<Self>())
            .map_or(ExitCode::LabBroke, Self::exit_code)
    }
}
