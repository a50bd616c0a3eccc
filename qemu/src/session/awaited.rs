//! What is awaited, shown on a terminal between the lines that the guest's programs write there.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::output::Sink;
use crate::progress::{Paused, Waiting};

/// Shows that something is awaited, until it is over.
#[derive(Clone, Default)]
pub(super) struct Awaited(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    shown: Option<Waiting>,
    /// What was shown before somebody began to write, and will be again.
    paused: Option<Paused>,
    nr_writers: usize,
    /// Whether it goes on when something is written.
    outlasts_output: bool,
}

impl Awaited {
    pub(super) fn new(shown: Option<Waiting>) -> Self {
        Self(Arc::new(Mutex::new(State {
            shown,
            ..State::default()
        })))
    }

    /// From now on something else is awaited: a program that does or does not tell of itself by what it writes.
    pub(super) fn becomes(&self, name: &str, outlasts_output: bool) {
        let mut state = self.lock();
        state.outlasts_output = outlasts_output;
        if let Some(shown) = &state.shown {
            shown.becomes(name);
        }
    }

    pub(super) fn is_shown(&self) -> bool {
        self.lock().shown.is_some()
    }

    /// So much of it has come.
    pub(super) fn advances(&self, done: usize, planned: usize) {
        if let Some(shown) = &self.lock().shown {
            shown.advance(done, planned);
        }
    }

    pub(super) fn is_over(&self) {
        let mut state = self.lock();
        state.shown = None;
        state.paused = None;
    }

    /// The same sink, which nothing that is shown gets in the way of.
    pub(super) fn around(&self, sink: Sink) -> Sink {
        Box::new(Around {
            sink,
            awaited: self.clone(),
        })
    }

    fn begin_to_write(&self) {
        let mut state = self.lock();
        state.nr_writers += 1;
        if let Some(shown) = state.shown.take() {
            state.paused = state.outlasts_output.then(|| shown.pause());
        }
    }

    fn written(&self, is_whole_lines: bool) {
        let mut state = self.lock();
        state.nr_writers -= 1;
        if !is_whole_lines {
            // The rest belongs behind it.
            state.paused = None;
        }
        if state.nr_writers == 0 {
            state.shown = state.paused.take().map(Paused::resume);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Around {
    sink: Sink,
    awaited: Awaited,
}

impl Write for Around {
    /// The lock is not held meanwhile: a reader may take for ever.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.awaited.begin_to_write();
        let written = self.sink.write(bytes).and_then(|len| {
            self.sink.flush()?;
            Ok(len)
        });
        let is_whole_lines = matches!(written, Ok(len) if bytes[..len].ends_with(b"\n"));
        self.awaited.written(is_whole_lines);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;

    /// Whether it is still shown after these bytes were written.
    fn is_shown_after(outlasts_output: bool, written: &[&[u8]]) -> bool {
        let awaited = Awaited::new(Progress::with_bars(false, true).waiting("boot"));
        awaited.becomes("run mmapdemo", outlasts_output);
        let mut sink = awaited.around(Box::new(io::sink()));
        for bytes in written {
            sink.write_all(bytes).unwrap();
        }
        awaited.is_shown()
    }

    #[test]
    fn a_program_that_gives_results_is_awaited_between_its_lines() {
        assert!(is_shown_after(true, &[]));
        assert!(is_shown_after(true, &[b"Linux\n", b"a driver\n\n"]));
        assert!(!is_shown_after(true, &[b"Linux\nhalf a li"]));
        assert!(!is_shown_after(true, &[b"half a li", b"ne\n"]));
        assert!(!is_shown_after(false, &[b"Linux\n"]));
    }

    #[test]
    fn what_is_over_does_not_come_back() {
        let awaited = Awaited::new(Progress::with_bars(false, true).waiting("boot"));
        awaited.becomes("run mmapdemo", true);
        awaited.begin_to_write();
        awaited.begin_to_write();
        awaited.written(true);
        assert!(!awaited.is_shown(), "another still writes");
        awaited.is_over();
        awaited.written(true);
        assert!(!awaited.is_shown());
    }
}
