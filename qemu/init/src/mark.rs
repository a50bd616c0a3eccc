//! The mark that `init` writes behind each program's output, and how it is found again.

use std::fs::File;
use std::io::{self, Read};

/// No UTF-8 text has this byte, so that looking for it is quick where the output is text.
const FIRST: u8 = 0xff;

/// A name that no other run has: 128 random bits in hexadecimal, which no output has by chance.
///
/// # Errors
///
/// When there is no `/dev/urandom`.
pub fn random_name() -> io::Result<String> {
    let mut bytes = [0; size_of::<u128>()];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// The mark with this name, as it is written.
#[must_use]
pub fn bytes(name: &str) -> Vec<u8> {
    [&[FIRST], name.as_bytes()].concat()
}

/// A piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// What a program wrote.
    Bytes(Vec<u8>),
    /// The end of one program's output.
    Mark,
}

/// Cuts a stream at its marks. Passes on at once what cannot be a part of one.
#[derive(Debug)]
pub struct Splitter {
    mark: Vec<u8>,
    held: Vec<u8>,
}

impl Splitter {
    /// For streams with the mark of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            mark: bytes(name),
            held: Vec::new(),
        }
    }

    /// Takes what was read; returns what is certain by now.
    #[must_use]
    pub fn push(&mut self, chunk: &[u8]) -> Vec<Piece> {
        // Not just an optimisation: 100 MB byte by byte take seconds in a debug build.
        if self.held.is_empty() && !chunk.contains(&FIRST) {
            return pieces(chunk);
        }
        self.held.extend_from_slice(chunk);
        let mut found = Vec::new();
        while let Some(at) = self
            .held
            .windows(self.mark.len())
            .position(|part| part == self.mark)
        {
            found.extend(pieces(&self.held[..at]));
            found.push(Piece::Mark);
            self.held.drain(..at + self.mark.len());
        }
        let certain = self.held.len() - self.len_of_beginning_at_end();
        found.extend(pieces(&self.held[..certain]));
        self.held.drain(..certain);
        found
    }

    /// The stream is over: what was held back was no mark.
    #[must_use]
    pub fn finish(self) -> Vec<Piece> {
        pieces(&self.held)
    }

    /// How much of the end of `held` may be the beginning of a mark.
    fn len_of_beginning_at_end(&self) -> usize {
        let longest = self.held.len().min(self.mark.len() - 1);
        (1..=longest)
            .rev()
            .find(|&len| self.held.ends_with(&self.mark[..len]))
            .unwrap_or(0)
    }
}

fn pieces(bytes: &[u8]) -> Vec<Piece> {
    if bytes.is_empty() {
        Vec::new()
    } else {
        vec![Piece::Bytes(bytes.to_vec())]
    }
}
