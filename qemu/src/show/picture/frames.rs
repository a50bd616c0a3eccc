//! Frames: a box each, side by side.

use super::{GAP, Line, PAD, Place, Size, chars, line};
use crate::evidence::{bytes, characters, pairs};
use crate::show::lines::wrapped;
use crate::show::recording::{Frame, Page, Story};
use crate::show::scene::{self, Scene};

/// Frames of a story that are so few keep their places in all of its pictures.
const FEW_FRAMES: usize = 4;

/// A frame, where it is, and its lines.
pub(super) struct Slot<'a> {
    pub(super) frame: &'a Frame,
    pub(super) place: Place,
    pub(super) lines: Vec<Line>,
}

/// The frames side by side.
pub(super) fn slots<'a>(scene: &Scene<'a>, y: i32, size: Size) -> Vec<Slot<'a>> {
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
