//! Carries what a program of the guest writes to where it belongs, live.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::mark::{Piece, Splitter};
use anyhow::{Context, Result};

/// Where the programs' output goes.
pub type Sink = Box<dyn Write + Send>;

/// As much as a socket holds by default.
const CHUNK_LEN: usize = 128 * 1024;

/// Why an output can be written no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The reader went away, as `head` does when it has seen enough.
    NoReader,
    /// Writing failed, in the system's words: a full disk.
    Failed(String),
}

impl From<io::Error> for Closed {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::NoReader
        } else {
            Self::Failed(error.to_string())
        }
    }
}

/// What has become of an output so far.
#[derive(Clone, Debug, Default)]
pub struct OutputState {
    /// How many programs' outputs are complete.
    pub nr_marks: usize,
    /// Whether the reader at the sink keeps everybody waiting just now.
    pub writing: bool,
    /// Why nothing more can be written to the sink, if so.
    pub closed: Option<Closed>,
    /// Whether nothing more will come.
    pub ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: OutputState,
    /// For each program so far; empty for those that write through.
    captured: Vec<Vec<u8>>,
}

/// An output of the guest's programs on its way to its sink, in a thread of its own: the reader there may
/// be slow, and the lab has other things to watch.
#[derive(Debug)]
pub struct OutputPump {
    shared: Arc<Mutex<Shared>>,
}

impl OutputPump {
    /// Starts to carry from `source` to `sink`, or to the captures of those programs for which `capture`
    /// says so. `wake` gets a byte whenever the state has changed.
    ///
    /// # Errors
    ///
    /// When a descriptor or the thread cannot be had.
    pub fn start(
        source: &UnixStream,
        sink: Sink,
        mark: &str,
        capture: Vec<bool>,
        wake: &UnixStream,
    ) -> Result<Self> {
        let shared = Arc::<Mutex<Shared>>::default();
        let mut carrier = Carrier {
            source: source.try_clone()?,
            sink,
            capture,
            wake: wake.try_clone()?,
            shared: Arc::clone(&shared),
        };
        let splitter = Splitter::new(mark);
        thread::Builder::new()
            .name("output".into())
            .spawn(move || carrier.run(splitter))
            .context("failed to start a thread for the guest's output")?;
        Ok(Self { shared })
    }

    /// What has become of it so far.
    #[must_use]
    pub fn state(&self) -> OutputState {
        lock(&self.shared).state.clone()
    }

    /// What was captured of a program's output.
    #[must_use]
    pub fn captured(&self, program: usize) -> Vec<u8> {
        lock(&self.shared)
            .captured
            .get(program)
            .cloned()
            .unwrap_or_default()
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Carrier {
    source: UnixStream,
    sink: Sink,
    capture: Vec<bool>,
    wake: UnixStream,
    shared: Arc<Mutex<Shared>>,
}

impl Carrier {
    fn run(&mut self, mut splitter: Splitter) {
        let mut chunk = vec![0; CHUNK_LEN];
        let result = loop {
            match self.source.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A reset is how the socket of a killed QEMU ends.
                Ok(0) | Err(_) => break self.carry(splitter.finish()),
                Ok(len) => {
                    if let Err(error) = self.carry(splitter.push(&chunk[..len])) {
                        break Err(error);
                    }
                }
            }
        };
        self.update(|state| {
            state.closed = result.err().map(Closed::from);
            state.ended = true;
        });
    }

    fn carry(&mut self, pieces: Vec<Piece>) -> io::Result<()> {
        for piece in pieces {
            match piece {
                Piece::Mark => self.update(|state| state.nr_marks += 1),
                Piece::Bytes(bytes) => self.pass_on(&bytes)?,
            }
        }
        Ok(())
    }

    fn pass_on(&mut self, bytes: &[u8]) -> io::Result<()> {
        let program = lock(&self.shared).state.nr_marks;
        if self.capture.get(program).copied().unwrap_or(false) {
            let captured = &mut lock(&self.shared).captured;
            captured.resize(captured.len().max(program + 1), Vec::new());
            captured[program].extend_from_slice(bytes);
            return Ok(());
        }
        lock(&self.shared).state.writing = true;
        let written = self.sink.write_all(bytes).and_then(|()| self.sink.flush());
        lock(&self.shared).state.writing = false;
        written
    }

    fn update(&self, act: impl FnOnce(&mut OutputState)) {
        act(&mut lock(&self.shared).state);
        // A full pipe wakes as well.
        let _ = (&self.wake).write(b"!");
    }
}
