//! Processes: a box each, with VMAs and the entries of the page tables.

use maud::{Markup, html};

use super::{Arrow, GAP, Line, PAD, Place, Size, chars, line, text_box};
use crate::show::lines::wrapped;
use crate::show::recording::{Area, Page, Process};
use crate::show::scene::{self, FEW_PAGES, Scene};

/// Pages of a row, where there are many.
const COLUMNS: i32 = 16;

/// Where the processes are, side by side.
pub(super) fn columns(scene: &Scene<'_>, size: Size) -> Vec<Place> {
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

pub(super) type Block = (Vec<Line>, bool);

/// The lines of a process's VMAs and of its entries, and which of them changed.
pub(super) fn blocks(
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

pub(super) fn process_box(process: &Process, place: Place, vmas: &[Block], size: Size) -> Markup {
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

pub(super) fn cells_row(
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

pub(super) fn grid_height(process: &Process, size: Size) -> i32 {
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
pub(super) fn grid(scene: &Scene<'_>, process: &Process, place: Place, size: Size) -> Markup {
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
