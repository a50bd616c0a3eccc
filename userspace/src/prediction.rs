//! Prediction: one comparison that a claim makes about the evidence; pure.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::evidence::{CallEnd, Evidence, Touch, Value};

/// `label operator operand`, for example `reader.bytes == writer.bytes` or `store.code == SEGV_ACCERR`.
///
/// Operators: `== != < <= > >=`, and `has`/`lacks` for sets of words. An operand with a dot in it is
/// a label, anything else a literal: a number, `none`, `true`, `false`, or a word as values show it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Prediction {
    left: String,
    operator: Operator,
    right: Operand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Differs,
    Less,
    AtMost,
    More,
    AtLeast,
    Has,
    Lacks,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operand {
    Label(String),
    Literal(Comparable),
}

/// A value reduced to what can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Comparable {
    Number(u64),
    Word(String),
    Bytes(Vec<u8>),
    Words(Vec<String>),
    /// No page; differs from every number.
    Nothing,
}

/// Whether the evidence agrees with a prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// The evidence does not say; with the reason.
    Unknown(String),
}

const OPERATORS: [(&str, Operator); 8] = [
    ("==", Operator::Equal),
    ("!=", Operator::Differs),
    ("<", Operator::Less),
    ("<=", Operator::AtMost),
    (">", Operator::More),
    (">=", Operator::AtLeast),
    ("has", Operator::Has),
    ("lacks", Operator::Lacks),
];

impl Prediction {
    /// Compares with what was seen.
    #[must_use]
    pub fn agrees_with(&self, evidence: &Evidence) -> Agreement {
        match self.compare(evidence) {
            Ok(true) => Agreement::Yes,
            Ok(false) => Agreement::No,
            Err(reason) => Agreement::Unknown(reason),
        }
    }

    /// What was seen under the labels it mentions; of a part, the whole that it is part of.
    #[must_use]
    pub fn with_values(&self, evidence: &Evidence) -> String {
        let shown = |label: &str| match evidence.whole(label) {
            Some(seen) => (seen.label.clone(), seen.value.to_string()),
            None => (label.to_owned(), "not seen".to_owned()),
        };
        let (left, left_value) = shown(&self.left);
        match &self.right {
            Operand::Literal(_) => format!("{left} = {left_value}"),
            Operand::Label(right) => {
                let (right, right_value) = shown(right);
                if left_value == right_value {
                    format!("{left} = {right} = {right_value}")
                } else {
                    format!("{left} = {left_value}, {right} = {right_value}")
                }
            }
        }
    }

    /// The values alone, first the left one; one if both are the same.
    #[must_use]
    pub fn values(&self, evidence: &Evidence) -> String {
        let shown = |label: &str| match evidence.whole(label) {
            Some(seen) => seen.value.to_string(),
            None => "not seen".to_owned(),
        };
        let left = shown(&self.left);
        match &self.right {
            Operand::Label(right) if shown(right) != left => format!("{left}, {}", shown(right)),
            _ => left,
        }
    }

    fn compare(&self, evidence: &Evidence) -> Result<bool, String> {
        let left = look_up(evidence, &self.left)?;
        let right = match &self.right {
            Operand::Literal(literal) => literal.clone(),
            Operand::Label(label) => look_up(evidence, label)?,
        };
        self.operator
            .apply(&left, &right)
            .ok_or_else(|| format!("`{self}` compares things of different kinds"))
    }
}

fn look_up(evidence: &Evidence, label: &str) -> Result<Comparable, String> {
    let value = evidence
        .get(label)
        .ok_or_else(|| format!("{label} was not seen"))?;
    Ok(Comparable::from(value))
}

impl Operator {
    /// `None` where the two cannot be compared.
    fn apply(self, left: &Comparable, right: &Comparable) -> Option<bool> {
        match self {
            Self::Equal => left.same_as(right),
            Self::Differs => left.same_as(right).map(|same| !same),
            Self::Less => left.order(right).map(Ordering::is_lt),
            Self::AtMost => left.order(right).map(Ordering::is_le),
            Self::More => left.order(right).map(Ordering::is_gt),
            Self::AtLeast => left.order(right).map(Ordering::is_ge),
            Self::Has => left.has(right),
            Self::Lacks => left.has(right).map(|has| !has),
        }
    }
}

impl Comparable {
    fn same_as(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Number(_) | Self::Nothing, Self::Number(_) | Self::Nothing)
            | (Self::Word(_), Self::Word(_))
            | (Self::Bytes(_), Self::Bytes(_))
            | (Self::Words(_), Self::Words(_)) => Some(self == other),
            _ => None,
        }
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Number(left), Self::Number(right)) => Some(left.cmp(right)),
            _ => None,
        }
    }

    fn has(&self, word: &Self) -> Option<bool> {
        match (self, word) {
            (Self::Words(words), Self::Word(word)) => Some(words.contains(word)),
            _ => None,
        }
    }
}

impl From<Value> for Comparable {
    fn from(value: Value) -> Self {
        match value {
            Value::Bytes(bytes) => Self::Bytes(bytes),
            Value::Count(number) | Value::Addr(number) | Value::Pfn(Some(number)) => {
                Self::Number(number)
            }
            Value::Pfn(None) => Self::Nothing,
            Value::Flag(flag) => Self::Word(flag.to_string()),
            Value::Call(CallEnd::Ok) | Value::Touch(Touch::Completed(_)) => {
                Self::Word("ok".to_owned())
            }
            Value::Call(CallEnd::Refused(word)) | Value::Text(word) => Self::Word(word),
            Value::Touch(Touch::Faulted(fault)) => Self::Word(fault.signal),
            Value::Words(words) => Self::Words(words),
        }
    }
}

impl FromStr for Prediction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split_whitespace().collect();
        let [left, operator, right] = words[..] else {
            return Err(format!(
                "`{text}` is not of the form LABEL OPERATOR OPERAND"
            ));
        };
        if !is_label(left) {
            return Err(format!(
                "`{left}` in `{text}` is not a label such as reader.bytes"
            ));
        }
        let operator = OPERATORS
            .iter()
            .find_map(|(name, known)| (*name == operator).then_some(*known))
            .ok_or_else(|| format!("`{operator}` in `{text}` is not an operator"))?;
        Ok(Self {
            left: left.to_owned(),
            operator,
            right: right.parse()?,
        })
    }
}

fn is_label(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
    text.contains('.') && text.chars().all(allowed)
}

impl FromStr for Operand {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_label(text) {
            return Ok(Self::Label(text.to_owned()));
        }
        if text == "none" {
            return Ok(Self::Literal(Comparable::Nothing));
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let number = match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16),
                None => text.parse(),
            };
            let number = number.map_err(|error| format!("`{text}`: {error}"))?;
            return Ok(Self::Literal(Comparable::Number(number)));
        }
        Ok(Self::Literal(Comparable::Word(text.to_owned())))
    }
}

impl TryFrom<String> for Prediction {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = OPERATORS
            .iter()
            .find_map(|(name, known)| (*known == self.operator).then_some(*name))
            .unwrap_or("?");
        write!(f, "{} {operator} ", self.left)?;
        match &self.right {
            Operand::Label(label) => write!(f, "{label}"),
            Operand::Literal(Comparable::Number(number)) => write!(f, "{number}"),
            Operand::Literal(Comparable::Word(word)) => write!(f, "{word}"),
            Operand::Literal(_) => write!(f, "none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Fault;

    fn evidence() -> Evidence {
        let mut evidence = Evidence::new();
        evidence.note("writer.bytes", vec![1, 2]);
        evidence.note("reader.bytes", vec![1, 2]);
        evidence.note("reader.faults", 3);
        evidence.note("reader.pfn", Value::Pfn(None));
        evidence.note("map.call", Err::<(), _>(nix::errno::Errno::EACCES));
        evidence.note(
            "ro.store",
            Touch::Faulted(Fault::from_raw(libc::SIGSEGV, 2, 0x7b)),
        );
        evidence.note("vma.flags", vec!["sh".to_owned(), "mm".to_owned()]);
        evidence
    }

    fn agreement(text: &str) -> Agreement {
        text.parse::<Prediction>().unwrap().agrees_with(&evidence())
    }

    #[test]
    fn comparisons_say_yes_and_no() {
        for (text, expected) in [
            ("reader.bytes == writer.bytes", Agreement::Yes),
            ("reader.bytes != writer.bytes", Agreement::No),
            ("reader.faults <= 3", Agreement::Yes),
            ("reader.faults < 0x3", Agreement::No),
            ("reader.pfn == none", Agreement::Yes),
            ("reader.pfn != 7", Agreement::Yes),
            ("map.call == EACCES", Agreement::Yes),
            ("map.call == ok", Agreement::No),
            ("ro.store == SIGSEGV", Agreement::Yes),
            ("ro.store.code == SEGV_MAPERR", Agreement::No),
            ("ro.store.addr == 0x7b", Agreement::Yes),
            ("vma.flags has sh", Agreement::Yes),
            ("vma.flags lacks mm", Agreement::No),
        ] {
            assert_eq!(agreement(text), expected, "{text}");
        }
    }

    #[test]
    fn what_was_not_seen_or_cannot_be_compared_is_unknown() {
        for text in [
            "nobody.bytes == writer.bytes",
            "reader.bytes == nobody.bytes",
            "reader.bytes == 3",
            "map.call == 13",
            "ro.store.value == 1",
            "reader.pfn < 3",
            "reader.faults has sh",
        ] {
            assert!(matches!(agreement(text), Agreement::Unknown(_)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_when_it_is_read() {
        for text in [
            "",
            "reader.bytes",
            "faults == 3",
            "a.b ~ 3",
            "a.b == 3 4",
            "a.b == 0xzz",
        ] {
            assert!(text.parse::<Prediction>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_prediction_is_shown_as_it_was_written() {
        for text in ["a.b == c.d", "a.b lacks sh", "a.b >= 3", "a.b != none"] {
            assert_eq!(text.parse::<Prediction>().unwrap().to_string(), text);
        }
    }
}
