//! Plot: numbers that were counted, as SVG, each with a table that says the same.

use maud::{Markup, html};

use super::results::{Results, Trial};
use crate::evidence::grouped;

/// The ways in which the driver's nodes map a page.
const NODES: [&str; 3] = ["insert", "pfn", "fault"];

/// The steps of a mapping's life, as the evidence and as people call them.
const STEPS: [(&str, &str); 12] = [
    ("nothing", "nothing, but for the clock"),
    ("open", "open"),
    ("shared-map", "mmap, shared"),
    ("shared-first-load", "first load"),
    ("shared-first-store", "first store"),
    ("shared-next-store", "next store"),
    ("shared-unmap", "munmap"),
    ("private-map", "mmap, private"),
    ("private-first-load", "first load, private"),
    ("private-first-store", "first store, private: copies"),
    ("private-next-store", "next store, private"),
    ("private-unmap", "munmap, private"),
];

/// The ways of a message, as the evidence and as people call them.
const WAYS: [(&str, &str); 4] = [
    ("mapping", "mapping"),
    ("read-write", "pwrite, pread"),
    ("pipe", "pipe"),
    ("socketpair", "socketpair"),
];

/// Lengths of messages in bytes.
const LENGTHS: [u64; 6] = [8, 64, 512, 4096, 16_384, 65_536];

/// The claims whose experiments count all that is drawn here.
const COUNTED_FOR: &str = "perf-mmap-is-faster perf-small-data-prefers-pipe";

/// Both plots, or why there is none.
#[must_use]
pub fn all(results: &Results) -> Markup {
    html! {
        section id="costs" aria-labelledby="costs-title" {
            h2 id="costs-title" { "What it costs" }
            p {
                "Instructions, the kernel's included, counted in a boot in which QEMU executes one a nanosecond. Each "
                "number is the median of five counts, after two times that bring code and caches of the kernel. In each "
                "are two looks at the clock. Caches, TLBs and other CPUs do not show."
            }
            (steps(results))
            (messages(results))
        }
    }
}

fn missing(what: &str) -> Markup {
    html! {
        p class="quiet" {
            "Nothing was recorded of " (what) ": these results are of a part of the claims, or older than this lab. To "
            "count it: " code { "cargo lab report " (COUNTED_FOR) } "."
        }
    }
}

/// Trials with some evidence of which the label begins with this.
fn trials<'a>(results: &'a Results, prefix: &str) -> Vec<&'a Trial> {
    let all = results.claims.iter().flat_map(|claim| &claim.trials);
    let has = |trial: &&Trial| {
        trial
            .evidence
            .iter()
            .any(|fact| fact.label.starts_with(prefix))
    };
    all.filter(has).collect()
}

fn steps(results: &Results) -> Markup {
    let trials = trials(results, "step.");
    let of = |node: &str, step: &str| {
        let mut here = trials
            .iter()
            .filter(|trial| trial.node.as_deref() == Some(node));
        here.find_map(|trial| trial.count(&format!("step.{step}-instructions")))
    };
    let rows: Vec<_> = STEPS
        .iter()
        .map(|(step, name)| (*name, NODES.map(|node| of(node, step))))
        .filter(|(_, counts)| counts.iter().any(Option::is_some))
        .collect();
    if rows.is_empty() {
        return missing("the steps of a mapping's life");
    }
    let caption =
        "Instructions of each step of a mapping's life, by the way in which the node maps its page";
    html! {
        h3 { "Each step of a mapping, on each node" }
        figure { div class="scroll" tabindex="0" { (bars(&rows, caption)) } }
        (table(caption, "step", &NODES, rows.iter().map(|(name, counts)| ((*name).to_owned(), counts.to_vec()))))
    }
}

fn messages(results: &Results) -> Markup {
    let trials = trials(results, "message-");
    let of = |way: &str, len: u64| {
        let label = format!("message-{len}.{way}-instructions");
        trials.iter().find_map(|trial| trial.count(&label))
    };
    let lines: Vec<_> = WAYS
        .iter()
        .map(|(way, name)| (*name, LENGTHS.map(|len| of(way, len))))
        .collect();
    if lines
        .iter()
        .all(|(_, counts)| counts.iter().all(Option::is_none))
    {
        return missing("messages by their length");
    }
    let caption = "Instructions of handing over a message, by its length in bytes";
    let rows = LENGTHS.iter().enumerate().map(|(nr, len)| {
        let counts = lines
            .iter()
            .map(|(_, counts)| counts.get(nr).copied().flatten());
        (grouped(*len), counts.collect())
    });
    html! {
        h3 { "A message, by its length" }
        p {
            "From a buffer of the sender's to one of the receiver's, which are one process here, so that nobody waits; by a "
            "mapping of a file in memory, by pwrite and pread of one, and by write and read of a pipe or a pair of sockets. "
            "The mapping's program copies eight bytes at a time; the kernel by an instruction that counts once for each "
            "byte, so its copies look dearer than they are. Both axes are logarithmic."
        }
        figure { div class="scroll" tabindex="0" { (curves(&lines, caption)) } }
        (table(caption, "bytes", &WAYS.map(|(_, name)| name), rows))
    }
}

fn table(
    caption: &str,
    first: &str,
    heads: &[&str],
    rows: impl Iterator<Item = (String, Vec<Option<u64>>)>,
) -> Markup {
    html! {
        details {
            summary { "The numbers as a table" }
            div class="scroll" {
                table class="numbers" {
                    caption { (caption) }
                    thead { tr { th scope="col" { (first) } @for head in heads { th scope="col" { (head) } } } }
                    tbody {
                        @for (name, counts) in rows {
                            tr {
                                th scope="row" { (name) }
                                @for count in counts { td { @if let Some(count) = count { (grouped(count)) } @else { "-" } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

const WIDTH: u64 = 880;
const LEFT: u64 = 250;
/// Room for the number behind the longest bar.
const RIGHT: u64 = 130;

/// A bar for each number, in groups; each says its node and its number.
fn bars(rows: &[(&str, [Option<u64>; 3])], caption: &str) -> Markup {
    const BAR: u64 = 17;
    const GROUP: u64 = 3 * BAR + 14;
    let most = rows
        .iter()
        .flat_map(|(_, counts)| counts.iter().flatten())
        .max();
    let most = most.copied().unwrap_or(1).max(1);
    let height = rows.len() as u64 * GROUP;
    let mut drawn = Vec::new();
    for ((name, counts), row) in rows.iter().zip(0_u64..) {
        let top = row * GROUP;
        drawn.push(html! {
            text class="strong" x=(LEFT - 12) y=(top + GROUP / 2) text-anchor="end" { (name) }
        });
        for ((node, count), nr) in NODES.iter().zip(counts).zip(0_u64..) {
            let Some(count) = count else { continue };
            let (y, width) = (top + nr * BAR, count * (WIDTH - LEFT - RIGHT) / most + 1);
            drawn.push(html! {
                rect class=(format!("series-{nr}")) x=(LEFT) y=(y) width=(width) height=(BAR - 3) {}
                text class="small" x=(LEFT + width + 6) y=(y + BAR - 5) { (node) " " (grouped(*count)) }
            });
        }
    }
    html! {
        svg class="plot" viewBox=(format!("0 -4 {WIDTH} {}", height + 4)) width=(WIDTH) role="img" aria-label=(caption) {
            @for part in drawn { (part) }
        }
    }
}

/// A curve for each way; its name stands at its end, its points have a shape of their own.
fn curves(lines: &[(&str, [Option<u64>; 6])], caption: &str) -> Markup {
    const HEIGHT: f64 = 380.0;
    const BOTTOM: f64 = 36.0;
    const TOP: f64 = 26.0;
    const FROM: f64 = 90.0;
    const TO: f64 = 690.0;
    let counts = lines.iter().flat_map(|(_, counts)| counts.iter().flatten());
    let most = counts.clone().max().copied().unwrap_or(10);
    let least = counts.min().copied().unwrap_or(1);
    let (low, high) = (log(least).floor(), log(most).ceil());
    let y = |count: u64| {
        HEIGHT - BOTTOM - (log(count) - low) / (high - low).max(1.0) * (HEIGHT - BOTTOM - TOP)
    };
    let (short, long) = (log(LENGTHS[0]), log(LENGTHS[LENGTHS.len() - 1]));
    let x = |len: u64| FROM + (log(len) - short) / (long - short) * (TO - FROM);
    let decades = (0..20).map(|power| 10_u64.saturating_pow(power));
    let decades = decades.filter(|it| log(*it) >= low && log(*it) <= high);
    let mut drawn: Vec<Markup> = decades
        .map(|count| html! {
            line class="rule" x1=(px(FROM)) x2=(px(TO)) y1=(px(y(count))) y2=(px(y(count))) {}
            text class="small" x=(px(FROM - 8.0)) y=(px(y(count) + 4.0)) text-anchor="end" { (grouped(count)) }
        })
        .collect();
    for len in LENGTHS {
        drawn.push(html! {
            text class="small" x=(px(x(len))) y=(px(HEIGHT - 12.0)) text-anchor="middle" { (grouped(len)) }
        });
    }
    drawn.push(html! {
        text class="small" x=(px(FROM - 8.0)) y="10" text-anchor="end" { "instructions" }
        text class="small" x=(px(TO + 30.0)) y=(px(HEIGHT - 12.0)) { "bytes" }
    });
    let mut ends = Vec::new();
    for ((name, counts), nr) in lines.iter().zip(0..) {
        let points: Vec<_> = LENGTHS
            .iter()
            .zip(counts)
            .filter_map(|(len, count)| Some((x(*len), y((*count)?))))
            .collect();
        let path: Vec<_> = points
            .iter()
            .map(|(x, y)| format!("{},{}", px(*x), px(*y)))
            .collect();
        drawn.push(html! {
            polyline class=(format!("curve series-{nr}")) points=(path.join(" ")) {}
            @for (x, y) in &points { (shape(nr, *x, *y)) }
        });
        if let Some((_, y)) = points.last() {
            ends.push((*y, nr, *name));
        }
    }
    drawn.push(names(ends, TO + 24.0));
    html! {
        svg class="plot" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) width=(WIDTH) role="img" aria-label=(caption) {
            @for part in drawn { (part) }
        }
    }
}

/// The curves' names with their shapes, each as near to the end of its curve as the others let it.
fn names(mut ends: Vec<(f64, usize, &str)>, x: f64) -> Markup {
    const LINE: f64 = 19.0;
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut lowest = 0.0_f64;
    let mut drawn = Vec::new();
    for (y, nr, name) in ends {
        let at = y.max(lowest + LINE);
        lowest = at;
        drawn.push(html! {
            (shape(nr, x, at))
            text class="strong" x=(px(x + 12.0)) y=(px(at + 5.0)) { (name) }
        });
    }
    html! { @for part in drawn { (part) } }
}

/// A circle, a square, a triangle or a diamond.
fn shape(nr: usize, x: f64, y: f64) -> Markup {
    let class = format!("series-{nr}");
    let corners = |corners: &[(f64, f64)]| {
        let corners: Vec<_> = corners
            .iter()
            .map(|(dx, dy)| format!("{},{}", px(x + dx), px(y + dy)))
            .collect();
        corners.join(" ")
    };
    match nr {
        0 => html! { circle class=(class) cx=(px(x)) cy=(px(y)) r="5" {} },
        1 => html! { rect class=(class) x=(px(x - 4.5)) y=(px(y - 4.5)) width="9" height="9" {} },
        2 => {
            html! { polygon class=(class) points=(corners(&[(0.0, -6.0), (6.0, 5.0), (-6.0, 5.0)])) {} }
        }
        _ => {
            html! { polygon class=(class) points=(corners(&[(0.0, -6.5), (6.5, 0.0), (0.0, 6.5), (-6.5, 0.0)])) {} }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
fn log(number: u64) -> f64 {
    (number.max(1) as f64).log10()
}

/// A coordinate, to a tenth of a pixel.
fn px(number: f64) -> String {
    format!("{number:.1}")
}
