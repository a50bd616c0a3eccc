//! Trees of calls, read from a trace that was recorded in a guest.

#![expect(
    clippy::unwrap_used,
    reason = "what helps a test may panic as the test may"
)]

use std::path::PathBuf;

use mmapdemo::calls::{self, Call, Cause, Memory, Step};
use mmapdemo::report;
use mmapdemo::report::style::Style;

/// What `mmapdemo trace --raw private-is-snapshot` printed, with most of what it is not about cut away.
const SAVED: &str = include_str!("data/graph");

fn steps(memory: Memory) -> (Vec<Step>, usize) {
    calls::select(calls::parse(SAVED).unwrap(), memory)
}

/// The calls of one step, its entries and theirs, by name.
fn names(text: &str) -> Vec<String> {
    fn add(calls: &[Call], names: &mut Vec<String>) {
        for call in calls {
            names.push(call.name.clone());
            add(&call.calls, names);
        }
    }
    let mut names = Vec::new();
    for step in calls::parse(text).unwrap() {
        for entry in step.entries {
            add(&entry.calls, &mut names);
        }
    }
    names
}

/// One fault, with these lines of the tracer below it.
fn fault_with(lines: &[&str]) -> String {
    let first = [
        "/* mmapdemo begins one */",
        "/* page_fault_user: address=0x7f00 ip=0x40 error_code=0x6 */",
        "handle_mm_fault() {",
    ];
    let last = ["} /* handle_mm_fault */", "/* mmapdemo ends */"];
    let all = first.iter().chain(lines).chain(&last);
    let lines: Vec<_> = all.map(|line| format!(" my-prog-7   | {line}")).collect();
    lines.join("\n") + "\n"
}

/// `UPDATE_GOLDEN=1 cargo test` writes what the report says now; the change then shows in the diff.
#[test]
fn the_trees_of_a_claim_read_as_saved() {
    let (steps, left_out) = steps(Memory::Device);
    let text: String = steps
        .iter()
        .map(|step| report::calls::render(step, usize::MAX, Style::Plain))
        .collect();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/graph.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
    assert_eq!(left_out, 6);
}

#[test]
fn functions_of_the_driver_stand_where_the_kernel_called_them() {
    let (steps, _) = steps(Memory::Device);
    let nodes = ["/dev/mmapdemo", "/dev/mmapdemo-pfn", "/dev/mmapdemo-fault"];
    for (step, node) in steps.iter().zip(nodes) {
        assert!(step.name.ends_with(&format!(" on {node}")), "{}", step.name);
        let first = step.entries.first().unwrap();
        assert!(matches!(&first.cause, Cause::Syscall(call) if call.name == "mmap"));
        assert!(first.reaches_driver(), "{node}");
    }
    let text = report::calls::render(&steps[0], usize::MAX, Style::Plain);
    let (_, inside) = text.split_once("MiscDevice>::mmap [mmapdemo]\n").unwrap();
    assert!(
        inside.trim_start().starts_with("vm_insert_page\n"),
        "{inside}"
    );
    let mut entries = steps[2].entries.iter();
    let loaded = entries
        .find(|entry| matches!(entry.cause, Cause::Fault(_)))
        .unwrap();
    // Under the lock of the area, in vain, and under that of the address space.
    assert_eq!((loaded.calls.len(), loaded.reaches_driver()), (2, true));
}

#[test]
fn other_memory_is_left_out_unless_it_is_asked_for() {
    let count =
        |(steps, _): (Vec<Step>, usize)| steps.iter().map(|step| step.entries.len()).sum::<usize>();
    assert_eq!(count(steps(Memory::Any)), count(steps(Memory::Device)) + 6);
}

#[test]
fn no_more_levels_are_shown_than_asked_for() {
    let (steps, _) = steps(Memory::Device);
    let text = report::calls::render(&steps[0], 2, Style::Plain);
    assert!(text.contains("ksys_mmap_pgoff ..."), "{text}");
    assert!(!text.contains("vm_mmap_pgoff"), "{text}");
}

#[test]
fn what_interrupts_a_call_is_cut_out() {
    let text = fault_with(&[
        "do_fault() {",
        "handle_softirqs() {",
        "folio_put();",
        "} /* handle_softirqs */",
        "finish_fault();",
        "} /* do_fault */",
    ]);
    assert_eq!(
        names(&text),
        ["handle_mm_fault", "do_fault", "finish_fault"]
    );
}

#[test]
fn tasks_that_take_turns_on_a_cpu_are_told_apart() {
    let other = " other-8   | do_mmap() {\n ------------------------------------------\n  0)  other-8    =>  my-prog-7\n";
    let text = fault_with(&["do_fault() {", "} /* do_fault */"]).replace(
        " my-prog-7   | do_fault() {\n",
        &format!("{other} my-prog-7   | do_fault() {{\n"),
    );
    assert_eq!(names(&text), ["handle_mm_fault", "do_fault"]);
}

#[test]
fn a_breakpoint_in_the_driver_is_a_call_of_it() {
    let text = fault_with(&["__do_fault() {", "STACK", "} /* __do_fault */"]).replace(
        " my-prog-7   | STACK\n",
        "  my-prog-7  [001] d.Z1.  5.3: <stack trace>\n => ftrace_call\n => perf_bp_event\n => asm_exc_debug\n \
         => mmapdemo_fault [mmapdemo]\n => __do_fault\n => handle_mm_fault\n",
    );
    assert_eq!(
        names(&text),
        ["handle_mm_fault", "__do_fault", "mmapdemo_fault"]
    );
}

#[test]
fn a_trace_that_lacks_something_is_refused() {
    for lacking in [
        "CPU:1 [LOST 12 EVENTS]\n",
        "gibberish\n",
        " my-prog-7   | }\n",
    ] {
        assert!(calls::parse(lacking).is_err(), "{lacking}");
    }
}
