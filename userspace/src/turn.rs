//! Turn: two processes take turns by messages over pipes, each wait with a deadline.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::process::readable;

/// How long one turn may take; only a broken lab needs longer, even when it is emulated.
pub const TURN: Duration = Duration::from_secs(10);

/// One end of a conversation: JSON messages, one a line.
#[derive(Debug)]
pub struct Link {
    hear: File,
    say: File,
    heard: Vec<u8>,
    other: String,
}

impl Link {
    /// Speaks to the process called `other` over two pipe ends.
    #[must_use]
    pub fn new(other: impl Into<String>, hear: OwnedFd, say: OwnedFd) -> Self {
        Self {
            hear: hear.into(),
            say: say.into(),
            heard: Vec::new(),
            other: other.into(),
        }
    }

    /// From now on, messages call the other process so.
    pub fn rename(&mut self, other: &str) {
        other.clone_into(&mut self.other);
    }

    /// Two links, each the other's opposite; `names` are those who hold the first and the second.
    ///
    /// # Errors
    ///
    /// If there are no descriptors left.
    pub fn pair(names: [&str; 2]) -> Result<(Self, Self)> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe2(O_CLOEXEC)", names[1]));
        let (first_hears, second_says) = pipe()?;
        let (second_hears, first_says) = pipe()?;
        let first = Self::new(names[1], first_hears, first_says);
        let second = Self::new(names[0], second_hears, second_says);
        Ok((first, second))
    }

    /// Sends one message.
    ///
    /// # Errors
    ///
    /// If the other end is gone.
    pub fn say(&mut self, message: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(message).map_err(|error| Error::Garbled {
            what: format!("message to {}", self.other),
            detail: error.to_string(),
        })?;
        line.push(b'\n');
        self.say
            .write_all(&line)
            .map_err(|_| self.gone("it heard a message"))
    }

    /// Waits for one message, for at most [`TURN`].
    ///
    /// # Errors
    ///
    /// If it does not come in time, if the other end is gone, or if the message is not a `T`.
    pub fn hear<T: DeserializeOwned>(&mut self, what: &str) -> Result<T> {
        let line = self
            .line(what, Some(TURN))?
            .ok_or_else(|| self.gone(what))?;
        self.parse(&line)
    }

    /// Waits for one message for as long as the other end exists; `None` when it is gone.
    ///
    /// # Errors
    ///
    /// If the message is not a `T`.
    pub fn hear_next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        match self.line("the next request", None)? {
            Some(line) => self.parse(&line).map(Some),
            None => Ok(None),
        }
    }

    fn parse<T: DeserializeOwned>(&self, line: &[u8]) -> Result<T> {
        serde_json::from_slice(line).map_err(|error| Error::Garbled {
            what: format!("message from {}", self.other),
            detail: format!("{error} in {}", String::from_utf8_lossy(line)),
        })
    }

    fn line(&mut self, what: &str, timeout: Option<Duration>) -> Result<Option<Vec<u8>>> {
        let deadline = timeout.map(|timeout| (timeout, Instant::now() + timeout));
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.heard.drain(..=end).collect()));
            }
            if let Some((timeout, deadline)) = deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                let awaited = format!("{what} from {}", self.other);
                if !readable(&self.hear, left, &awaited)? {
                    return Err(Error::Deadline {
                        what: awaited,
                        timeout,
                    });
                }
            }
            let mut chunk = [0; 4096];
            match self.hear.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(len) => self.heard.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Err(self.gone(what)),
            }
        }
    }

    fn gone(&self, what: &str) -> Error {
        Error::Gone {
            who: self.other.clone(),
            what: what.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_one_by_one_and_the_end_is_noticed() {
        let (mut left, mut right) = Link::pair(["left", "right"]).unwrap();
        left.say(&"one").unwrap();
        left.say(&vec![1, 2]).unwrap();
        assert_eq!(right.hear::<String>("a word").unwrap(), "one");
        assert_eq!(right.hear::<Vec<u32>>("numbers").unwrap(), [1, 2]);
        drop(left);
        assert_eq!(right.hear_next::<String>().unwrap(), None);
        let error = right.hear::<String>("a word").unwrap_err();
        assert_eq!(error.to_string(), "left ended before a word");
    }

    #[test]
    fn a_message_of_the_wrong_kind_is_named() {
        let (mut left, mut right) = Link::pair(["left", "right"]).unwrap();
        left.say(&"one").unwrap();
        let error = right.hear::<u32>("a number").unwrap_err().to_string();
        assert!(
            error.starts_with("message from left is not understood"),
            "{error}"
        );
    }
}
