//! What a guest says on the channels that the watch reads itself.

use crate::console::Console;
use crate::job::Event;
use crate::mark::{Piece, Splitter};
use crate::qmp::Monitor;

/// What came in, by channel.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) events: Vec<Event>,
    pub(super) console: Console,
    pub(super) monitor: Monitor,
    control: Vec<u8>,
    pub(super) ktap: Vec<u8>,
    pub(super) ktap_splitter: Splitter,
    /// How many programs' results are complete.
    pub(super) ktap_marks: usize,
    pub(super) qemu_stderr: Vec<u8>,
}

/// A channel that the watch itself reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Monitor,
    Console,
    Control,
    Ktap,
    QemuStderr,
}

impl Heard {
    /// Nothing yet; `mark` is the order's.
    pub(super) fn nothing(mark: &str) -> Self {
        Self {
            events: Vec::new(),
            console: Console::default(),
            monitor: Monitor::default(),
            control: Vec::new(),
            ktap: Vec::new(),
            ktap_splitter: Splitter::new(mark),
            ktap_marks: 0,
            qemu_stderr: Vec::new(),
        }
    }

    /// Takes what was read.
    pub(super) fn take(&mut self, source: Source, chunk: &[u8]) {
        match source {
            Source::Monitor => self.monitor.push(chunk),
            Source::Console => self.console.push(chunk),
            Source::QemuStderr => self.qemu_stderr.extend_from_slice(chunk),
            Source::Control => self.take_events(chunk),
            Source::Ktap => {
                for piece in self.ktap_splitter.push(chunk) {
                    match piece {
                        Piece::Bytes(bytes) => self.ktap.extend_from_slice(&bytes),
                        Piece::Mark => self.ktap_marks += 1,
                    }
                }
            }
        }
    }

    /// What QEMU complained about.
    pub(super) fn complaints(&self) -> String {
        String::from_utf8_lossy(&self.qemu_stderr).trim().to_owned()
    }

    /// Whether the guest is ready to lose its power.
    pub(super) fn awaits_cut(&self) -> bool {
        matches!(self.events.last(), Some(Event::AwaitsCut { .. }))
    }

    fn take_events(&mut self, chunk: &[u8]) {
        self.control.extend_from_slice(chunk);
        while let Some(end) = self.control.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.control.drain(..=end).collect();
            self.events.push(
                serde_json::from_slice(&line).unwrap_or_else(|error| Event::Failed {
                    why: format!("it said {:?}: {error}", String::from_utf8_lossy(&line)),
                }),
            );
        }
    }
}
