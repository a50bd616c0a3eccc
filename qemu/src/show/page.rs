//! Page: all scenarios of a recording as one HTML document, to be stepped through, read in a row, or printed.

use maud::{Markup, html};

use super::picture::{self, NARROW, WIDE};
use super::recording::{Process, Recording, Story};
use super::scene::{self, Scene, scenes};
use crate::evidence::{bytes, characters, pairs};
use crate::html::document;

/// The whole document.
#[must_use]
pub fn render(recording: &Recording) -> String {
    let title = "mmap, step by step";
    let body = html! {
        a class="skip" href="#stories" { "To the scenarios" }
        header {
            h1 { (title) }
            p {
                "Each picture shows what was there after a step: the processes with their VMAs and page table entries, "
                "and the frames of physical memory that these lead to. Nothing is drawn by heart: it was all recorded while "
                "the steps were made, on a real kernel, "
                span class="kernel" { "Linux " (recording.kernel) } "."
            }
            (legend())
        }
        nav aria-label="Scenarios" {
            ol class="contents" {
                @for story in &recording.scenarios {
                    li { a href=(format!("#{}", story.name)) { (story.title) } }
                }
            }
        }
        p id="live" class="hidden" aria-live="polite" {}
        main id="stories" {
            @for story in &recording.scenarios { (self::story(story)) }
        }
    };
    document(
        title,
        include_str!("page.css"),
        include_str!("page.js"),
        &body,
    )
}

fn legend() -> Markup {
    let entries = [
        (
            "VMA",
            "what the process asked for: a range of addresses, what may be done there, and what is behind it (/proc/PID/smaps)",
        ),
        (
            "PTE",
            "the page table's entry as the processor reads it, from the kernel's memory: present or not, writable or read-only, and the frame",
        ),
        (
            "Frame",
            "4096 bytes of physical memory: the first of them, and the kernel's counts of references and of entries that lead there",
        ),
        (
            "\u{25c6} and a thick border",
            "changed in this step; a dashed arrow is where an entry led before",
        ),
        (
            "Keys",
            "\u{2190} and \u{2192} step back and forward in the scenario that is on the screen",
        ),
    ];
    html! {
        section class="legend" aria-label="How to read the pictures" {
            dl {
                @for (term, meaning) in entries { dt { (term) } dd { (meaning) } }
            }
        }
    }
}

fn story(story: &Story) -> Markup {
    let heading = format!("{}-title", story.name);
    html! {
        section class="story" id=(story.name) aria-labelledby=(heading) {
            h2 id=(heading) { (story.title) }
            p class="question" { (story.question) }
            @if let Some(why) = &story.skipped {
                p { strong { "Not recorded: " } (why) "." }
            }
            @if !story.steps.is_empty() {
                div class="controls" role="group" aria-label=(format!("Steps of: {}", story.title)) {
                    button type="button" data-do="back" { "\u{2190} Back" }
                    span class="where" {}
                    button type="button" data-do="next" { "Next \u{2192}" }
                    button type="button" data-do="all" aria-pressed="false" { "All steps" }
                }
                ol class="steps" {
                    @for scene in scenes(story) { (step(&scene)) }
                }
            }
            p class="claims quiet" {
                "Claims about this: "
                @for (nr, claim) in story.claims.iter().enumerate() {
                    @if nr > 0 { ", " }
                    code { (claim) }
                }
            }
        }
    }
}

fn step(scene: &Scene<'_>) -> Markup {
    let step = scene.step;
    let number = scene.index + 1;
    let id = format!("{}-{number}", scene.story.name);
    let changes = scene.changes();
    let mut says = vec![format!("{}.", scene.headline())];
    says.extend(
        step.result
            .iter()
            .map(|result| format!("Result: {result}.")),
    );
    says.extend(changes.iter().cloned());
    let boot = step.boot.as_deref().filter(|boot| *boot != "main");
    html! {
        li class="step" id=(id) data-says=(says.join(" ")) {
            h3 {
                span class="number" { (number) "/" (scene.story.steps.len()) }
                (step.by) " " (step.did)
            }
            @if let Some(boot) = boot { p class="quiet" { "In the boot " (boot) "." } }
            @if step.call.is_some() || step.result.is_some() {
                p class="call" {
                    @if let Some(call) = &step.call { code { (call) } }
                    @if let Some(result) = &step.result {
                        @if step.call.is_some() { " \u{2192} " } @else { "\u{2192} " }
                        span class="result" { (result) }
                    }
                }
            }
            @if !step.facts.is_empty() {
                dl class="facts" {
                    @for fact in &step.facts { dt { (fact.words()) } dd { (fact.value) } }
                }
            }
            @if let (Some(wide), Some(narrow)) = (picture::draw(scene, WIDE), picture::draw(scene, NARROW)) {
                figure { (wide) (narrow) }
            }
            (notes(scene, &changes))
            (tables(scene))
        }
    }
}

fn notes(scene: &Scene<'_>, changes: &[String]) -> Markup {
    let findings = &scene.step.findings;
    html! {
        @if !(changes.is_empty() && findings.is_empty()) {
            div class="notes" {
                @if !findings.is_empty() {
                    div {
                        h4 { "To be seen here" }
                        ul class="seen" {
                            @for finding in findings {
                                @if finding.seen {
                                    li { strong { (finding.says) } (finding.why) }
                                } @else {
                                    li class="unseen" { strong { "Not seen in this run: " (finding.says) } }
                                }
                            }
                        }
                    }
                }
                @if !changes.is_empty() {
                    div {
                        h4 { "Changed" }
                        ul class="changes" { @for change in changes { li { (change) } } }
                    }
                }
            }
        }
    }
}

/// All that is drawn, and a little more, as tables.
fn tables(scene: &Scene<'_>) -> Markup {
    let step = scene.step;
    html! {
        @if !(step.processes.is_empty() && step.frames.is_empty()) {
            details {
                summary { "The same as tables" }
                div class="scroll" {
                    @for process in &step.processes { (process_tables(process)) }
                    @if !step.frames.is_empty() {
                        table {
                            caption { "Frames" }
                            thead { tr { th scope="col" { "frame" } th scope="col" { "whose" } th scope="col" { "references, entries" } th scope="col" { "first bytes" } } }
                            tbody {
                                @for frame in &step.frames {
                                    @let content = bytes(&frame.bytes);
                                    tr {
                                        td class="mono" { (format!("{:#x}", frame.pfn)) }
                                        td { (scene::owner(frame)) }
                                        td { (scene::counts(frame)) }
                                        td class="mono" { (pairs(&content)) " " (characters(&content)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn process_tables(process: &Process) -> Markup {
    let Process {
        name,
        pid,
        vmas,
        pages,
        ..
    } = process;
    html! {
        @if !vmas.is_empty() {
            table {
                caption { "VMAs of " (name) ", pid " (pid) }
                thead { tr { th scope="col" { "addresses" } th scope="col" { "mode" } th scope="col" { "object" } th scope="col" { "flags" } } }
                tbody {
                    @for area in vmas {
                        tr {
                            td class="mono" { (format!("{:x}-{:x}", area.start, area.end)) }
                            td class="mono" { (area.mode) }
                            td { (scene::object(area)) " at " (format!("{:#x}", area.offset)) }
                            td class="mono" { (area.flags.join(" ")) }
                        }
                    }
                }
            }
        }
        @if !pages.is_empty() {
            table {
                caption { "Page table entries of " (name) }
                thead { tr { th scope="col" { "address" } th scope="col" { "entry" } th scope="col" { "word" } th scope="col" { "in pagemap" } } }
                tbody {
                    @for page in pages {
                        tr {
                            td class="mono" { (format!("{:x}", page.addr)) @if !page.label.is_empty() { " " (page.label) } }
                            td { (scene::entry(page)) }
                            td class="mono" { @if let Some(pte) = &page.pte { (pte.raw) } @else { "not readable" } }
                            td class="mono" {
                                @match page.pagemap.pfn {
                                    Some(pfn) => (format!("{pfn:#x}")),
                                    None => "nothing",
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
