//! The exit statuses of `lab`, one meaning each.

/// What the exit status of `lab` says.
///
/// `lab exec` is the exception: there the status is that of the guest's program, and everything that
/// the lab itself failed at is [`ExitCode::ExecFailed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Every result was as expected.
    AsExpected,
    /// The lab worked, and at least one result was not as expected.
    NotAsExpected,
    /// The command line was wrong; clap uses the same number.
    Usage,
    /// Something that the host must have is missing; the message says which command brings it.
    SetUpMissing,
    /// Nothing ran: everything asked for was skipped, with its reason.
    Skipped,
    /// The lab broke: no statement about any claim can be made (`EX_SOFTWARE` of `sysexits.h`).
    LabBroke,
    /// `lab exec` could not bring back a status of the program (as `timeout` and `docker run` say it).
    ExecFailed,
    /// Stopped by SIGINT, SIGTERM or SIGHUP (128 + SIGINT, as a shell says it).
    Interrupted,
}

impl ExitCode {
    /// The number, 0 to 255.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::AsExpected => 0,
            Self::NotAsExpected => 1,
            Self::Usage => 2,
            Self::SetUpMissing => 3,
            Self::Skipped => 4,
            Self::LabBroke => 70,
            Self::ExecFailed => 125,
            Self::Interrupted => 130,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}
