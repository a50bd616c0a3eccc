//! Picture: a scene as SVG: the processes with their VMAs and entries above, the frames below, arrows between.
//!
//! What is drawn has classes only; colours are the page's (`page.css`). Nothing has an id, so that a picture can be on
//! a page twice.

use maud::{Markup, html};

use super::scene::{self, FEW_PAGES, Scene};

mod frames;
mod processes;

use frames::Slot;

/// What a picture is to fit into, in CSS pixels.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Its class.
    pub class: &'static str,
    width: i32,
    /// The width of a character of the monospaced font.
    char_width: i32,
    /// From a baseline to the next.
    line: i32,
    /// A process with one page is not wider than this.
    process: i32,
    /// A frame is not wider than this.
    frame: i32,
}

/// For a screen or paper.
pub const WIDE: Size = Size {
    class: "wide",
    width: 920,
    char_width: 8,
    line: 18,
    process: 448,
    frame: 270,
};

/// For a telephone.
pub const NARROW: Size = Size {
    class: "narrow",
    width: 380,
    char_width: 7,
    line: 16,
    process: 380,
    frame: 250,
};

const GAP: i32 = 16;
const PAD: i32 = 10;
/// Between processes and frames, for the arrows.
const BETWEEN: i32 = 78;

/// A rectangle.
#[derive(Clone, Copy, Debug)]
struct Place {
    x: i32,
    y: i32,
    width: i32,
    height: i32,
}

impl Place {
    fn middle(self) -> i32 {
        self.x + self.width / 2
    }
}

/// A line of text, and how it is set.
struct Line {
    text: String,
    class: &'static str,
}

fn line(text: impl Into<String>, class: &'static str) -> Line {
    let text = text.into();
    Line { text, class }
}

/// An entry of a page table that leads somewhere, or did.
struct Arrow {
    from: i32,
    pfn: u64,
    class: &'static str,
    says: &'static str,
}

/// Draws it; `None` if there is nothing to be seen of memory.
#[must_use]
pub fn draw(scene: &Scene<'_>, size: Size) -> Option<Markup> {
    let step = scene.step;
    if step.processes.is_empty() && step.frames.is_empty() {
        return None;
    }
    let columns = processes::columns(scene, size);
    let nr_lines = |area: &Vec<Line>| i32::try_from(area.len()).unwrap_or(0);
    let blocks: Vec<_> = step
        .processes
        .iter()
        .zip(&columns)
        .map(|(process, column)| processes::blocks(scene, process, column.width, size))
        .collect();
    let vmas_height = blocks
        .iter()
        .map(|(vmas, _)| {
            vmas.iter()
                .map(|(lines, _)| nr_lines(lines) * size.line + 20)
                .sum::<i32>()
        })
        .max()
        .unwrap_or(0);
    let cells_height = blocks
        .iter()
        .map(|(_, cells)| {
            cells
                .iter()
                .map(|(lines, _)| nr_lines(lines) * size.line + 14)
                .max()
                .unwrap_or(0)
        })
        .chain(
            step.processes
                .iter()
                .map(|it| processes::grid_height(it, size)),
        )
        .max()
        .unwrap_or(0);
    let height = if step.processes.is_empty() {
        0
    } else {
        34 + vmas_height + cells_height + PAD
    };
    let mut arrows = Vec::new();
    let mut drawn = Vec::new();
    for ((process, column), (vmas, cells)) in step.processes.iter().zip(columns).zip(blocks) {
        let place = Place { height, ..column };
        drawn.push(processes::process_box(process, place, &vmas, size));
        let cells_at = Place {
            y: 34 + vmas_height,
            height: cells_height,
            ..place
        };
        drawn.push(if process.pages.len() > FEW_PAGES {
            processes::grid(scene, process, cells_at, size)
        } else {
            processes::cells_row(scene, process, cells_at, &cells, (size, &mut arrows))
        });
    }
    let frames_at = if height == 0 { 0 } else { height + BETWEEN };
    let slots = frames::slots(scene, frames_at, size);
    let frames_height = slots.first().map_or(0, |slot| slot.place.height);
    let total = if slots.is_empty() {
        height
    } else {
        frames_at + frames_height
    } + 2;
    let view = format!("-1 -1 {} {}", size.width + 2, total + 2);
    Some(html! {
        svg class=(size.class) viewBox=(view) width=(size.width) role="img" aria-label=(label(scene)) {
            @for part in drawn { (part) }
            @for slot in &slots { (text_box(slot.place, &slot.lines, scene.has_new_content(slot.frame), "frame", size)) }
            (draw_arrows(&arrows, height, &slots))
        }
    })
}

/// What it shows, for those who do not see it; the tables below it have all the rest.
fn label(scene: &Scene<'_>) -> String {
    let mut parts = Vec::new();
    for process in &scene.step.processes {
        let name = &process.name;
        if process.ended {
            parts.push(format!("{name} has ended"));
        } else if process.pages.len() > FEW_PAGES {
            let there = process
                .pages
                .iter()
                .filter(|page| page.pfn().is_some())
                .count();
            parts.push(format!(
                "{name}: {there} of {} pages are mapped",
                process.pages.len()
            ));
        }
        for page in process
            .pages
            .iter()
            .filter(|_| process.pages.len() <= FEW_PAGES)
        {
            parts.push(format!(
                "{name}'s entry{}: {}",
                scene::of_page(page),
                scene::entry(page)
            ));
        }
    }
    for frame in &scene.step.frames {
        parts.push(format!("frame {:#x}: {}", frame.pfn, scene::owner(frame)));
    }
    parts.join("; ")
}

fn chars(width: i32, size: Size) -> usize {
    usize::try_from(width / size.char_width).unwrap_or(0).max(6)
}

/// Lines in a box; one that changed has another border, and says so.
fn text_box(place: Place, lines: &[Line], changed: bool, class: &str, size: Size) -> Markup {
    let class = if changed {
        format!("{class} changed")
    } else {
        class.to_owned()
    };
    let first = place.y + size.line - 1;
    html! {
        rect class=(class) x=(place.x) y=(place.y) width=(place.width) height=(place.height) rx="5" {}
        @for (nr, line) in (0..).zip(lines) {
            text class=(line.class) x=(place.x + 8) y=(first + nr * size.line) { (line.text) }
        }
        @if changed {
            (mark(place.x + place.width - 9, place.y))
        }
    }
}

/// The mark of what changed: a diamond on the border, so that nobody needs to see a colour.
fn mark(x: i32, y: i32) -> Markup {
    let corners = format!("{x},{} {},{y} {x},{} {},{y}", y - 6, x + 6, y + 6, x - 6);
    html! { polygon class="mark" points=(corners) {} }
}

/// Curves from the entries down to the frames; those that lead to one frame end side by side.
fn draw_arrows(arrows: &[Arrow], top: i32, slots: &[Slot<'_>]) -> Markup {
    let mut drawn = Vec::new();
    for Slot { frame, place, .. } in slots {
        let mut here: Vec<_> = arrows
            .iter()
            .filter(|arrow| arrow.pfn == frame.pfn)
            .collect();
        here.sort_by_key(|arrow| arrow.from);
        let number = i32::try_from(here.len()).unwrap_or(0);
        for (arrow, nr) in here.iter().zip(1..) {
            let to = place.x + place.width * nr / (number + 1);
            drawn.push(draw_arrow(arrow, to, top - PAD, place.y));
        }
    }
    html! { @for part in drawn { (part) } }
}

fn draw_arrow(arrow: &Arrow, to: i32, top: i32, bottom: i32) -> Markup {
    let from = arrow.from;
    let end = bottom - 9;
    let (down, up) = (top + BETWEEN / 2 + PAD, end - BETWEEN / 2);
    let curve = format!("M{from} {top}C{from} {down} {to} {up} {to} {end}");
    let head = format!(
        "{to},{bottom} {},{} {},{}",
        to - 5,
        bottom - 11,
        to + 5,
        bottom - 11
    );
    html! {
        path class=(arrow.class) d=(curve) {}
        @if arrow.class != "arrow old" {
            polygon class=(format!("{} head", arrow.class)) points=(head) {}
        }
        @if !arrow.says.is_empty() {
            // On the side that the arrow does not turn to.
            @let (x, anchor) = if to > from { (from - 10, "end") } else { (from + 10, "start") };
            text class="says" x=(x) y=(top + PAD + 20) text-anchor=(anchor) { (arrow.says) }
        }
    }
}
