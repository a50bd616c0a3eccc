//! Messages: what it costs to hand one over, from a buffer of the sender's to one of the receiver's, by its length.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read, write};

use crate::cost;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::object::{MemFile, Request};
use crate::sys::PAGE_SIZE;

/// Lengths in bytes, multiples of 8; a pipe takes the last one in one piece (pipe(7), Pipe capacity).
const LENGTHS: [usize; 6] = [8, 64, 512, PAGE_SIZE, 4 * PAGE_SIZE, LONGEST];
const LONGEST: usize = 16 * PAGE_SIZE;
const LONG: usize = size_of::<u64>();

/// Sender and receiver are one process, so that nobody waits for the other: what is counted is the way alone.
pub(super) fn note_costs(evidence: &mut Evidence) -> Result<()> {
    let file = MemFile::filled(LONGEST)?;
    let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    let request = Request::shared(file.path()).len(LONGEST).flags(flags);
    // Two mappings of one file, as two processes would have them.
    let (sender, receiver) = (request.map()?, request.map()?);
    // A write takes what there is room for, rather than wait for a reader, which is this thread.
    let pipe = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK);
    let (hear, say) = pipe.map_err(Error::call("pipe2()", "a channel"))?;
    let pair = UnixStream::pair().map_err(Error::file("make", "a pair of sockets"))?;
    for socket in [&pair.0, &pair.1] {
        let set = socket.set_nonblocking(true);
        set.map_err(Error::file("set up", "a socket"))?;
    }
    let sockets: (OwnedFd, OwnedFd) = (pair.0.into(), pair.1.into());
    for len in LENGTHS {
        let mut note = |way: &str, cost| {
            evidence.note(format!("message-{len}.{way}-instructions"), cost);
        };
        let (to, from) = (sender.longs(0, len / LONG)?, receiver.longs(0, len / LONG)?);
        note("mapping", by_memory(to, from)?);
        let by_file = |sent: &[u8], got: &mut [u8]| through_file(file.file(), sent, got);
        note("read-write", by_calls(len, by_file)?);
        let by_pipe = |sent: &[u8], got: &mut [u8]| through(&say, &hear, sent, got);
        note("pipe", by_calls(len, by_pipe)?);
        let by_sockets = |sent: &[u8], got: &mut [u8]| through(&sockets.0, &sockets.1, sent, got);
        note("socketpair", by_calls(len, by_sockets)?);
    }
    Ok(())
}

/// Copies into the shared memory and out of it, eight bytes at a time.
fn by_memory(to: &[AtomicU64], from: &[AtomicU64]) -> Result<u64> {
    let sent: Vec<_> = (1..).take(to.len()).collect();
    let mut got = vec![0; to.len()];
    let cost = cost::warm(|| {
        for (there, value) in to.iter().zip(&sent) {
            there.store(*value, Ordering::Relaxed);
        }
        for (value, there) in got.iter_mut().zip(from) {
            *value = there.load(Ordering::Relaxed);
        }
        Ok(())
    })?;
    arrived(&sent, &got)?;
    Ok(cost)
}

fn by_calls(len: usize, mut hand_over: impl FnMut(&[u8], &mut [u8]) -> Result<()>) -> Result<u64> {
    let (sent, mut got) = (vec![1; len], vec![0; len]);
    let cost = cost::warm(|| hand_over(&sent, &mut got))?;
    arrived(&sent, &got)?;
    Ok(cost)
}

/// What was not handed over has no cost.
fn arrived<T: PartialEq>(sent: &[T], got: &[T]) -> Result<()> {
    if sent == got {
        return Ok(());
    }
    Err(Error::Garbled {
        what: format!("a message of {} bytes", size_of_val(sent)),
        detail: "what arrived is something else".to_owned(),
    })
}

// Below, an error is made when there is one: what it says takes memory, which would be counted.

fn through_file(file: &File, sent: &[u8], got: &mut [u8]) -> Result<()> {
    let unusable = |verb| move |error| Error::file(verb, "a file in memory")(error);
    file.write_all_at(sent, 0).map_err(unusable("write"))?;
    file.read_exact_at(got, 0).map_err(unusable("read"))
}

/// Writes to one end and reads from the other, in as many pieces as it takes.
fn through(say: &OwnedFd, hear: &OwnedFd, sent: &[u8], got: &mut [u8]) -> Result<()> {
    let unusable = |call| move |errno| Error::call(call, "a channel")(errno);
    let mut done = 0;
    while let Some(rest) = sent.get(done..).filter(|rest| !rest.is_empty()) {
        let written = write(say, rest).map_err(unusable("write()"))?;
        let end = done + written;
        while let Some(room) = got.get_mut(done..end).filter(|room| !room.is_empty()) {
            done += read(hear, room).map_err(unusable("read()"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_brings_every_length() {
        let mut evidence = Evidence::new();
        note_costs(&mut evidence).unwrap();
        for len in LENGTHS {
            for way in ["mapping", "read-write", "pipe", "socketpair"] {
                let label = format!("message-{len}.{way}-instructions");
                assert!(evidence.get(&label).is_some(), "{label}");
            }
        }
    }

    #[test]
    fn what_does_not_arrive_is_not_counted() {
        let lost = by_calls(8, |_, _| Ok(()));
        let error = lost.unwrap_err().to_string();
        assert!(error.contains("a message of 8 bytes"), "{error}");
    }
}
