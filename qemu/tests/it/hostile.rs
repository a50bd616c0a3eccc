//! Input that nobody meant: what any guest, host or hand may give to each parser.
//!
//! Another input each time; more of it: `PROPTEST_CASES=100000 cargo test --package lab hostile`.

use lab::console::{self, Console};
use lab::job::{Event, Order};
use lab::ktap::{self, Verdict};
use lab::libtest::Tally;
use lab::mark::{self, Piece, Splitter};
use lab::outcome::{End, Outcome};
use lab::package::Package;
use lab::patch::Patch;
use lab::qmp::Monitor;
use lab::requirements::Requirements;
use lab::{accel, allowed, config, programs, vmlinux};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::run::Run;
use crate::saved::saved;

/// A line that is nearly one of a format, or one.
fn line() -> impl Strategy<Value = String> {
    let known = select(
        &[
            "KTAP version 1",
            "TAP version 13",
            "1..3",
            "1..18446744073709551615",
            "1..99999999999999999999",
            "1..-1",
            "ok 1 a",
            "ok 2 b # SKIP why",
            "ok 3 c # skip",
            "not ok 3 c # verdict",
            "ok 18446744073709551615 d",
            "    ok 1 sub",
            "Bail out!",
            "[    1.0] Kernel panic - not syncing: x",
            "[    1.0] BUG: KASAN: use-after-free in f",
            "[    1.0][ T12] Oops: 0000",
            "[[[[",
            "] ] ]",
            "reboot: Power down",
            "test a ... ok",
            "test a - should panic ... FAILED",
            "boot power-cut",
            "CONFIG_RUST=y",
            "# CONFIG_RUST is not set",
            "--- a/driver/raw.rs",
            "+++ b/driver/raw.rs",
            "@@ -1 +1 @@",
            "[[allowed]]",
            "text = 'WARNING: kernel/foo.c:1'",
            "{\"event\":\"down\",\"taint\":12288}",
            "{\"event\":\"SHUTDOWN\",\"data\":{\"reason\":\"guest-reset\"}}",
            "{\"QMP\":{}}",
        ][..],
    )
    .prop_map(str::to_owned);
    prop_oneof![3 => known, 1 => any::<String>(), 1 => "[ -~]{0,40}"]
}

/// Lines with any ends, the last one perhaps cut off.
fn text() -> impl Strategy<Value = String> {
    let end = select(&["\n", "\r\n", "\n\n", "", "\0\n"][..]);
    vec((line(), end), 0..20).prop_map(|lines| {
        let lines = lines.into_iter().map(|(line, end)| line + end);
        lines.collect()
    })
}

/// What arrives on a channel: such text, or anything.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        text().prop_map(String::into_bytes),
        vec(any::<u8>(), 0..300)
    ]
}

/// `bytes` in pieces, as they may arrive.
fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Ok),
        Just(Verdict::NotOk),
        Just(Verdict::Skipped("why".into())),
    ]
}

/// Results as a program writes them.
fn written(verdicts: &[Verdict]) -> String {
    let head = format!("KTAP version 1\n1..{}\n", verdicts.len());
    let lines = verdicts.iter().enumerate().map(|(index, verdict)| {
        let number = index + 1;
        match verdict {
            Verdict::Ok => format!("ok {number} name-{number} # note\n"),
            Verdict::NotOk => format!("not ok {number} name-{number}\n"),
            Verdict::Skipped(why) => format!("ok {number} name-{number} # SKIP {why}\n"),
        }
    });
    head + &lines.collect::<String>()
}

fn passes(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Passed { .. } | Outcome::Completed | Outcome::Skipped { .. }
    )
}

/// Nothing is written to the source tree: the input that failed is in the message.
fn settings() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn results_are_read_as_they_were_written(verdicts in vec(verdict(), 0..30)) {
        let ktap = ktap::parse(&written(&verdicts));
        let read: Vec<_> = ktap.results.into_iter().map(|result| result.verdict).collect();
        prop_assert_eq!((read, ktap.planned, ktap.problem), (verdicts.clone(), verdicts.len(), None));
    }

    #[test]
    fn any_text_is_results_or_has_a_problem_with_a_line(text in text()) {
        let ktap = ktap::parse(&text);
        let nr_lines = text.split_inclusive('\n').count();
        prop_assert!(ktap.results.len() <= nr_lines);
        if let Some(problem) = ktap.problem {
            prop_assert!(problem.line_number <= nr_lines.max(1));
        }
    }

    #[test]
    fn no_results_with_a_piece_missing_pass(
        verdicts in vec(verdict(), 1..20), from in any::<Index>(), len in any::<Index>(),
    ) {
        let whole = written(&verdicts);
        let from = from.index(whole.len());
        let until = from + 1 + len.index(whole.len() - from);
        let missing = &whole[from..until];
        // A name, a note and a reason may be any text: with a piece of these missing they are others.
        prop_assume!(missing.contains('\n') || until == whole.len() || from < "KTAP version 1\n1".len());
        let ktap = format!("{}{}", &whole[..from], &whole[until..]);
        let run = Run { ktap: ktap.clone(), ..Run::good() };
        prop_assert!(!passes(&run.outcome()), "{:?}: {}", ktap, run.outcome());
    }

    #[test]
    fn noise_among_results_never_adds_a_pass(text in text(), at in any::<Index>()) {
        let whole = written(&[Verdict::NotOk, Verdict::Ok]);
        let at = at.index(whole.len() + 1);
        let run = Run { ktap: format!("{}{text}{}", &whole[..at], &whole[at..]), ..Run::good() };
        // Unless it is the very line that says `not ok` which the noise belongs to.
        let hidden = (at > 20 && at < 28) || text.is_empty();
        prop_assert!(hidden || !passes(&run.outcome()), "{:?}: {}", run.ktap, run.outcome());
    }

    #[test]
    fn a_run_that_is_cut_off_anywhere_never_passes(
        events in any::<Index>(), console in any::<Index>(), ktap in any::<Index>(), dies in any::<bool>(),
    ) {
        let mut run = Run::good();
        let whole = (run.events.len(), run.console.len(), run.ktap.len());
        let kept = (
            events.index(whole.0 + 1),
            console.index(whole.1 + 1),
            ktap.index(whole.2 + 1),
        );
        prop_assume!(kept != whole);
        run.events.truncate(kept.0);
        run.console.truncate(kept.1);
        run.ktap.truncate(kept.2);
        if dies {
            run.end = End::QemuExited { failure: Some("was killed by signal 9".into()), reason: None };
        }
        prop_assert!(!passes(&run.outcome()), "{:?}: {}", kept, run.outcome());
    }

    #[test]
    fn a_console_says_the_same_in_any_pieces(bytes in bytes(), cuts in vec(any::<Index>(), 0..8)) {
        let (mut whole, mut cut) = (Console::default(), Console::default());
        whole.push(&bytes);
        for piece in pieces(&bytes, &cuts) {
            cut.push(piece);
        }
        prop_assert_eq!(cut.text(), whole.text());
        prop_assert_eq!(cut.death(), whole.death());
    }

    #[test]
    fn a_complaint_is_found_among_any_lines(before in text(), after in text()) {
        let console = format!("{before}\n[    1.5] BUG: KASAN: x\n{after}");
        prop_assert!(console::splats(&console, &[]).contains(&"BUG: KASAN: x"));
        let console = format!("{before}\n[    1.5] Oops: x\n{after}");
        prop_assert!(console::death(&console).is_some());
        let _ = (console::tail(&console, 3), console::init_failure(&console), console::is_whole(&console));
    }

    #[test]
    fn marks_are_found_in_any_pieces(
        parts in vec(bytes(), 0..5), cuts in vec(any::<Index>(), 0..8), noise in any::<bool>(),
    ) {
        let name = "0123456789abcdef0123456789abcdef";
        let mut parts = parts;
        if noise {
            // What begins as a mark does.
            parts.push(mark::bytes(&name[..7]));
        }
        let stream = parts.join(&mark::bytes(name)[..]);
        let mut splitter = Splitter::new(name);
        let mut found: Vec<Piece> = Vec::new();
        for piece in pieces(&stream, &cuts) {
            found.extend(splitter.push(piece));
        }
        found.extend(splitter.finish());
        let nr_marks = found.iter().filter(|piece| **piece == Piece::Mark).count();
        let rest: Vec<u8> = found.into_iter().flat_map(|piece| match piece {
            Piece::Bytes(bytes) => bytes,
            Piece::Mark => Vec::new(),
        }).collect();
        prop_assert_eq!(nr_marks, parts.len().saturating_sub(1));
        prop_assert_eq!(rest, parts.concat());
    }

    #[test]
    fn a_monitor_says_the_same_in_any_pieces(bytes in bytes(), cuts in vec(any::<Index>(), 0..8)) {
        let (mut whole, mut cut) = (Monitor::default(), Monitor::default());
        whole.push(&bytes);
        for piece in pieces(&bytes, &cuts) {
            cut.push(piece);
        }
        prop_assert_eq!((cut.started(), cut.shutdown()), (whole.started(), whole.shutdown()));
    }

    #[test]
    fn a_test_is_good_only_if_its_line_is_there(text in text()) {
        let planned = ["a".to_owned(), "b".to_owned()];
        let tally = Tally::of(&planned, &text);
        prop_assert_eq!(tally.passed.len() + tally.failed.len() + tally.missing.len(), planned.len());
        prop_assert!(!tally.is_good(), "nobody has said anything of b");
    }

    #[test]
    fn no_input_makes_a_reader_panic(bytes in bytes(), text in text()) {
        let _ = (serde_json::from_slice::<Event>(&bytes), serde_json::from_slice::<Order>(&bytes));
        let _ = (serde_json::from_slice::<Package>(&bytes), programs::has_interpreter(&bytes));
        let _ = (vmlinux::decompress(&bytes), allowed::parse(&text), Patch::parse("it", &text));
        let _ = (Requirements::parse(&text), accel::can_virtualise(&text));
        let read = config::Config::parse(&text);
        prop_assert!(read.differences(&read).is_empty());
    }

    #[test]
    fn a_program_that_is_damaged_is_read_without_panic(at in any::<Index>(), byte in any::<u8>(), len in any::<Index>()) {
        // The header and the table behind it are what is read.
        let mut elf = std::fs::read("/bin/sh").unwrap();
        elf.truncate(2048);
        let at = at.index(elf.len());
        elf[at] = byte;
        elf.truncate(len.index(elf.len() + 1));
        let _ = programs::has_interpreter(&elf);
    }
}

#[test]
fn the_saved_results_are_among_what_is_tried() {
    // Were they none that pass, `no results with a piece missing` would say nothing.
    assert!(passes(&Run::good().outcome()));
    let ktap = saved("all-ok.ktap");
    assert!(ktap::parse(&ktap).problem.is_none());
}
