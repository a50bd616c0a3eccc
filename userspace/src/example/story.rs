//! Story: what an example did, what was seen, and why.

use std::fmt;

use crate::exit_code::ExitCode;
use crate::report::style;

/// What an example has to tell, in order.
#[derive(Debug, Default)]
pub struct Story {
    lines: Vec<(Kind, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Did,
    Seen,
    NotSeen,
    Why,
}

impl Story {
    /// What was done.
    pub fn did(&mut self, text: impl Into<String>) {
        self.lines.push((Kind::Did, text.into()));
    }

    /// What should come of it, and whether it did.
    pub fn expect(&mut self, seen: bool, text: impl Into<String>) {
        let kind = if seen { Kind::Seen } else { Kind::NotSeen };
        self.lines.push((kind, text.into()));
    }

    /// Why.
    pub fn why(&mut self, text: impl Into<String>) {
        self.lines.push((Kind::Why, text.into()));
    }

    /// What the program's status says: whether all was seen that was to be seen.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        let has = |wanted| self.lines.iter().any(|(kind, _)| *kind == wanted);
        if has(Kind::Seen) && !has(Kind::NotSeen) {
            ExitCode::AsExpected
        } else {
            ExitCode::NotAsExpected
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (kind, line) in &self.lines {
            let title = match kind {
                Kind::Did => "did      ",
                Kind::Seen => "seen     ",
                Kind::NotSeen => "NOT SEEN ",
                Kind::Why => "why      ",
            };
            style::paragraph(&mut text, title, line);
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_that_was_not_seen_spoils_a_story_and_is_marked() {
        let mut story = Story::default();
        assert_eq!(story.exit_code(), ExitCode::NotAsExpected);
        story.expect(true, "a byte");
        assert_eq!(story.exit_code(), ExitCode::AsExpected);
        story.expect(false, "another");
        assert_eq!(story.exit_code(), ExitCode::NotAsExpected);
        assert_eq!(story.to_string(), "seen     a byte\nNOT SEEN another\n");
    }
}
