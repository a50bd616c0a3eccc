//! The reader of test results.

use lab::ktap::{Ktap, Verdict, parse};

use crate::saved::saved;

fn verdicts(ktap: &Ktap) -> Vec<&Verdict> {
    ktap.results.iter().map(|result| &result.verdict).collect()
}

#[test]
fn results_have_name_verdict_and_note() {
    let ktap = parse(&saved("all-ok.ktap"));
    assert_eq!((ktap.planned, &ktap.problem), (4, &None));
    let skipped = Verdict::Skipped("needs two processors".into());
    assert_eq!(
        verdicts(&ktap),
        [&Verdict::Ok, &Verdict::Ok, &skipped, &Verdict::Ok]
    );
    assert_eq!(ktap.results[1].name, "private-write-is-invisible");
    assert_eq!(ktap.results[1].note, "false, as expected");
}

#[test]
fn failure_is_read() {
    let ktap = parse(&saved("not-ok.ktap"));
    assert_eq!(
        verdicts(&ktap),
        [&Verdict::Ok, &Verdict::NotOk, &Verdict::Ok]
    );
}

#[test]
fn results_short_of_the_plan_are_no_mistake_of_format() {
    let ktap = parse(&saved("fewer-than-planned.ktap"));
    assert_eq!(
        (ktap.planned, ktap.results.len(), ktap.problem),
        (4, 2, None)
    );
}

#[test]
fn subtests_are_summed_up_by_the_outermost_level() {
    let ktap = parse(&saved("two-documents.ktap"));
    assert_eq!(
        (ktap.planned, ktap.results.len(), &ktap.problem),
        (3, 3, &None)
    );
    assert_eq!(ktap.results[2].verdict, Verdict::NotOk);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (text, line_number, why) in [
        (saved("cut-off.ktap"), 5, "cut off in the middle of a line"),
        (saved("no-plan.ktap"), 2, "no plan (1..N) in a document"),
        (
            saved("printk-noise.ktap"),
            4,
            "neither a plan, a result nor a diagnostic",
        ),
        (
            "ok 1 early\n".into(),
            1,
            "neither a version line that is known nor inside a document",
        ),
        (
            // A byte of the first line was lost.
            "TAP version 1\n1..1\nok 1 a\n".into(),
            1,
            "neither a version line that is known nor inside a document",
        ),
        (
            "KTAP version 1\n1..1\n1..1\nok 1 a\n".into(),
            3,
            "a second plan in one document",
        ),
        (
            "KTAP version 1\n1..2\nok 1 a\nok 3 b\n".into(),
            4,
            "results out of order",
        ),
        (
            "KTAP version 1\n1..1\nok 1 a\nok 2 b\n".into(),
            4,
            "more results than planned",
        ),
        (
            "KTAP version 1\n1..1\nok a\n".into(),
            3,
            "a result without a number",
        ),
        (
            "KTAP version 1\n1..many\n".into(),
            2,
            "a plan without a number",
        ),
        (
            "KTAP version 1\n1..1\nBail out! no device\n".into(),
            3,
            "the test program gave up",
        ),
        (
            "KTAP version 1\nKTAP version 1\n1..0\n".into(),
            2,
            "no plan (1..N) in a document",
        ),
    ] {
        let problem = parse(&text)
            .problem
            .unwrap_or_else(|| panic!("no problem in {text:?}"));
        assert_eq!(
            (problem.line_number, problem.why),
            (line_number, why),
            "{text:?}"
        );
    }
}

#[test]
fn failed_test_with_a_skip_note_has_failed() {
    let ktap = parse("KTAP version 1\n1..1\nnot ok 1 a # SKIP no device\n");
    assert_eq!(verdicts(&ktap), [&Verdict::NotOk]);
}

#[test]
fn nothing_is_no_results() {
    assert_eq!(parse(""), Ktap::default());
}

#[test]
fn no_input_makes_it_panic() {
    let text = saved("two-documents.ktap");
    for cut in (0..text.len()).filter(|&cut| text.is_char_boundary(cut)) {
        let _ = parse(&text[cut..]);
        for noise in [
            "\n",
            "ok",
            "not ok ",
            "1..",
            "#",
            "\0",
            "ok 99999999999999999999 a\n",
            "1..18446744073709551615\n",
        ] {
            let _ = parse(&format!("{}{noise}{}", &text[..cut], &text[cut..]));
        }
    }
}
