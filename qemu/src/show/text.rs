//! Text: scenes for a terminal, as wide as it is; pure.

use std::fmt::Write as _;

use super::lines::{printable, wrapped};
use super::recording::{Finding, Frame, Process, Story};
use super::scene::{self, FEW_PAGES, Scene};
use crate::evidence::{bytes, characters, pairs};

/// How it is to look.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Columns of the terminal.
    pub width: usize,
    /// Whether escape sequences are understood and wanted.
    pub color: bool,
}

/// Processes narrower than this stand below each other.
const NARROWEST: usize = 36;
/// Wider lines are hard to read.
const WIDEST: usize = 110;
/// Marks what changed in this step, in black and white, too.
const CHANGED: char = '*';

impl Style {
    /// Without colours, as wide as a page.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            width: 80,
            color: false,
        }
    }

    fn width(self) -> usize {
        self.width.clamp(NARROWEST + 4, WIDEST)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// What is marked as changed is also bold and yellow.
    fn highlight(self, line: &str) -> String {
        if line.contains(CHANGED) {
            self.paint("1;33", line)
        } else {
            line.to_owned()
        }
    }
}

/// What comes before the first scene of a story.
#[must_use]
pub fn head(story: &Story, style: Style) -> String {
    let mut text = String::new();
    for line in wrapped(&story.title, style.width()) {
        let _ = writeln!(text, "{}", style.bold(&line));
    }
    for line in wrapped(&story.question, style.width()) {
        let _ = writeln!(text, "{line}");
    }
    if let Some(why) = &story.skipped {
        for line in wrapped(&format!("Not recorded: {why}."), style.width()) {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// One scene.
#[must_use]
pub fn scene(scene: &Scene<'_>, style: Style) -> String {
    let mut text = String::new();
    let step = scene.step;
    let number = format!("{}/{}", scene.index + 1, scene.story.steps.len());
    let boot = match step.boot.as_deref() {
        Some(boot) if boot != "main" => format!(" (boot: {boot})"),
        _ => String::new(),
    };
    for (nr, line) in wrapped(&(scene.headline() + &boot), style.width() - 6)
        .iter()
        .enumerate()
    {
        let label = if nr == 0 { number.as_str() } else { "" };
        let _ = writeln!(text, "{label:<5} {}", style.bold(line));
    }
    if let Some(call) = &step.call {
        for line in wrapped(call, style.width() - 6) {
            let _ = writeln!(text, "      {line}");
        }
    }
    if let Some(result) = &step.result {
        for line in wrapped(&result.to_string(), style.width() - 8) {
            let _ = writeln!(text, "      = {}", style.bold(&line));
        }
    }
    for fact in &step.facts {
        let line = format!("{}: {}", fact.words(), fact.value);
        for line in wrapped(&line, style.width() - 6) {
            let _ = writeln!(text, "      {line}");
        }
    }
    if !(step.processes.is_empty() && step.frames.is_empty()) {
        text.push('\n');
        draw(&mut text, scene, style);
    }
    notes(&mut text, scene, style);
    text
}

/// What changed, and what is to be seen.
fn notes(text: &mut String, scene: &Scene<'_>, style: Style) {
    let width = style.width() - 4;
    let changes = scene.changes();
    if !changes.is_empty() {
        let _ = writeln!(text, "\n  {}", style.dim("changed"));
        for change in changes {
            bullet(text, CHANGED, &change, (width, style));
        }
    }
    if !scene.step.findings.is_empty() {
        let _ = writeln!(text, "\n  {}", style.dim("to be seen here"));
    }
    for Finding { says, seen, why } in &scene.step.findings {
        if *seen {
            bullet(text, '+', says, (width, style));
            if !why.is_empty() {
                bullet(text, ' ', why, (width, style));
            }
        } else {
            bullet(
                text,
                '-',
                &format!("NOT SEEN IN THIS RUN: {says}"),
                (width, style),
            );
        }
    }
}

fn bullet(text: &mut String, mark: char, what: &str, (width, style): (usize, Style)) {
    for (nr, line) in wrapped(what, width).iter().enumerate() {
        let mark = if nr == 0 { mark } else { ' ' };
        let _ = writeln!(
            text,
            "  {mark} {}",
            if mark == '+' || mark == '-' {
                style.bold(line)
            } else {
                line.clone()
            }
        );
    }
}

fn draw(text: &mut String, scene: &Scene<'_>, style: Style) {
    let processes = &scene.step.processes;
    let boxes: Vec<_> = processes.iter().map(|it| process(scene, it)).collect();
    let columns = boxes.len().max(1);
    let side_by_side = (style.width() - 2) / columns;
    if side_by_side >= NARROWEST {
        let width = side_by_side - 1;
        let cut = |lines: &Vec<String>| lines.iter().flat_map(|it| cut(it, width - 4)).count();
        let height = boxes.iter().map(|(_, lines)| cut(lines)).max().unwrap_or(0);
        let framed: Vec<_> = boxes
            .iter()
            .map(|(head, lines)| {
                let blank = std::iter::repeat_n(String::new(), height - cut(lines));
                let lines: Vec<_> = lines.iter().cloned().chain(blank).collect();
                framed(head, &lines, width)
            })
            .collect();
        let height = framed.iter().map(Vec::len).max().unwrap_or(0);
        for row in 0..height {
            let mut line = String::from(" ");
            for part in &framed {
                let blank = " ".repeat(side_by_side - 1);
                let cell = part.get(row).unwrap_or(&blank);
                let _ = write!(line, " {}", style.highlight(cell));
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
    } else {
        for (head, lines) in &boxes {
            for line in framed(head, lines, style.width() - 3) {
                let _ = writeln!(text, "  {}", style.highlight(&line));
            }
        }
    }
    for frame in &scene.step.frames {
        let (head, lines) = self::frame(scene, frame);
        for line in framed(&head, &lines, style.width() - 3) {
            let _ = writeln!(text, "  {}", style.highlight(&line));
        }
    }
}

fn mark(is: bool) -> String {
    if is {
        format!(" {CHANGED}")
    } else {
        String::new()
    }
}

/// The title and the lines of a process's box.
fn process(scene: &Scene<'_>, process: &Process) -> (String, Vec<String>) {
    let head = format!("{}, pid {}", process.name, process.pid);
    if process.ended {
        return (head, vec!["has ended".to_owned()]);
    }
    let mut lines = Vec::new();
    if process.vmas.is_empty() {
        lines.push("no VMA: nothing is mapped here".to_owned());
    }
    for area in &process.vmas {
        let changed = mark(scene.is_new_area(process, area));
        lines.push(format!("VMA {:x}-{:x}{changed}", area.start, area.end));
        let offset = if area.offset == 0 {
            String::new()
        } else {
            format!(" +{:#x}", area.offset)
        };
        lines.push(format!("    {} {}{offset}", area.mode, scene::object(area)));
        lines.push(format!("    {}", area.flags.join(" ")));
    }
    if process.pages.len() > FEW_PAGES {
        lines.extend(grid(process));
        return (head, lines);
    }
    for page in &process.pages {
        let changed = mark(scene.is_changed(process, page));
        let label = if page.label.is_empty() {
            String::new()
        } else {
            format!(" {}:", page.label)
        };
        lines.push(format!(
            "PTE{label} {}{changed}",
            scene::bits(page).join(", ")
        ));
        if let Some(pfn) = page.pfn() {
            let was = scene.moved_from(process, page);
            let was = was.map_or_else(String::new, |was| format!(", was {was:#x}"));
            lines.push(format!(
                "    \u{2514}\u{2500}\u{25b6} {pfn:#x}{was}{changed}"
            ));
        } else if let Some(was) = scene.moved_from(process, page) {
            lines.push(format!("    (was frame {was:#x})"));
        }
    }
    (head, lines)
}

/// Many pages: a character for each.
fn grid(process: &Process) -> Vec<String> {
    const COLUMNS: usize = 16;
    let cell = |page: &super::recording::Page| match (&page.pte, page.pfn()) {
        (_, None) => '.',
        (Some(pte), _) if pte.writable => 'w',
        _ => 'r',
    };
    let mut lines = vec!["PTEs: . not present, r read-only, w writable".to_owned()];
    for (row, pages) in process.pages.chunks(COLUMNS).enumerate() {
        let cells: String = pages.iter().map(cell).flat_map(|it| [it, ' ']).collect();
        lines.push(format!("{:>4}  {}", row * COLUMNS, cells.trim_end()));
    }
    lines
}

/// The title and the lines of a frame's box.
fn frame(scene: &Scene<'_>, frame: &Frame) -> (String, Vec<String>) {
    let head = format!("frame {:#x}, {}", frame.pfn, scene::owner(frame));
    let content = bytes(&frame.bytes);
    let shown = content.get(..8).unwrap_or(&content);
    let bytes_changed = mark(scene.has_new_content(frame));
    let counts_changed = mark(scene.counts_changed(frame));
    let users = scene::users(scene.step, frame.pfn);
    let users = if users.is_empty() {
        "nobody here".to_owned()
    } else {
        users.join(", ")
    };
    let lines = vec![
        format!("{} ...  {}{bytes_changed}", pairs(shown), characters(shown)),
        format!(
            "{}{counts_changed}   \u{25c0}\u{2500} {users}",
            scene::counts(frame)
        ),
    ];
    (head, lines)
}

/// Lines in a box of this width.
fn framed(head: &str, lines: &[String], width: usize) -> Vec<String> {
    let inside = width.saturating_sub(4);
    let title: String = printable(head).chars().take(inside).collect();
    let rest = inside.saturating_sub(title.chars().count());
    let mut framed = vec![format!(
        "\u{250c} {title} {}\u{2510}",
        "\u{2500}".repeat(rest)
    )];
    for line in lines.iter().flat_map(|line| cut(line, inside)) {
        framed.push(format!("\u{2502} {line:<inside$} \u{2502}"));
    }
    framed.push(format!("\u{2514}{}\u{2518}", "\u{2500}".repeat(inside + 2)));
    framed
}

/// A line in pieces that fit; the pieces after the first are indented as far as the line was, and more.
fn cut(line: &str, width: usize) -> Vec<String> {
    let indent = line.chars().take_while(|it| *it == ' ').count();
    if line.chars().count() <= width {
        return vec![printable(line)];
    }
    let lines = wrapped(line.trim_start(), width.saturating_sub(indent + 2).max(8));
    let first = |nr: usize| if nr == 0 { indent } else { indent + 2 };
    lines
        .iter()
        .enumerate()
        .map(|(nr, line)| format!("{}{line}", " ".repeat(first(nr))))
        .collect()
}
