//! The complaints of the guest's kernel that are no failure: a file of them, each with its reason.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::console::Allowance;

/// The file, as it was when the lab was built.
const FILE: &str = include_str!("../allowed.toml");

/// A shorter text would be a part of too many lines.
const SHORTEST_TEXT: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    allowed: Vec<Allowance>,
}

/// The complaints that are allowed in every guest.
///
/// # Errors
///
/// When the file is not in its format; see [`parse`].
pub fn complaints() -> Result<Vec<Allowance>> {
    parse(FILE).context("failed to read qemu/allowed.toml")
}

/// Reads such a file.
///
/// # Errors
///
/// When it is not TOML, or an entry has no reason, or a text that is a part of nearly any line.
pub fn parse(text: &str) -> Result<Vec<Allowance>> {
    let File { allowed } = toml::from_str(text)?;
    for Allowance { text, reason, .. } in &allowed {
        if reason.trim().is_empty() {
            bail!("{text:?} is allowed without a reason");
        }
        if text.trim().len() < SHORTEST_TEXT {
            bail!("{text:?} has less than {SHORTEST_TEXT} bytes, and would allow too much");
        }
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_in_its_format() {
        complaints().unwrap();
    }

    #[test]
    fn what_is_allowed_needs_a_reason_and_a_text_that_tells() {
        let entry = |text: &str, reason: &str| {
            parse(&format!(
                "[[allowed]]\ntext = {text:?}\nreason = {reason:?}\ntaint = 512\n"
            ))
        };
        let text = "WARNING: kernel/foo.c:1 at foo+0x1";
        assert_eq!(entry(text, "fixed in 7.4").unwrap()[0].taint, 512);
        assert!(entry(text, " ").is_err());
        assert!(entry("WARNING: ", "fixed in 7.4").is_err());
        assert!(parse("[[allowed]]\ntext = 'WARNING: kernel/foo.c:1'\n").is_err());
        assert!(parse("[[allowd]]\n").is_err());
    }
}
