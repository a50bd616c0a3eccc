//! Error: why the lab, not a claim, failed: the call, its object, its arguments, the errno.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

/// The lab broke; nothing follows about the claim.
///
/// A call that the kernel refuses is evidence, not an error, wherever the claim is about that call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call that the experiment takes for granted was refused.
    #[error("{call} on {object}: {}", errno.desc())]
    Call {
        /// The call with its arguments.
        call: String,
        /// The file, process or mapping it was made on.
        object: String,
        /// What the kernel answered.
        #[source]
        errno: Errno,
    },
    /// A file could not be opened, read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// The verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something awaited did not happen.
    #[error("waited {timeout:?} in vain for {what}")]
    Deadline {
        /// The event.
        what: String,
        /// How long it was awaited.
        timeout: Duration,
    },
    /// Another process died in the middle of a conversation.
    #[error("{who} ended before {what}")]
    Gone {
        /// The process.
        who: String,
        /// What it still owed.
        what: String,
    },
    /// Another process reported that its own part of the lab broke.
    #[error("{who}: {message}")]
    Reported {
        /// The process.
        who: String,
        /// Its error.
        message: String,
    },
    /// Text that does not have the agreed form.
    #[error("{what} is not understood: {detail}")]
    Garbled {
        /// The text.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// An access outside a mapping, stopped before it was made.
    #[error("offset {offset} (+{len}) lies outside a mapping of {mapped} bytes")]
    Outside {
        /// First byte of the access.
        offset: usize,
        /// Bytes accessed.
        len: usize,
        /// Bytes mapped.
        mapped: usize,
    },
}

/// The result of work that only a broken lab can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Names the call and the object for `map_err`.
    pub fn call(call: impl Into<String>, object: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let (call, object) = (call.into(), object.into());
        move |errno| Self::Call {
            call,
            object,
            errno,
        }
    }

    /// Names the verb and the file for `map_err`.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}
