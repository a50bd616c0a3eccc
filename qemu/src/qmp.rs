//! QEMU's monitor, read for two facts: that QEMU started, and why it ended.
//!
//! The protocol is lines of JSON (QEMU's `docs/interop/qmp-spec.rst`).

use serde_json::Value;

/// What ends the monitor's negotiation; without it QEMU sends no events.
pub const HELLO: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

/// A reader of the monitor.
#[derive(Debug, Default)]
pub struct Monitor {
    unread: Vec<u8>,
    started: bool,
    shutdown: Option<String>,
}

impl Monitor {
    /// Takes what was read.
    pub fn push(&mut self, chunk: &[u8]) {
        self.unread.extend_from_slice(chunk);
        while let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            // What is not understood is not needed: replies, and events of other kinds.
            if let Ok(message) = serde_json::from_slice::<Value>(&line) {
                self.take(&message);
            }
        }
    }

    /// Whether QEMU has greeted.
    #[must_use]
    pub fn started(&self) -> bool {
        self.started
    }

    /// The reason that QEMU gave for its end: `guest-shutdown`, `guest-reset`, `host-signal`, ...
    #[must_use]
    pub fn shutdown(&self) -> Option<&str> {
        self.shutdown.as_deref()
    }

    fn take(&mut self, message: &Value) {
        if message.get("QMP").is_some() {
            self.started = true;
        }
        if message["event"] == "SHUTDOWN" {
            self.shutdown = message["data"]["reason"].as_str().map(str::to_owned);
        }
    }
}
