//! Evidence: what an experiment saw, as labelled, typed values.

use std::fmt;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// One thing seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "kebab-case")]
pub enum Value {
    /// Memory or file content.
    Bytes(#[serde(with = "const_hex::serde::no_prefix")] Vec<u8>),
    /// How many.
    Count(u64),
    /// Whether.
    Flag(bool),
    /// How a system call ended.
    Call(CallEnd),
    /// How an access to memory ended.
    Touch(Touch),
    /// The physical page behind an address; `None` where the page table has no entry.
    Pfn(Option<u64>),
    /// A user address.
    Addr(u64),
    /// A set of short words, such as `VmFlags`.
    Words(Vec<String>),
    /// Text.
    Text(String),
}

/// How a system call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallEnd {
    /// It succeeded.
    Ok,
    /// It was refused with this errno, by name.
    Refused(String),
}

/// How an access to memory ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Touch {
    /// It completed and read or returned this value (stores: the value stored).
    Completed(u64),
    /// It raised a signal.
    Faulted(Fault),
}

/// What the kernel told the signal handler, see `sigaction(2)`, `siginfo_t`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The signal's name.
    pub signal: String,
    /// The name of `si_code`.
    pub code: String,
    /// `si_addr`.
    pub addr: u64,
}

impl Fault {
    /// Names the numbers of a `siginfo_t`.
    #[must_use]
    pub fn from_raw(signo: i32, code: i32, addr: u64) -> Self {
        let signal = Signal::try_from(signo)
            .map_or_else(|_| format!("signal-{signo}"), |signal| signal.to_string());
        // include/uapi/asm-generic/siginfo.h, 7.3; the libc crate has no constants for these.
        let code = match (signo, code) {
            (libc::SIGSEGV, 1) => "SEGV_MAPERR".to_owned(),
            (libc::SIGSEGV, 2) => "SEGV_ACCERR".to_owned(),
            (libc::SIGSEGV, 4) => "SEGV_PKUERR".to_owned(),
            (libc::SIGBUS, 1) => "BUS_ADRALN".to_owned(),
            (libc::SIGBUS, 2) => "BUS_ADRERR".to_owned(),
            (libc::SIGBUS, 3) => "BUS_OBJERR".to_owned(),
            (_, 128) => "SI_KERNEL".to_owned(),
            (_, other) => format!("si_code-{other}"),
        };
        Self { signal, code, addr }
    }
}

impl<T> From<Result<T, Errno>> for CallEnd {
    fn from(result: Result<T, Errno>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(errno) => Self::Refused(format!("{errno:?}")),
        }
    }
}

impl<T> From<Result<T, Errno>> for Value {
    fn from(result: Result<T, Errno>) -> Self {
        Self::Call(result.into())
    }
}

impl From<CallEnd> for Value {
    fn from(end: CallEnd) -> Self {
        Self::Call(end)
    }
}

impl From<Touch> for Value {
    fn from(touch: Touch) -> Self {
        Self::Touch(touch)
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Vec<String>> for Value {
    fn from(words: Vec<String>) -> Self {
        Self::Words(words)
    }
}

impl Value {
    /// A part of a compound value: `.code` and `.addr` of a fault, `.value` of a completed access.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::Touch(Touch::Completed(value)), "value") => Some(Self::Count(*value)),
            (Self::Touch(Touch::Faulted(fault)), "code") => Some(Self::Text(fault.code.clone())),
            (Self::Touch(Touch::Faulted(fault)), "addr") => Some(Self::Addr(fault.addr)),
            _ => None,
        }
    }
}

/// More bytes than this are shown by their first ones and their number.
const SHOWN_BYTES: usize = 8;
/// Text longer than this is shown as bytes.
const SHOWN_TEXT: usize = 32;

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => show_bytes(f, bytes),
            Self::Count(count) => write!(f, "{count}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Call(CallEnd::Ok) => write!(f, "ok"),
            Self::Call(CallEnd::Refused(errno)) => write!(f, "{errno}"),
            Self::Touch(Touch::Completed(value)) => write!(f, "completed with {value:#x}"),
            Self::Touch(Touch::Faulted(Fault { signal, code, addr })) => {
                write!(f, "{signal} {code} at {addr:#x}")
            }
            Self::Pfn(Some(pfn)) => write!(f, "pfn {pfn:#x}"),
            Self::Pfn(None) => write!(f, "no page"),
            Self::Addr(addr) => write!(f, "{addr:#x}"),
            Self::Words(words) => write!(f, "{}", words.join(" ")),
            Self::Text(text) => write!(f, "{text}"),
        }
    }
}

/// Text as text, everything else in hexadecimal; a byte or two are hardly text.
fn show_bytes(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let textual = |byte: &u8| byte.is_ascii_graphic() || b" \n".contains(byte);
    if (3..=SHOWN_TEXT).contains(&bytes.len()) && bytes.iter().all(textual) {
        return write!(f, "{:?}", String::from_utf8_lossy(bytes));
    }
    let shown: Vec<_> = bytes
        .iter()
        .take(SHOWN_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    write!(f, "{}", shown.join(" "))?;
    if bytes.len() > SHOWN_BYTES {
        write!(f, " ... ({} bytes)", bytes.len())?;
    }
    Ok(())
}

/// A value under the name by which predictions refer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Lower-case words joined by dots and dashes, at least one dot: `reader.bytes`.
    pub label: String,
    /// What was seen.
    #[serde(flatten)]
    pub value: Value,
}

/// Everything one experiment saw, in the order in which it saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Evidence {
    observations: Vec<Observation>,
}

impl Evidence {
    /// No observations yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what was seen under `label`; a label seen again replaces the earlier value.
    pub fn note(&mut self, label: impl Into<String>, value: impl Into<Value>) {
        let (label, value) = (label.into(), value.into());
        self.observations.retain(|old| old.label != label);
        self.observations.push(Observation { label, value });
    }

    /// Adds everything that somebody else saw.
    pub fn extend(&mut self, other: Self) {
        for Observation { label, value } in other.observations {
            self.note(label, value);
        }
    }

    /// The value under `label`, or the part of a compound value: `store.code` of `store`.
    #[must_use]
    pub fn get(&self, label: &str) -> Option<Value> {
        if let Some(seen) = self.find(label) {
            return Some(seen.clone());
        }
        let (whole, part) = label.rsplit_once('.')?;
        self.find(whole)?.field(part)
    }

    /// The observation that `label` names or is a part of.
    #[must_use]
    pub fn whole(&self, label: &str) -> Option<&Observation> {
        let find = |label: &str| self.observations.iter().find(|seen| seen.label == label);
        find(label).or_else(|| find(label.rsplit_once('.')?.0))
    }

    fn find(&self, label: &str) -> Option<&Value> {
        let seen = self.observations.iter().find(|seen| seen.label == label)?;
        Some(&seen.value)
    }

    /// All observations, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Observation> {
        self.observations.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_fault_are_reachable_by_label() {
        let mut evidence = Evidence::new();
        evidence.note(
            "ro.store",
            Touch::Faulted(Fault::from_raw(libc::SIGSEGV, 2, 0x7b)),
        );
        assert_eq!(
            evidence.get("ro.store.code"),
            Some(Value::Text("SEGV_ACCERR".into()))
        );
        assert_eq!(evidence.get("ro.store.addr"), Some(Value::Addr(0x7b)));
        assert_eq!(evidence.get("ro.store.value"), None);
        assert_eq!(evidence.get("ro.load"), None);
    }

    #[test]
    fn evidence_survives_serialisation() {
        let mut evidence = Evidence::new();
        evidence.note("a.bytes", vec![1, 2, 3]);
        evidence.note("a.map", Err::<(), _>(Errno::EACCES));
        evidence.note("a.pfn", Value::Pfn(None));
        let text = serde_json::to_string(&evidence).unwrap();
        assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
    }

    #[test]
    fn values_are_shown_as_the_kernel_names_them() {
        assert_eq!(
            Value::from(Err::<(), _>(Errno::EOPNOTSUPP)).to_string(),
            "EOPNOTSUPP"
        );
        assert_eq!(Value::Pfn(Some(0x650)).to_string(), "pfn 0x650");
        assert_eq!(Value::from(&b"one\n"[..]).to_string(), "\"one\\n\"");
        assert_eq!(Value::from(&b"on"[..]).to_string(), "6f 6e");
        assert_eq!(
            Value::from(vec![7; 9]).to_string(),
            "07 07 07 07 07 07 07 07 ... (9 bytes)"
        );
        let fault = Touch::Faulted(Fault::from_raw(libc::SIGBUS, 2, 0x1000));
        assert_eq!(
            Value::from(fault).to_string(),
            "SIGBUS BUS_ADRERR at 0x1000"
        );
    }
}
