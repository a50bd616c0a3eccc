//! Calls: trees of function calls for a person to read; pure.

use std::fmt::Write;

use crate::calls::{Call, Cause, Entry, Step};
use crate::report::style::{Mark, Style};

/// What stands before a call, for each level.
const INDENT: &str = "  ";

/// The entries of a step under its name, each with what came of it, `depth` levels of it at most.
#[must_use]
pub fn render(step: &Step, depth: usize, style: Style) -> String {
    let mut text = format!("{}\n", style.mark(Mark::Heading, &step.name));
    let mut entries = step.entries.as_slice();
    if entries.is_empty() {
        text.push_str("  nothing\n");
    }
    while let Some(first) = entries.first() {
        let nr_alike = entries
            .iter()
            .take_while(|entry| alike(first, entry))
            .count();
        let (these, others) = entries.split_at(nr_alike.max(1));
        let title = format!("{} {}", first.tid, first.cause);
        let _ = writeln!(text, "\n{INDENT}{}", style.mark(Mark::Heading, &title));
        calls(&mut text, &first.calls, 2, depth, style);
        if let ([_, .., _], Some(last)) = (these, these.last()) {
            let more = format!(
                "and {} more alike, the last: {}",
                these.len() - 1,
                last.cause
            );
            let _ = writeln!(text, "{INDENT}{}", style.mark(Mark::Faint, &more));
        }
        entries = others;
    }
    text
}

/// Whether two entries of a thread differ in nothing but an address.
fn alike(one: &Entry, other: &Entry) -> bool {
    let same_cause = match (&one.cause, &other.cause) {
        (Cause::Fault(one), Cause::Fault(other)) => one.error_code == other.error_code,
        (one, other) => one == other,
    };
    one.tid == other.tid && same_cause && one.calls == other.calls
}

fn calls(text: &mut String, mut calls: &[Call], level: usize, depth: usize, style: Style) {
    while let Some(first) = calls.first() {
        let nr_same = calls.iter().take_while(|call| *call == first).count();
        calls = &calls[nr_same..];
        let name = if first.of_driver {
            let name = format!("{} [mmapdemo]", first.name);
            style.mark(Mark::Partly, &name)
        } else {
            first.name.clone()
        };
        let times = match nr_same {
            1 => String::new(),
            times => style.mark(Mark::Faint, &format!("  {times} times")),
        };
        let cut = depth <= 1 && !first.calls.is_empty();
        let cut = if cut { " ..." } else { "" };
        let _ = writeln!(text, "{}{name}{cut}{times}", INDENT.repeat(level));
        if depth > 1 {
            self::calls(text, &first.calls, level + 1, depth - 1, style);
        }
    }
}
