//! Scene: one step as a picture shows it, with what is different from the step before; pure.

use super::recording::{Area, Frame, Page, Process, Step, Story};
use crate::evidence::{bytes, pairs};

/// A step and the one before it.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The whole.
    pub story: &'a Story,
    /// Which step this is, from 0.
    pub index: usize,
    /// The step.
    pub step: &'a Step,
    before: Option<&'a Step>,
}

/// More pages of a process than this are drawn as a grid.
pub const FEW_PAGES: usize = 8;

/// All scenes of a story.
#[must_use]
pub fn scenes(story: &Story) -> Vec<Scene<'_>> {
    let befores = std::iter::once(None).chain(story.steps.iter().map(Some));
    let steps = story.steps.iter().enumerate().zip(befores);
    // Nothing of a machine's memory is in another boot.
    let comparable = |step: &Step, before: &&Step| before.boot == step.boot;
    steps
        .map(|((index, step), before)| Scene {
            story,
            index,
            step,
            before: before.filter(|before| comparable(step, before)),
        })
        .collect()
}

impl<'a> Scene<'a> {
    /// What was done, as a sentence.
    #[must_use]
    pub fn headline(&self) -> String {
        format!("{} {}", self.step.by, self.step.did)
    }

    /// The same page in the step before, if it was watched then.
    #[must_use]
    pub fn page_before(&self, process: &Process, page: &Page) -> Option<&'a Page> {
        let before = self.before?.process(&process.name)?;
        let same = |old: &&Page| old.addr == page.addr && before.pid == process.pid;
        before.pages.iter().find(same)
    }

    /// The same frame in the step before.
    #[must_use]
    pub fn frame_before(&self, pfn: u64) -> Option<&'a Frame> {
        self.before?.frame(pfn)
    }

    /// Whether the picture is of other pages of the process than the one before.
    fn is_elsewhere(&self, process: &Process) -> bool {
        let before = self.before.and_then(|step| step.process(&process.name));
        before.is_some_and(|before| is_elsewhere(before, process))
    }

    /// Whether this VMA was not there before, or other.
    #[must_use]
    pub fn is_new_area(&self, process: &Process, area: &Area) -> bool {
        let before = self.before.and_then(|step| step.process(&process.name));
        // The first picture has nothing to compare with, nor has one of other pages.
        self.before.is_some()
            && before
                .is_none_or(|before| !is_elsewhere(before, process) && !before.vmas.contains(area))
    }

    /// Whether this entry was not there before, or other.
    #[must_use]
    pub fn is_changed(&self, process: &Process, page: &Page) -> bool {
        self.before.is_some()
            && match self.page_before(process, page) {
                Some(old) => shown(old) != shown(page),
                None => !self.is_elsewhere(process) && page.pfn().is_some(),
            }
    }

    /// Whether this frame was not in the picture before, or had other bytes.
    #[must_use]
    pub fn has_new_content(&self, frame: &Frame) -> bool {
        let before = self.frame_before(frame.pfn);
        self.before.is_some() && before.is_none_or(|before| before.bytes != frame.bytes)
    }

    /// Whether a frame that was in the picture before is led to by more or by fewer.
    #[must_use]
    pub fn counts_changed(&self, frame: &Frame) -> bool {
        let before = self.frame_before(frame.pfn);
        before.is_some_and(|old| (old.refcount, old.mapcount) != (frame.refcount, frame.mapcount))
    }

    /// The frame that the entry led to before, if that was another.
    #[must_use]
    pub fn moved_from(&self, process: &Process, page: &Page) -> Option<u64> {
        let old = self.page_before(process, page)?.pfn()?;
        (page.pfn() != Some(old)).then_some(old)
    }

    /// What is different from the step before, in sentences.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let Some(before) = self.before else {
            return Vec::new();
        };
        let mut changes = Vec::new();
        for process in &self.step.processes {
            self.process_changes(before, process, &mut changes);
        }
        for frame in &self.step.frames {
            match before.frame(frame.pfn) {
                None => changes.push(format!(
                    "Frame {:#x}, {}, is in the picture now.",
                    frame.pfn,
                    owner(frame)
                )),
                Some(old) => changes.extend(frame_changes(old, frame)),
            }
        }
        for gone in &before.frames {
            if self.step.frame(gone.pfn).is_none() {
                changes.push(format!(
                    "Nothing here leads to frame {:#x} any more.",
                    gone.pfn
                ));
            }
        }
        changes
    }

    fn process_changes(&self, before: &Step, process: &Process, changes: &mut Vec<String>) {
        let name = &process.name;
        let old = before.process(name);
        if process.ended && !old.is_some_and(|old| old.ended) {
            changes.push(format!("{name} has ended."));
        }
        if self.is_elsewhere(process) {
            changes.push(format!(
                "The picture is of other pages of {name} than before."
            ));
            return;
        }
        let known = |areas: &[Area], area: &Area| areas.contains(area);
        let old_areas = old.map_or(&[][..], |old| &old.vmas);
        for area in process.vmas.iter().filter(|area| !known(old_areas, area)) {
            changes.push(format!("{name} has a VMA {}.", in_words(area)));
        }
        let gone = old_areas.iter().filter(|area| !known(&process.vmas, area));
        if !process.ended {
            changes.extend(gone.map(|area| {
                let range = format!("{:x}-{:x}", area.start, area.end);
                format!("{name}'s VMA {range} is not there any more, or not as it was.")
            }));
        }
        if process.pages.len() > FEW_PAGES {
            let nr = |pages: &[Page]| pages.iter().filter(|page| page.pfn().is_some()).count();
            let (was, is) = (old.map_or(0, |old| nr(&old.pages)), nr(&process.pages));
            if was != is {
                changes.push(format!("{name} has {is} pages in its table, {was} before."));
            }
            return;
        }
        for page in &process.pages {
            if self.is_changed(process, page) {
                let was = self.page_before(process, page);
                let was = was.map_or_else(String::new, |was| format!("; before: {}", entry(was)));
                let which = of_page(page);
                changes.push(format!("{name}'s entry{which}: {}{was}.", entry(page)));
            }
        }
    }
}

fn is_elsewhere(before: &Process, now: &Process) -> bool {
    let known = |page: &Page| before.pages.iter().any(|old| old.addr == page.addr);
    !before.pages.is_empty() && !now.pages.is_empty() && !now.pages.iter().any(known)
}

fn frame_changes(old: &Frame, new: &Frame) -> Vec<String> {
    let mut changes = Vec::new();
    let pfn = new.pfn;
    if old.bytes != new.bytes {
        let (old, new) = (bytes(&old.bytes), bytes(&new.bytes));
        let first = |bytes: &[u8]| pairs(bytes.get(..4).unwrap_or(bytes));
        let differ = old.iter().zip(&new).position(|(old, new)| old != new);
        changes.push(match differ.filter(|at| *at >= 4) {
            Some(at) => format!("Frame {pfn:#x} has other bytes, from {at} on."),
            None => format!(
                "Frame {pfn:#x} begins with {}, not {}.",
                first(&new),
                first(&old)
            ),
        });
    }
    for (what, old, new) in [
        ("refcount", old.refcount, new.refcount),
        ("mapcount", old.mapcount, new.mapcount),
    ] {
        if let (Some(old), Some(new)) = (old, new) {
            if old != new {
                changes.push(format!("Frame {pfn:#x} has {what} {new}, {old} before."));
            }
        }
    }
    changes
}

/// What of a page is drawn.
fn shown(page: &Page) -> (Option<u64>, Vec<&'static str>) {
    (page.pfn(), bits(page))
}

/// The bits of an entry that matter here, in words.
#[must_use]
pub fn bits(page: &Page) -> Vec<&'static str> {
    let Some(pte) = &page.pte else {
        return match page.pagemap {
            _ if page.pagemap.swapped => vec!["in swap"],
            _ if page.pagemap.pfn.is_some() => vec!["present"],
            _ => vec!["not present"],
        };
    };
    if !pte.present {
        return match page.pagemap {
            _ if page.pagemap.swapped => vec!["not present", "in swap"],
            _ if page.pagemap.pfn.is_some() => vec!["not present", "kept"],
            _ => vec!["not present"],
        };
    }
    let mut bits = vec!["present"];
    bits.push(if pte.writable {
        "writable"
    } else {
        "read-only"
    });
    for (is, word) in [
        (pte.dirty, "dirty"),
        (pte.executable, "executable"),
        (pte.special, "special"),
        (pte.huge, "huge"),
    ] {
        if is {
            bits.push(word);
        }
    }
    bits
}

/// An entry in words.
#[must_use]
pub fn entry(page: &Page) -> String {
    let bits = bits(page).join(", ");
    match page.pfn() {
        Some(pfn) => format!("{bits}, frame {pfn:#x}"),
        None => bits,
    }
}

/// ` for NAME`, if the page has one.
#[must_use]
pub fn of_page(page: &Page) -> String {
    if page.label.is_empty() {
        String::new()
    } else {
        format!(" for {}", page.label)
    }
}

/// A VMA in words.
#[must_use]
pub fn in_words(area: &Area) -> String {
    let Area {
        start, end, mode, ..
    } = area;
    format!("{start:x}-{end:x} {mode} {}", object(area))
}

/// What a VMA shows.
#[must_use]
pub fn object(area: &Area) -> &str {
    if area.name.is_empty() {
        "anonymous memory"
    } else {
        &area.name
    }
}

/// Whose a frame is, in words.
#[must_use]
pub fn owner(frame: &Frame) -> &str {
    match frame.owner.as_str() {
        "driver" => "the driver's page",
        "anonymous" => "anonymous memory",
        "file" => "a file's page",
        "zero" => "the page of zeros",
        "kernel" => "the kernel's",
        other => other,
    }
}

/// Refcount and mapcount in words.
#[must_use]
pub fn counts(frame: &Frame) -> String {
    let count = |count: Option<i64>| count.map_or_else(|| "?".to_owned(), |it| it.to_string());
    let (references, maps) = (count(frame.refcount), count(frame.mapcount));
    format!("refcount {references}, mapcount {maps}")
}

/// Who leads to a frame: names of processes, with those of pages where they have some.
#[must_use]
pub fn users(step: &Step, pfn: u64) -> Vec<String> {
    let mut users = Vec::new();
    for process in &step.processes {
        for page in process.pages.iter().filter(|page| page.pfn() == Some(pfn)) {
            users.push(if page.label.is_empty() {
                process.name.clone()
            } else {
                format!("{} ({})", process.name, page.label)
            });
        }
    }
    users
}
