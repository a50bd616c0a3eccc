//! `lab show` and `lab report` on what guests recorded, without a guest.
//!
//! `tests/data/scenarios.json` is what `lab show --json` wrote on Debian's 7.3.4, all scenarios of it; `costs.json` what
//! `lab run --json` wrote there of the claims whose experiments count what costs.
//! `UPDATE_GOLDEN=1 cargo test` writes what the text says now into `tests/data/scenarios.txt`; the change then shows in
//! a diff.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use lab::evidence::grouped;
use lab::show::recording::{Recording, Story};
use lab::show::text::Style;
use lab::show::{page, pager, scene};
use lab::verdicts::results::Results;
use predicates::str::contains;
use scraper::{Html, Selector};

use crate::saved::saved;

const RECORDING: &str = "scenarios.json";
const RESULTS: &str = "../../../userspace/tests/data/report.json";
const COSTS: &str = "costs.json";

/// What no document may have, in an attribute of this name.
const LOADING: [&str; 7] = [
    "src",
    "href",
    "data",
    "poster",
    "srcset",
    "action",
    "xlink:href",
];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn recording() -> Recording {
    Recording::parse(&saved(RECORDING)).unwrap()
}

fn select<'a>(html: &'a Html, selector: &str) -> Vec<scraper::ElementRef<'a>> {
    let selector = Selector::parse(selector).unwrap();
    html.select(&selector).collect()
}

/// Asserts what is true of every document of the lab: it is well-formed, asks nobody, and its ids are unique.
fn assert_offline(text: &str) -> Html {
    let html = Html::parse_document(text);
    let mut ids = HashSet::new();
    for element in select(&html, "*") {
        if let Some(id) = element.value().attr("id") {
            assert!(ids.insert(id.to_owned()), "two elements are #{id}");
        }
        for (name, value) in element.value().attrs() {
            assert!(!name.starts_with("on"), "{name} runs a script");
            if LOADING.contains(&name) {
                assert!(value.starts_with('#'), "{name}=\"{value}\" asks somebody");
            }
            assert!(!value.contains("url("), "{name}=\"{value}\" asks somebody");
        }
    }
    for link in select(&html, "a[href]") {
        let target = link.value().attr("href").unwrap().trim_start_matches('#');
        assert!(
            ids.contains(target),
            "a link to #{target}, which is not there"
        );
    }
    for style in select(&html, "style") {
        let style: String = style.text().collect();
        assert!(!style.contains("url(") && !style.contains("@import"));
    }
    for selector in [
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "script[src]",
        "base",
    ] {
        assert!(select(&html, selector).is_empty(), "<{selector}>");
    }
    let policy = select(&html, "meta[http-equiv='Content-Security-Policy']");
    assert!(
        policy[0]
            .value()
            .attr("content")
            .unwrap()
            .starts_with("default-src 'none'")
    );
    assert!(!text.contains("http://") && !text.contains("https://"));
    html
}

#[test]
fn the_recorded_scenarios_are_told_as_text() {
    let text = pager::plain(&recording(), Style::plain());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(data("scenarios.txt"), &text).unwrap();
    }
    assert!(
        text == saved("scenarios.txt"),
        "it is not as in tests/data/scenarios.txt"
    );
    assert!(text.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn what_is_drawn_is_what_was_recorded() {
    let mut recording = recording();
    let before = pager::plain(&recording, Style::plain());
    let frame = &mut recording.scenarios[0].steps[0].frames[0];
    let shown = format!("frame {:#x}", frame.pfn);
    assert!(before.contains(&shown));
    frame.pfn += 1;
    frame.refcount = Some(4711);
    for finding in recording
        .scenarios
        .iter_mut()
        .flat_map(|it| &mut it.steps)
        .flat_map(|it| &mut it.findings)
    {
        finding.seen = false;
    }
    let after = pager::plain(&recording, Style::plain());
    assert!(after.contains("refcount 4711") && after.contains("NOT SEEN IN THIS RUN"));
    assert!(recording.nr_unseen() > 20);
    let page = page::render(&recording);
    assert!(page.contains("Not seen in this run") && page.contains("refcount 4711"));
}

#[test]
fn narrow_and_wide_terminals_get_lines_that_fit() {
    for width in [40, 60, 100, 250] {
        let style = Style {
            width,
            color: false,
        };
        for line in pager::plain(&recording(), style).lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
}

#[test]
fn every_scenario_was_recorded_and_all_that_is_to_be_seen_was_seen() {
    let recording = recording();
    assert_eq!(recording.scenarios.len(), 15);
    for Story {
        name,
        skipped,
        steps,
        ..
    } in &recording.scenarios
    {
        assert!(skipped.is_none() && steps.len() >= 2, "{name}");
        assert!(steps.iter().any(|step| !step.findings.is_empty()), "{name}");
    }
    assert_eq!(recording.nr_unseen(), 0);
}

#[test]
fn the_page_has_every_step_and_asks_nobody() {
    let recording = recording();
    let html = assert_offline(&page::render(&recording));
    for story in &recording.scenarios {
        let steps = select(&html, &format!("section#{} .step", story.name));
        assert_eq!(steps.len(), story.steps.len(), "{}", story.name);
        for (step, element) in story.steps.iter().zip(steps) {
            let says = element.value().attr("data-says").unwrap();
            assert!(says.contains(&step.did), "{says}");
            let pictures = element
                .select(&Selector::parse("svg[role=img][aria-label]").unwrap())
                .count();
            let drawn = !(step.processes.is_empty() && step.frames.is_empty());
            assert_eq!(pictures, if drawn { 2 } else { 0 }, "{says}");
        }
    }
    assert_eq!(select(&html, "[aria-live=polite]").len(), 1);
}

#[test]
fn an_arrow_leads_from_every_entry_to_its_frame() {
    let recording = recording();
    let html = Html::parse_document(&page::render(&recording));
    for story in &recording.scenarios {
        let elements = select(&html, &format!("section#{} .step", story.name));
        for (step, element) in story.steps.iter().zip(elements) {
            let few = step
                .processes
                .iter()
                .filter(|it| it.pages.len() <= scene::FEW_PAGES);
            let pages = few.flat_map(|process| &process.pages);
            let led = pages.filter(|page| page.pfn().is_some()).count();
            let selector = Selector::parse("svg.wide path.arrow:not(.old)").unwrap();
            assert_eq!(
                element.select(&selector).count(),
                led,
                "{}: {}",
                story.name,
                step.did
            );
        }
    }
}

#[test]
fn nothing_is_compared_with_a_picture_of_another_boot() {
    let recording = recording();
    let mut stories = recording.scenarios.iter();
    let mut story = stories.find(|it| it.name == "power-cut").unwrap().clone();
    let changes_at_the_end = |story: &Story| {
        scene::scenes(story)
            .pop()
            .map(|scene| scene.changes())
            .unwrap()
    };
    assert_eq!(changes_at_the_end(&story), [""; 0]);
    for step in &mut story.steps {
        step.boot = None;
    }
    assert!(!changes_at_the_end(&story).is_empty());
}

#[test]
fn hostile_text_stays_text() {
    const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\"'&\u{1b}[2J";
    let mut recording = recording();
    let story = &mut recording.scenarios[0];
    story.title = HOSTILE.to_owned();
    story.question = HOSTILE.to_owned();
    for step in &mut story.steps {
        step.did = HOSTILE.to_owned();
        step.call = Some(HOSTILE.to_owned());
        for area in step.processes.iter_mut().flat_map(|it| &mut it.vmas) {
            area.name = HOSTILE.to_owned();
        }
        for page in step.processes.iter_mut().flat_map(|it| &mut it.pages) {
            page.label = HOSTILE.to_owned();
        }
        for frame in &mut step.frames {
            frame.owner = HOSTILE.to_owned();
            frame.bytes = HOSTILE.to_owned();
        }
    }
    let html = assert_offline(&page::render(&recording));
    let title: String = select(&html, "h2")[0].text().collect();
    assert_eq!(title, HOSTILE);
    let text = pager::plain(&recording, Style::plain());
    assert!(!text.contains('\u{1b}') && text.contains("<img"));
}

#[test]
fn the_report_has_every_claim_and_asks_nobody() {
    let text = fs::read_to_string(data(RESULTS)).unwrap();
    let results = Results::parse(&text).unwrap();
    let html = assert_offline(&lab::verdicts::page::render(&results));
    for claim in &results.claims {
        let found = select(&html, &format!("details.claim#{}", claim.id));
        let text: String = found[0].text().collect();
        assert!(text.contains(&claim.statement), "{}", claim.id);
        for fact in claim.trials.iter().flat_map(|trial| &trial.evidence) {
            assert!(text.contains(&fact.label), "{}: {}", claim.id, fact.label);
        }
    }
    assert_eq!(select(&html, "details.claim").len(), results.claims.len());
}

#[test]
fn costs_are_plotted_and_told_in_tables() {
    let results = Results::parse(&saved(COSTS)).unwrap();
    let html = assert_offline(&lab::verdicts::page::render(&results));
    assert_eq!(select(&html, "svg.plot[role=img][aria-label]").len(), 2);
    assert_eq!(select(&html, "svg.plot polyline").len(), 4);
    let tables = select(&html, "table.numbers");
    let [steps, messages] = &tables[..] else {
        panic!("{} tables", tables.len());
    };
    // A row for each step, with a cell for each node; a row for each length, with a cell for each way to send it.
    let of_nodes = counted(&results, "step.");
    let each_step = (0..of_nodes[0].len()).map(|step| of_nodes.iter().map(|it| it[step]).collect());
    assert_eq!(rows(*steps), grouped_rows(each_step));
    assert_eq!((of_nodes.len(), rows(*steps).len()), (3, 12));
    let of_messages = counted(&results, "message-").concat();
    let each_length = of_messages.chunks(4).map(<[u64]>::to_vec);
    assert_eq!(rows(*messages), grouped_rows(each_length));
    assert_eq!(rows(*messages).len(), 6);
    let heads = |table, scope| {
        let heads = cells(table, &format!("th[scope={scope}]"));
        heads.join(", ")
    };
    assert_eq!(heads(*steps, "col"), "step, insert, pfn, fault");
    let ways = "bytes, mapping, pwrite, pread, pipe, socketpair";
    assert_eq!(heads(*messages, "col"), ways);
    let lengths = "8, 64, 512, 4096, 16\u{a0}384, 65\u{a0}536";
    assert_eq!(heads(*messages, "row"), lengths);
    let life = "nothing, but for the clock, open, mmap, shared, first load, first store, next store, munmap, \
        mmap, private, first load, private, first store, private: copies, next store, private, munmap, private";
    assert_eq!(heads(*steps, "row"), life);
}

/// The texts of those in `part` that match.
fn cells(part: scraper::ElementRef<'_>, selector: &str) -> Vec<String> {
    let selector = Selector::parse(selector).unwrap();
    let cells = part.select(&selector);
    cells.map(|cell| cell.text().collect()).collect()
}

/// The cells of a table, but for its heads.
fn rows(table: scraper::ElementRef<'_>) -> Vec<Vec<String>> {
    let row = Selector::parse("tr").unwrap();
    let rows = table.select(&row).map(|row| cells(row, "td"));
    rows.filter(|row| !row.is_empty()).collect()
}

fn grouped_rows(rows: impl Iterator<Item = Vec<u64>>) -> Vec<Vec<String>> {
    let grouped = |row: Vec<u64>| row.into_iter().map(grouped).collect();
    rows.map(grouped).collect()
}

/// What each trial has counted that is labelled so, in its order.
fn counted(results: &Results, beginning: &str) -> Vec<Vec<u64>> {
    let trials = results.claims.iter().flat_map(|claim| &claim.trials);
    let counts = trials.map(|trial| {
        let labels = trial.evidence.iter().map(|fact| fact.label.as_str());
        let labels = labels.filter(|label| label.starts_with(beginning));
        labels.map(|label| trial.count(label).unwrap()).collect()
    });
    counts
        .filter(|of_trial: &Vec<u64>| !of_trial.is_empty())
        .collect()
}

#[test]
fn what_was_not_counted_is_said_with_the_next_step() {
    let mut results = Results::parse(&saved(COSTS)).unwrap();
    let trials = results.claims.iter_mut().flat_map(|it| &mut it.trials);
    for trial in trials {
        trial
            .evidence
            .retain(|fact| !fact.label.starts_with("message-"));
    }
    let text = lab::verdicts::page::render(&results);
    let html = assert_offline(&text);
    assert_eq!(select(&html, "svg.plot").len(), 1);
    assert!(text.contains("Nothing was recorded of messages"));
    // What it advises has to be what the saved results were made by.
    let advised = select(&html, "#costs code")[0].text().collect::<String>();
    let claims = results.claims.iter().map(|claim| claim.id.as_str());
    let claims: Vec<_> = claims.collect();
    assert_eq!(advised, format!("cargo lab report {}", claims.join(" ")));
}

fn lab(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command
        .env("MMAPDEMO_CACHE", "/proc/no-such-cache")
        .args(args);
    command
}

#[test]
fn a_saved_recording_is_drawn_without_a_guest() {
    let from = data(RECORDING);
    let from = from.to_str().unwrap();
    let shown = lab(&["show", "--from", from, "many-frames"])
        .assert()
        .success();
    let text = String::from_utf8_lossy(&shown.get_output().stdout).into_owned();
    assert!(text.starts_with("One page, many frames\n") && !text.contains('\u{1b}'));
    lab(&["show", "--from", from, "no-such"])
        .assert()
        .code(2)
        .stderr(contains("nothing was recorded of no-such"));
    lab(&["show", "--from", "/nonexistent"])
        .assert()
        .code(2)
        .stderr(contains("/nonexistent"));
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    lab(&["show", "--from", from, "--html", page.to_str().unwrap()])
        .assert()
        .success();
    assert_offline(&fs::read_to_string(page).unwrap());

    let unseen = dir.path().join("unseen.json");
    fs::write(
        &unseen,
        saved(RECORDING).replacen("\"seen\":true", "\"seen\":false", 1),
    )
    .unwrap();
    lab(&["show", "--from", unseen.to_str().unwrap()])
        .assert()
        .code(1)
        .stdout(contains("NOT SEEN IN THIS RUN"))
        .stderr(contains("1 thing"));
}

#[test]
fn a_page_is_made_of_saved_results() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("report.html");
    let from = data(RESULTS);
    let args = [
        "report",
        "--from",
        from.to_str().unwrap(),
        "--html",
        page.to_str().unwrap(),
    ];
    lab(&args).assert().success();
    assert_offline(&fs::read_to_string(&page).unwrap());
    lab(&[
        "report",
        "--from",
        data(RECORDING).to_str().unwrap(),
        "--html",
        page.to_str().unwrap(),
    ])
    .assert()
    .code(2)
    .stderr(contains("results of version 1"));
}

#[test]
fn what_is_no_recording_is_refused_with_the_next_step() {
    let other = saved(RECORDING).replacen("\"schema\":1", "\"schema\":9", 1);
    let error = format!("{:#}", Recording::parse(&other).unwrap_err());
    assert!(
        error.contains("version 9") && error.contains("next step"),
        "{error}"
    );
    for wrong in ["", "{}", "[]", &saved(RECORDING)[..500]] {
        assert!(Recording::parse(wrong).is_err());
    }
}
