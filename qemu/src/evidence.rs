//! Evidence: values that experiments saw, as their JSON has them (docs/results.md), in words.

use std::fmt;

use serde::Deserialize;

/// One thing seen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "kebab-case")]
pub enum Value {
    /// Memory or file content, as hexadecimal digits.
    Bytes(String),
    /// How many.
    Count(u64),
    /// Whether.
    Flag(bool),
    /// How a system call ended.
    Call(CallEnd),
    /// How an access to memory ended.
    Touch(Touch),
    /// A frame number; `None` where nothing is mapped.
    Pfn(Option<u64>),
    /// A user address.
    Addr(u64),
    /// A set of short words.
    Words(Vec<String>),
    /// Text.
    Text(String),
}

/// How a system call ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallEnd {
    /// It succeeded.
    Ok,
    /// It was refused with this errno.
    Refused(String),
}

/// How an access to memory ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Touch {
    /// It completed with this value.
    Completed(u64),
    /// It raised a signal.
    Faulted {
        /// The signal's name.
        signal: String,
        /// The name of `si_code`.
        code: String,
        /// `si_addr`.
        addr: u64,
    },
}

/// A value under its name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Fact {
    /// Words joined by dots and dashes: `reader.bytes`.
    pub label: String,
    /// What was seen.
    #[serde(flatten)]
    pub value: Value,
}

impl Fact {
    /// The label as words; a process has a capital letter.
    #[must_use]
    pub fn words(&self) -> String {
        let words = self.label.replace(['.', '-'], " ");
        match words.split_once(' ') {
            Some((name, rest)) if name.len() == 1 => format!("{} {rest}", name.to_uppercase()),
            _ => words,
        }
    }
}

/// More bytes than this are not shown.
const SHOWN_BYTES: usize = 16;

/// The bytes that hexadecimal digits stand for; what is no digit ends them.
#[must_use]
pub fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs
        .map_while(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// Bytes as pairs of digits.
#[must_use]
pub fn pairs(bytes: &[u8]) -> String {
    let pairs: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(" ")
}

/// Bytes as characters, a dot for what is none.
#[must_use]
pub fn characters(bytes: &[u8]) -> String {
    let character = |byte: &u8| {
        if byte.is_ascii_graphic() || *byte == b' ' {
            char::from(*byte)
        } else {
            '.'
        }
    };
    bytes.iter().map(character).collect()
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(digits) => {
                let bytes = bytes(digits);
                let shown = bytes.get(..SHOWN_BYTES).unwrap_or(&bytes);
                write!(f, "{}", pairs(shown))?;
                let printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
                if !shown.is_empty() && shown.iter().all(printable) {
                    write!(f, " \"{}\"", characters(shown))?;
                }
                if bytes.len() > shown.len() {
                    write!(f, " ... ({} bytes)", bytes.len())?;
                }
                Ok(())
            }
            Self::Count(count) => f.write_str(&grouped(*count)),
            Self::Flag(true) => f.write_str("yes"),
            Self::Flag(false) => f.write_str("no"),
            Self::Call(CallEnd::Ok) => f.write_str("ok"),
            Self::Call(CallEnd::Refused(errno)) => f.write_str(errno),
            Self::Touch(Touch::Completed(value)) => write!(f, "completed with {value:#x}"),
            Self::Touch(Touch::Faulted { signal, code, addr }) => {
                write!(f, "{signal}, {code}, at {addr:#x}")
            }
            Self::Pfn(Some(pfn)) => write!(f, "frame {pfn:#x}"),
            Self::Pfn(None) => f.write_str("no page"),
            Self::Addr(addr) => write!(f, "{addr:#x}"),
            Self::Words(words) if words.is_empty() => f.write_str("none"),
            Self::Words(words) => f.write_str(&words.join(" ")),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A number with its digits in groups of three, from five digits on.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            // A thin space would be finer, and is not in every terminal's font.
            grouped.push('\u{a0}');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn values_are_told_in_words() {
        for (json, text) in [
            (r#"{"type":"bytes","value":"6f6c64"}"#, "6f 6c 64 \"old\""),
            (r#"{"type":"bytes","value":"00ff"}"#, "00 ff"),
            (r#"{"type":"count","value":1000000}"#, "1\u{a0}000\u{a0}000"),
            (r#"{"type":"count","value":4096}"#, "4096"),
            (r#"{"type":"call","value":"ok"}"#, "ok"),
            (r#"{"type":"call","value":{"refused":"EEXIST"}}"#, "EEXIST"),
            (r#"{"type":"words","value":[]}"#, "none"),
            (r#"{"type":"pfn","value":null}"#, "no page"),
            (
                r#"{"type":"touch","value":{"faulted":{"signal":"SIGBUS","code":"BUS_ADRERR","addr":4096}}}"#,
                "SIGBUS, BUS_ADRERR, at 0x1000",
            ),
        ] {
            assert_eq!(read(json).to_string(), text);
        }
        let long = format!(r#"{{"type":"bytes","value":"{}"}}"#, "61".repeat(20));
        assert!(read(&long).to_string().ends_with("... (20 bytes)"));
    }

    #[test]
    fn what_is_no_digit_ends_the_bytes() {
        assert_eq!(bytes("41zz42"), b"A");
        assert_eq!(bytes("4"), b"");
    }
}
