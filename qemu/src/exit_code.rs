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
    /// Results were promised, and none came.
    NoTests,
    /// Fewer results came than were planned.
    MissingTests,
    /// The results are cut off, or not in the format.
    Unparsable,
    /// The results and the status of their program contradict each other.
    Contradicted,
    /// A program could not be started in the guest.
    NotStarted,
    /// A part of the output did not arrive.
    OutputLost,
    /// Nobody reads the output any more.
    OutputClosed,
    /// The kernel complained, and went on.
    Splat,
    /// The kernel is tainted by more than a module from outside the tree.
    Tainted,
    /// The kernel is not tainted, although a module was loaded.
    NotTainted,
    /// Memory was not given back.
    Leaked,
    /// The kernel found objects that nothing points to any more.
    Unreferenced,
    /// The kernel did not take the module.
    InsmodRefused,
    /// The kernel kept the module.
    UnloadRefused,
    /// The guest's power was to be cut, and it ended otherwise.
    NotCut,
    /// The guest's `init` could not do its work.
    InitFailed,
    /// The guest ended before `init` was ready.
    DiedInBoot,
    /// The kernel panicked.
    Panicked,
    /// The kernel ran into a fault of its own.
    Oopsed,
    /// The guest reset or switched itself off in the middle of its work.
    Vanished,
    /// QEMU was killed, or gave up.
    QemuDied,
    /// A phase of the run took too long.
    TimedOut,
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
            Self::NoTests => 10,
            Self::MissingTests => 11,
            Self::Unparsable => 12,
            Self::Contradicted => 13,
            Self::NotStarted => 14,
            Self::OutputLost => 15,
            Self::OutputClosed => 16,
            Self::Splat => 20,
            Self::Tainted => 21,
            Self::NotTainted => 22,
            Self::Leaked => 23,
            Self::InsmodRefused => 24,
            Self::UnloadRefused => 25,
            Self::NotCut => 26,
            Self::Unreferenced => 27,
            Self::InitFailed => 30,
            Self::DiedInBoot => 31,
            Self::Panicked => 32,
            Self::Oopsed => 33,
            Self::Vanished => 34,
            Self::QemuDied => 35,
            Self::TimedOut => 36,
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
