//! Style: the colours of a terminal, or none.

use std::io::IsTerminal;

use crate::claim::Expected;
use crate::verdict::Verdict;

/// How to mark words in text for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// No marks.
    Plain,
    /// ANSI colours, ECMA-48 "select graphic rendition".
    Coloured,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum When {
    /// If standard output is a terminal and `NO_COLOR` is not set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// True.
    Good,
    /// True with a condition.
    Partly,
    /// Not true.
    Bad,
    /// Not decided, not run.
    Open,
    /// A heading.
    Heading,
    /// Detail.
    Faint,
}

impl Style {
    /// The style for standard output.
    #[must_use]
    pub fn for_stdout(when: When) -> Self {
        let wanted = match when {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                // <https://no-color.org>
                let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                std::io::stdout().is_terminal() && !unwanted
            }
        };
        if wanted { Self::Coloured } else { Self::Plain }
    }

    /// Marks `text`.
    #[must_use]
    pub fn mark(self, mark: Mark, text: &str) -> String {
        let code = match mark {
            Mark::Good => "32",
            Mark::Partly => "33",
            Mark::Bad => "31",
            Mark::Open => "35",
            Mark::Heading => "1",
            Mark::Faint => "2",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

impl From<&Verdict> for Mark {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Holds => Self::Good,
            Verdict::HoldsWithQualification => Self::Partly,
            Verdict::False => Self::Bad,
            Verdict::Inconclusive { .. } => Self::Open,
        }
    }
}

impl From<Expected> for Mark {
    fn from(expected: Expected) -> Self {
        match expected {
            Expected::Holds => Self::Good,
            Expected::HoldsWithQualification => Self::Partly,
            Expected::False => Self::Bad,
        }
    }
}

/// Columns that a report takes.
const WIDTH: usize = 100;

/// Adds `title` and behind it `body`, wrapped at spaces, with its lines aligned.
pub fn paragraph(text: &mut String, title: &str, body: &str) {
    let margin = title.chars().count();
    let (mut line, mut width) = (title.to_owned(), margin);
    for (index, word) in body.split_whitespace().enumerate() {
        let len = word.chars().count();
        if index > 0 && width + 1 + len > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = " ".repeat(margin);
            width = margin;
        } else if index > 0 {
            line.push(' ');
            width += 1;
        }
        line.push_str(word);
        width += len;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}
