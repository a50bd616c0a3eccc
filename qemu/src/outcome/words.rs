//! The outcomes in words: one line each.

use std::fmt;

use super::Outcome;
use crate::output::Closed;

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => write!(f, "completed"),
            Self::Passed { passed, skipped: 0 } => write!(f, "passed: {passed} as expected"),
            Self::Passed { passed, skipped } => {
                write!(f, "passed: {passed} as expected, {skipped} skipped")
            }
            Self::Failed { failed, total } => {
                let (count, names) = (failed.len(), failed.join(", "));
                write!(f, "failed: {count} of {total} not as expected: {names}")
            }
            Self::Skipped { skipped } => write!(f, "skipped: all {skipped}"),
            Self::NoTests => write!(f, "no tests: results were promised, none came"),
            Self::MissingTests { planned, seen } => {
                write!(f, "missing tests: {planned} were planned, {seen} came")
            }
            Self::Unparsable { why } => write!(f, "unparsable results: {why}"),
            Self::Contradicted { why } => write!(f, "contradicted results: {why}"),
            Self::NotStarted { program, refusal } => write!(f, "not started: {program}: {refusal}"),
            Self::Splat { lines } => {
                write!(
                    f,
                    "kernel complained {} times: {}",
                    lines.len(),
                    lines.join("; ")
                )
            }
            Self::Tainted { flags } => write!(f, "kernel tainted: unexpected flags {flags:#x}"),
            Self::NotCut => write!(f, "power not cut: the guest ended otherwise"),
            Self::NotTainted { flags } => {
                write!(
                    f,
                    "kernel not tainted: flags {flags:#x}, and the module is not ours"
                )
            }
            Self::Leaked { kib } => {
                write!(
                    f,
                    "memory leaked: {kib} KiB more in use than before the module"
                )
            }
            Self::Unreferenced { count, report } => {
                write!(
                    f,
                    "objects leaked: nothing points to {count} of them; {report}"
                )
            }
            Self::OutputLost => write!(f, "output lost: the guest wrote more than arrived"),
            Self::UnloadRefused(refusal) => write!(f, "rmmod refused: {refusal}"),
            Self::InsmodRefused(refusal) => write!(f, "insmod refused: {refusal}"),
            Self::InitFailed { why } => write!(f, "init failed: {why}"),
            Self::DiedInBoot { line: Some(line) } => write!(f, "guest died in boot: {line}"),
            Self::DiedInBoot { line: None } => write!(f, "guest died in boot, without a word"),
            Self::Panicked {
                line,
                before,
                phase,
            } => {
                write!(f, "kernel panicked during {phase}: {line}")?;
                earlier(f, before.as_deref())
            }
            Self::Oopsed {
                line,
                before,
                phase,
            } => {
                write!(f, "kernel oopsed during {phase}: {line}")?;
                earlier(f, before.as_deref())
            }
            Self::Vanished {
                phase,
                reason,
                before,
            } => {
                let reason = reason.as_deref().unwrap_or("no reason known");
                write!(f, "guest ended by itself during {phase} ({reason})")?;
                match before {
                    None => write!(f, ", without a word"),
                    before => earlier(f, before.as_deref()),
                }
            }
            Self::QemuDied { how, phase } => write!(f, "QEMU {how} during {phase}"),
            Self::TimedOut { phase, before } => {
                write!(f, "timed out during {phase}")?;
                earlier(f, before.as_deref())
            }
            Self::OutputClosed(Closed::NoReader) => {
                write!(f, "output closed: nobody reads it any more")
            }
            Self::OutputClosed(Closed::Failed(why)) => {
                write!(f, "failed to write the output: {why}")
            }
            Self::Interrupted => write!(f, "interrupted"),
            Self::SetUp { why } => write!(f, "set-up failed: {why}"),
        }
    }
}

/// What the kernel complained of first: often the cause of what came next.
fn earlier(f: &mut fmt::Formatter<'_>, complaint: Option<&str>) -> fmt::Result {
    complaint.map_or(Ok(()), |complaint| write!(f, "; before that: {complaint}"))
}
