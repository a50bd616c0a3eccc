//! QEMU's monitor: that QEMU started, what it refused, how far a save is, whether a debugger holds the machine, and
//! why QEMU ended.
//!
//! The protocol is lines of JSON (QEMU's `docs/interop/qmp-spec.rst`).

use serde_json::{Value, json};

use crate::machine::STATE_FD;

/// What ends the monitor's negotiation; without it QEMU sends no events.
pub const HELLO: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

/// Has QEMU save the machine, which it stops for that: all but the memory.
#[must_use]
pub fn save() -> Vec<u8> {
    commands("migrate")
}

/// Has QEMU go on where a machine was saved.
#[must_use]
pub fn restore() -> Vec<u8> {
    commands("migrate-incoming")
}

/// Asks whether the machine runs.
pub const STATUS: &[u8] = b"{\"execute\":\"query-status\"}\n";

/// Ends QEMU.
pub const QUIT: &[u8] = b"{\"execute\":\"quit\"}\n";

/// `migrate` or `migrate-incoming`, with the state in the file that QEMU inherited, and without the memory,
/// which is another file (`qapi/migration.json`: `x-ignore-shared`).
fn commands(execute: &str) -> Vec<u8> {
    let on = |capability| json!({"capability": capability, "state": true});
    let capabilities = json!({"capabilities": [on("x-ignore-shared"), on("events")]});
    let uri = format!("file:/proc/self/fd/{STATE_FD}");
    let prepare = json!({"execute": "migrate-set-capabilities", "arguments": capabilities});
    let go = json!({"execute": execute, "arguments": {"uri": uri}});
    format!("{prepare}\n{go}\n").into_bytes()
}

/// A reader of the monitor.
#[derive(Debug, Default)]
pub struct Monitor {
    unread: Vec<u8>,
    started: bool,
    saved: bool,
    refused: Option<String>,
    shutdown: Option<String>,
    /// Nothing until it is for the first time.
    held: Option<bool>,
    running: Option<bool>,
}

impl Monitor {
    /// Takes what was read.
    pub fn push(&mut self, chunk: &[u8]) {
        self.unread.extend_from_slice(chunk);
        while let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            // What is not understood is not needed: good replies, and events of other kinds.
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

    /// Whether the machine is saved.
    #[must_use]
    pub fn saved(&self) -> bool {
        self.saved
    }

    /// The first thing that QEMU refused or failed to do, in its words.
    #[must_use]
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// The reason that QEMU gave for its end: `guest-shutdown`, `guest-reset`, `host-signal`, ...
    #[must_use]
    pub fn shutdown(&self) -> Option<&str> {
        self.shutdown.as_deref()
    }

    /// Whether the machine was stopped, as a debugger does.
    #[must_use]
    pub fn held(&self) -> bool {
        self.held == Some(true)
    }

    /// Whether it was ever stopped so; a debugger may hold it for less time than it takes to look.
    #[must_use]
    pub fn was_held(&self) -> bool {
        self.held.is_some()
    }

    /// The answer to [`STATUS`], when it has come.
    #[must_use]
    pub fn running(&self) -> Option<bool> {
        self.running
    }

    fn take(&mut self, message: &Value) {
        if message.get("QMP").is_some() {
            self.started = true;
        }
        if let Some(why) = message["error"]["desc"].as_str() {
            self.refuse(why);
        }
        self.running = message["return"]["running"].as_bool().or(self.running);
        let data = &message["data"];
        match (message["event"].as_str(), data["status"].as_str()) {
            (Some("STOP"), _) => self.held = Some(true),
            (Some("RESUME"), _) => self.held = self.held.map(|_| false),
            // The first is the guest's; one that stays for gdb gets another when QEMU quits.
            (Some("SHUTDOWN"), _) if self.shutdown.is_none() => {
                self.shutdown = data["reason"].as_str().map(str::to_owned);
            }
            // A machine that goes on says the same of its state: that it was read in full.
            (Some("MIGRATION"), Some("completed")) => self.saved = true,
            (Some("MIGRATION"), Some("failed")) => self.refuse("the migration failed"),
            _ => {}
        }
    }

    fn refuse(&mut self, why: &str) {
        self.refused.get_or_insert_with(|| why.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_save_is_over_when_it_is_completed() {
        let mut monitor = Monitor::default();
        monitor.push(b"{\"QMP\": {}}\r\n{\"return\": {}}\r\n");
        monitor.push(b"{\"event\": \"MIGRATION\", \"data\": {\"status\": \"active\"}}\r\n");
        assert!(monitor.started() && !monitor.saved());
        monitor.push(b"{\"event\": \"MIGRATION\", \"data\": {\"status\": \"completed\"}}\r\n");
        assert!(monitor.saved());
        assert_eq!(monitor.refused(), None);
    }

    #[test]
    fn a_machine_is_held_from_a_stop_until_it_goes_on() {
        let mut monitor = Monitor::default();
        monitor.push(b"{\"event\": \"RESUME\"}\r\n");
        assert!(!monitor.held() && !monitor.was_held());
        monitor.push(b"{\"event\": \"STOP\"}\r\n");
        assert!(monitor.held());
        assert_eq!(monitor.running(), None);
        monitor.push(b"{\"return\": {\"status\": \"debug\", \"running\": false}}\r\n");
        assert_eq!(monitor.running(), Some(false));
        monitor.push(b"{\"event\": \"RESUME\"}\r\n{\"return\": {}}\r\n");
        assert!(!monitor.held() && monitor.was_held());
    }

    #[test]
    fn a_refusal_is_kept_in_qemus_words() {
        let mut monitor = Monitor::default();
        monitor.push(b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such file\"}}\n");
        monitor.push(b"{\"event\": \"MIGRATION\", \"data\": {\"status\": \"failed\"}}\n");
        assert_eq!(monitor.refused(), Some("no such file"));
    }
}
