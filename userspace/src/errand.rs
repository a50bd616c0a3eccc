//! Errand: something that a forked child does by itself, and tells; what it changes of itself ends with it.

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::process::{End, Process};
use crate::turn::{Link, TURN};

/// The user and the group that own nothing and may do nothing, credentials(7).
const NOBODY: u32 = 65_534;

/// Has a forked child do `body` and waits for what it says.
///
/// # Errors
///
/// What `body` fails with, or if the child cannot be made or ends without a word.
pub fn run<T: Serialize + DeserializeOwned>(
    name: &str,
    body: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let (mut ours, mut theirs) = Link::pair(["who sent it", name])?;
    let child = Process::fork(name, || {
        let told = body().map_err(|error| error.to_string());
        theirs.say(&told).map_or(1, |()| 0)
    })?;
    drop(theirs);
    let told: Result<T, String> = ours.hear("it had told what it saw")?;
    match child.wait(TURN)? {
        End::Exited(0) => told.map_err(|message| Error::Reported {
            who: name.to_owned(),
            message,
        }),
        end => Err(Error::Gone {
            who: format!("{name} ({end:?})"),
            what: "it had done all".to_owned(),
        }),
    }
}

/// The same by a child without any privileges; it can look at itself in `/proc` nevertheless.
///
/// # Errors
///
/// As [`run`], and if this process may not become another user.
pub fn run_as_nobody<T: Serialize + DeserializeOwned>(
    name: &str,
    body: impl FnOnce() -> Result<T>,
) -> Result<T> {
    run(name, || {
        become_nobody().map_err(Error::call("setresuid(nobody)", name))?;
        body()
    })
}

fn become_nobody() -> nix::Result<()> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    // Else the files of /proc/self would belong to root, proc_pid(5).
    prctl::set_dumpable(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_says_and_what_it_fails_with_arrive() {
        let own = std::process::id();
        assert_ne!(run("a child", || Ok(std::process::id())).unwrap(), own);
        let failed = run("a child", || -> Result<u32> {
            Err(Error::call("mmap()", "nothing")(nix::errno::Errno::ENODEV))
        });
        assert!(
            failed
                .unwrap_err()
                .to_string()
                .contains("mmap() on nothing")
        );
    }

    #[test]
    fn a_child_that_ends_without_a_word_is_an_error() {
        let told = run("a child", || -> Result<u32> { panic!("on purpose") });
        assert!(matches!(told.unwrap_err(), Error::Gone { .. }));
    }
}
