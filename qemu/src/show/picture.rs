//! Picture: a scene as SVG: the processes with their VMAs and entries above, the frames below, arrows between.
//!
//! What is drawn has classes only; colours are the page's (`page.css`). Nothing has an id, so that a picture can be on
//! a page twice.

use maud::{Markup, html};

use super::recording::{Area, Frame, Page, Process, Story};
use super::scene::{self, FEW_PAGES, Scene};
use crate::evidence::{bytes, characters, pairs};

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
/// Frames of a story that are so few keep their places in all of its pictures.
const FEW_FRAMES: usize = 4;
/// Pages of a row, where there are many.
const COLUMNS: i32 = 16;

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
    let columns = columns(scene, size);
    let nr_lines = |area: &Vec<Line>| i32::try_from(area.len()).unwrap_or(0);
    let blocks: Vec<_> = step
        .processes
        .iter()
        .zip(&columns)
        .map(|(process, column)| blocks(scene, process, column.width, size))
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
        .chain(step.processes.iter().map(|it| grid_height(it, size)))
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
        drawn.push(process_box(process, place, &vmas, size));
        let cells_at = Place {
            y: 34 + vmas_height,
            height: cells_height,
            ..place
        };
        drawn.push(if process.pages.len() > FEW_PAGES {
            grid(scene, process, cells_at, size)
        } else {
            cells_row(scene, process, cells_at, &cells, (size, &mut arrows))
        });
    }
    let frames_at = if height == 0 { 0 } else { height + BETWEEN };
    let slots = slots(scene, frames_at, size);
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

/// Where the processes are, side by side.
fn columns(scene: &Scene<'_>, size: Size) -> Vec<Place> {
    let processes = &scene.step.processes;
    let number = i32::try_from(processes.len()).unwrap_or(1).max(1);
    let share = (size.width - GAP * (number - 1)) / number;
    let mut x = 0;
    let mut places = Vec::new();
    for process in processes {
        let nr_pages = i32::try_from(process.pages.len().min(FEW_PAGES)).unwrap_or(1);
        let width = size.process.max(nr_pages * 170).min(share);
        places.push(Place {
            x,
            y: 0,
            width,
            height: 0,
        });
        x += width + GAP;
    }
    places
}

type Block = (Vec<Line>, bool);

/// The lines of a process's VMAs and of its entries, and which of them changed.
fn blocks(
    scene: &Scene<'_>,
    process: &Process,
    width: i32,
    size: Size,
) -> (Vec<Block>, Vec<Block>) {
    let inside = chars(width - 4 * PAD, size);
    let mut vmas: Vec<_> = process
        .vmas
        .iter()
        .map(|area| (vma_lines(area, inside), scene.is_new_area(process, area)))
        .collect();
    if vmas.is_empty() {
        let what = if process.ended {
            "has ended"
        } else {
            "no VMA: nothing is mapped here"
        };
        let lines = wrapped(what, inside)
            .into_iter()
            .map(|it| line(it, "quiet"))
            .collect();
        vmas.push((lines, false));
    }
    if process.pages.len() > FEW_PAGES {
        return (vmas, Vec::new());
    }
    let number = i32::try_from(process.pages.len()).unwrap_or(1).max(1);
    let cell = (width - 2 * PAD - (number - 1) * 6) / number;
    let cells = process.pages.iter().map(|page| {
        (
            pte_lines(page, chars(cell - PAD - 4, size)),
            scene.is_changed(process, page),
        )
    });
    (vmas, cells.collect())
}

fn chars(width: i32, size: Size) -> usize {
    usize::try_from(width / size.char_width).unwrap_or(0).max(6)
}

fn vma_lines(area: &Area, inside: usize) -> Vec<Line> {
    let range = format!("{:x}-{:x}", area.start, area.end);
    let mut lines = Vec::new();
    if range.len() + 4 <= inside {
        lines.push(line(format!("VMA {range}"), "mono"));
    } else {
        lines.push(line(format!("VMA {:x}-", area.start), "mono"));
        lines.push(line(format!("    {:x}", area.end), "mono"));
    }
    let offset = if area.offset == 0 {
        String::new()
    } else {
        format!(" +{:#x}", area.offset)
    };
    let what = format!("{} {}{offset}", area.mode, scene::object(area));
    lines.extend(
        wrapped(&what, inside)
            .into_iter()
            .map(|it| line(it, "mono strong")),
    );
    let flags = wrapped(&area.flags.join(" "), inside);
    lines.extend(flags.into_iter().map(|it| line(it, "mono quiet")));
    lines
}

fn pte_lines(page: &Page, inside: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    if !page.label.is_empty() {
        lines.extend(
            wrapped(&page.label, inside)
                .into_iter()
                .map(|it| line(it, "quiet")),
        );
    }
    let bits = scene::bits(page);
    let class = if page.pfn().is_some() {
        "strong"
    } else {
        "quiet"
    };
    let said = format!("PTE {}", bits.join(", "));
    lines.extend(wrapped(&said, inside).into_iter().map(|it| line(it, class)));
    if let Some(pfn) = page.pfn() {
        let text = format!("frame {pfn:#x}");
        lines.extend(
            wrapped(&text, inside)
                .into_iter()
                .map(|it| line(it, "mono")),
        );
    }
    lines
}

fn process_box(process: &Process, place: Place, vmas: &[Block], size: Size) -> Markup {
    let class = if process.ended {
        "process ended"
    } else {
        "process"
    };
    let mut y = 34;
    let mut drawn = Vec::new();
    for (lines, changed) in vmas {
        let nr_lines = i32::try_from(lines.len()).unwrap_or(0);
        let area = Place {
            x: place.x + PAD,
            y,
            width: place.width - 2 * PAD,
            height: nr_lines * size.line + 12,
        };
        y += area.height + 8;
        drawn.push(text_box(area, lines, *changed, "vma", size));
    }
    html! {
        rect class=(class) x=(place.x) y=(place.y) width=(place.width) height=(place.height) rx="10" {}
        text class="name" x=(place.x + PAD) y="23" { (process.name) }
        text class="quiet" x=(place.x + place.width - PAD) y="22" text-anchor="end" {
            "pid " (process.pid) @if process.ended { ", ended" }
        }
        @for part in drawn { (part) }
    }
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

fn cells_row(
    scene: &Scene<'_>,
    process: &Process,
    place: Place,
    cells: &[Block],
    (size, arrows): (Size, &mut Vec<Arrow>),
) -> Markup {
    let number = i32::try_from(cells.len()).unwrap_or(1).max(1);
    let width = (place.width - 2 * PAD - (number - 1) * 6) / number;
    let mut drawn = Vec::new();
    for ((page, (lines, changed)), nr) in process.pages.iter().zip(cells).zip(0..) {
        let cell = Place {
            x: place.x + PAD + nr * (width + 6),
            y: place.y,
            width,
            height: place.height,
        };
        let class = if page.pfn().is_some() {
            "pte"
        } else {
            "pte empty"
        };
        drawn.push(text_box(cell, lines, *changed, class, size));
        let moved_from = scene.moved_from(process, page);
        if let Some(pfn) = page.pfn() {
            let (class, says) = match (*changed, moved_from) {
                (_, Some(_)) => ("arrow changed", "moved"),
                (true, None)
                    if scene
                        .page_before(process, page)
                        .is_none_or(|it| it.pfn().is_none()) =>
                {
                    ("arrow changed", "new")
                }
                _ => ("arrow", ""),
            };
            arrows.push(Arrow {
                from: cell.middle(),
                pfn,
                class,
                says,
            });
        }
        if let Some(pfn) = moved_from {
            arrows.push(Arrow {
                from: cell.middle(),
                pfn,
                class: "arrow old",
                says: "",
            });
        }
    }
    html! { @for part in drawn { (part) } }
}

fn grid_height(process: &Process, size: Size) -> i32 {
    if process.pages.len() <= FEW_PAGES {
        return 0;
    }
    let nr_rows = i32::try_from(process.pages.len())
        .unwrap_or(0)
        .div_euclid(COLUMNS);
    let nr_rows = nr_rows + i32::from(process.pages.len() % 16 != 0);
    size.line * 2 + 8 + nr_rows * (grid_cell(size) + 3)
}

fn grid_cell(size: Size) -> i32 {
    (size.process - 2 * PAD) / COLUMNS - 3
}

/// Many pages: a square for each, with a letter for what may be done.
fn grid(scene: &Scene<'_>, process: &Process, place: Place, size: Size) -> Markup {
    let edge = grid_cell(size);
    let top = place.y + size.line + 8;
    let mut drawn = Vec::new();
    for (page, nr) in process.pages.iter().zip(0..) {
        let cell = Place {
            x: place.x + PAD + nr % COLUMNS * (edge + 3),
            y: top + nr / COLUMNS * (edge + 3),
            width: edge,
            height: edge,
        };
        let letter = match (&page.pte, page.pfn()) {
            (_, None) => "",
            (Some(pte), _) if pte.writable => "w",
            _ => "r",
        };
        let changed = scene.is_changed(process, page);
        let class = match (letter.is_empty(), changed) {
            (true, false) => "pte empty",
            (true, true) => "pte empty changed",
            (false, false) => "pte",
            (false, true) => "pte changed",
        };
        drawn.push(html! {
            rect class=(class) x=(cell.x) y=(cell.y) width=(edge) height=(edge) rx="3" {}
            text class="mono" x=(cell.middle()) y=(cell.y + edge / 2 + 5) text-anchor="middle" { (letter) }
        });
    }
    let nr_rows = i32::try_from(process.pages.len()).unwrap_or(0) / COLUMNS;
    let below = top + nr_rows * (edge + 3) + size.line - 4;
    html! {
        text class="strong" x=(place.x + PAD) y=(place.y + size.line - 2) { "PTEs, one a page" }
        @for part in drawn { (part) }
        text class="quiet" x=(place.x + PAD) y=(below) {
            "r: read-only, w: writable, empty: not present"
        }
    }
}

/// A frame, where it is, and its lines.
struct Slot<'a> {
    frame: &'a Frame,
    place: Place,
    lines: Vec<Line>,
}

/// The frames side by side.
fn slots<'a>(scene: &Scene<'a>, y: i32, size: Size) -> Vec<Slot<'a>> {
    let step = scene.step;
    let mut order = all_frames(scene.story);
    if order.len() > FEW_FRAMES {
        order.retain(|pfn| step.frame(*pfn).is_some());
    }
    let number = i32::try_from(order.len()).unwrap_or(1).max(1);
    let width = ((size.width - GAP / 2 * (number - 1)) / number).min(size.frame);
    let mut slots = Vec::new();
    for (pfn, nr) in order.into_iter().zip(0..) {
        let Some(frame) = step.frame(pfn) else {
            continue;
        };
        let lines = frame_lines(scene, frame, chars(width - 2 * PAD, size));
        let x = nr * (width + GAP / 2);
        let place = Place {
            x,
            y,
            width,
            height: 0,
        };
        slots.push(Slot {
            frame,
            place,
            lines,
        });
    }
    let most = slots.iter().map(|slot| slot.lines.len()).max().unwrap_or(0);
    let height = i32::try_from(most).unwrap_or(0) * size.line + 14;
    for slot in &mut slots {
        slot.place.height = height;
    }
    slots
}

/// All frames of a story, in the order in which they come up.
fn all_frames(story: &Story) -> Vec<u64> {
    let mut all = Vec::new();
    let mut add = |pfn| {
        if !all.contains(&pfn) {
            all.push(pfn);
        }
    };
    for step in &story.steps {
        let (drivers, others): (Vec<_>, Vec<_>) =
            step.frames.iter().partition(|it| it.owner == "driver");
        let pages = step.processes.iter().flat_map(|it| &it.pages);
        for frame in drivers {
            add(frame.pfn);
        }
        for pfn in pages.filter_map(Page::pfn) {
            if step.frame(pfn).is_some() {
                add(pfn);
            }
        }
        for frame in others {
            add(frame.pfn);
        }
    }
    all
}

fn frame_lines(scene: &Scene<'_>, frame: &Frame, inside: usize) -> Vec<Line> {
    let content = bytes(&frame.bytes);
    let first = content.get(..8).unwrap_or(&content);
    let mut lines = Vec::new();
    let title = format!("frame {:#x}", frame.pfn);
    let title = if title.len() <= inside {
        title
    } else {
        format!("{:#x}", frame.pfn)
    };
    lines.push(line(title, "mono strong"));
    let owner = wrapped(scene::owner(frame), inside).into_iter();
    lines.extend(owner.map(|it| line(it, "quiet")));
    for part in first.chunks(if inside < 23 { 4 } else { 8 }) {
        let text = if inside >= 23 + 10 {
            format!("{}  {}", pairs(part), characters(part))
        } else {
            pairs(part)
        };
        lines.push(line(text, "mono"));
    }
    let (class, counts) = if scene.counts_changed(frame) {
        ("accent", format!("\u{25c6} {}", scene::counts(frame)))
    } else {
        ("quiet", scene::counts(frame))
    };
    let counts = wrapped(&counts, inside).into_iter();
    lines.extend(counts.map(|it| line(it, class)));
    lines
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

/// Text in lines of at most so many characters; a longer word is cut.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        let used = lines.last().map_or(0, |line| line.chars().count());
        if used > 0 && used + 1 + word.len() > width {
            lines.push(String::new());
        }
        while word.len() > width {
            let rest = word.split_off(width);
            if let Some(line) = lines.last_mut() {
                line.extend(&word);
            }
            lines.push(String::new());
            word = rest;
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.extend(&word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words_and_inside_long_ones() {
        assert_eq!(wrapped("present, read-only", 12), ["present,", "read-only"]);
        assert_eq!(wrapped("abcdefgh ij", 5), ["abcde", "fgh", "ij"]);
        assert_eq!(wrapped("", 5), [""]);
    }
}
