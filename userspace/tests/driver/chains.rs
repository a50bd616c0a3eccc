//! The calls inside the kernel that put a page into a process, as `docs/driver.md` shows them.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use mmapdemo::sys::Mapping;
use nix::mount::{MsFlags, mount};
use nix::unistd::gettid;

use crate::fixture::{Device, Node, map};

/// A traced chain is a block of it: a line `NODE: WHAT`, then a call a line, below the one that makes it.
const DOCUMENT: &str = include_str!("../../../docs/driver.md");

/// What says in the document that there is no call.
const NOTHING: &str = "  nothing";

/// How many blocks there are: what is mapped and stored to, on each node.
const BLOCKS: usize = 3 * 4;

/// What handles a page fault, once the kernel knows where it is.
const FAULT: &str = "handle_mm_fault";

/// By how many spaces a call without a caller is indented.
const OUTERMOST: usize = 2;

/// The kernel's word for a fault, with its address: it comes before what handles it.
const FAULTS: [&str; 2] = [
    "events/exceptions/page_fault_user/enable",
    "events/exceptions/page_fault_kernel/enable",
];

/// What begins and ends a block.
const FENCE: &str = "```";

/// The blocks of the document: the first line, and the others.
fn documented() -> Vec<(&'static str, Vec<&'static str>)> {
    let blocks = DOCUMENT.split(FENCE).skip(1).step_by(2);
    let traced = blocks.filter_map(|block| {
        let mut lines = block.lines().skip(1);
        let first = lines.next().filter(|line| line.starts_with("/dev/"))?;
        Some((first, lines.collect()))
    });
    traced.collect()
}

/// The kernel's function tracer (`Documentation/trace/ftrace.rst`), set on this thread and a few functions.
struct Tracer(PathBuf);

impl Tracer {
    /// Calls of `names` alone will be seen.
    fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let tracer = Self("/sys/kernel/tracing".into());
        if !tracer.0.join("trace").exists() {
            let (nothing, flags) = (None::<&Path>, MsFlags::empty());
            mount(nothing, &tracer.0, Some("tracefs"), flags, nothing).expect("mount tracefs");
        }
        tracer.set("tracing_on", "0");
        tracer.set("set_ftrace_pid", &gettid().to_string());
        let names: Vec<_> = names.into_iter().collect();
        tracer.set("set_ftrace_filter", &names.join(" "));
        // What is done makes one call of one of them: mmap, or a page fault.
        tracer.set("set_graph_function", &format!("ksys_mmap_pgoff {FAULT}"));
        for event in FAULTS {
            tracer.set(event, "1");
        }
        // Once for all: it takes seconds until no CPU is in a function that is about to change.
        tracer.set("current_tracer", "function_graph");
        tracer
    }

    fn set(&self, name: &str, value: &str) {
        let path = self.0.join(name);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Does `what`, and returns the calls that come of it, a line each, but for faults elsewhere than in the mapping
    /// that `what` names: the program's own pages fault whenever the kernel has moved them.
    fn calls(&self, what: impl FnOnce() -> Range<usize>) -> Vec<String> {
        self.set("trace", "");
        self.set("tracing_on", "1");
        let mapping = what();
        self.set("tracing_on", "0");
        let trace = fs::read_to_string(self.0.join("trace")).expect("read the trace");
        let mut calls = calls_for(&mapping, &trace);
        if calls.is_empty() {
            calls.push(NOTHING.to_owned());
        }
        calls
    }
}

/// What a trace says of calls and of faults at `addresses`.
fn calls_for(addresses: &Range<usize>, trace: &str) -> Vec<String> {
    let mut calls = Vec::new();
    let mut elsewhere = false;
    // Lines such as ` 1)   0.5 us    |    folio_unlock();`, less the columns before the call.
    for line in trace
        .lines()
        .filter_map(|line| Some(line.split_once('|')?.1))
    {
        if let Some((_, fault)) = line.split_once("/* page_fault_") {
            let (_, address) = fault
                .split_once("address=0x")
                .expect("a fault has an address");
            let end = address.find(' ').expect("fields after the address");
            let address = usize::from_str_radix(&address[..end], 16).expect("an address");
            elsewhere = !addresses.contains(&address);
        } else if let Some((call, _)) = line.split_once("()") {
            // A fault handled, as everything that is called from user space, has no caller.
            let is_outermost = call.len() - call.trim_start().len() == OUTERMOST;
            elsewhere &= !is_outermost || call.trim() == FAULT;
            if !elsewhere {
                calls.push(call.to_owned());
            }
        }
    }
    calls
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Back to what there was; a test that has failed has no use for another panic.
        for (name, value) in [
            ("current_tracer", "nop"),
            ("set_ftrace_filter", ""),
            ("set_graph_function", ""),
            ("set_ftrace_pid", ""),
            (FAULTS[0], "0"),
            (FAULTS[1], "0"),
        ] {
            let _ = fs::write(self.0.join(name), value);
        }
    }
}

/// What is done on a node, by the names that the document has for it.
fn traced(tracer: &Tracer, device: &Device) -> Vec<(String, Vec<String>)> {
    let file = device.open();
    let shared = || map(&file, device.whole()).expect("map");
    let private = || map(&file, device.private()).expect("map privately");
    let range = |mapping: &Mapping| mapping.addr()..mapping.addr() + mapping.len();
    let store = |mapping: &Mapping| {
        mapping.store(0, 1).expect("store");
        range(mapping)
    };
    let faults_of = |mapping: &Mapping| tracer.calls(|| store(mapping));
    // The first of each also touches the program's own memory for the first time.
    store(&shared());
    let loaded = private();
    assert_eq!(loaded.load(0).expect("load"), 1);
    let mapped = tracer.calls(|| range(&shared()));
    [
        ("mmap", mapped),
        ("store", faults_of(&shared())),
        ("private store", faults_of(&private())),
        ("private store after a load", faults_of(&loaded)),
    ]
    .map(|(what, calls)| (format!("{}: {what}", device.node()), calls))
    .into()
}

#[test]
fn the_chains_are_as_documented() {
    let documented = documented();
    assert_eq!(documented.len(), BLOCKS);
    let calls = documented.iter().flat_map(|(_, calls)| calls);
    let names: BTreeSet<_> = calls
        .filter(|&&call| call != NOTHING)
        .map(|call| call.trim())
        .collect();
    let mut tracer = None;
    for node in Node::ALL {
        let device = Device::with(node, 1);
        let tracer = tracer.get_or_insert_with(|| Tracer::of(names.iter().copied()));
        for (what, calls) in traced(tracer, &device) {
            let found = documented.iter().find(|(first, _)| *first == what);
            let expected = found.map(|(_, calls)| calls.join("\n"));
            assert_eq!(expected, Some(calls.join("\n")), "{what}");
        }
    }
}

#[test]
fn a_fault_elsewhere_is_not_part_of_a_chain() {
    let fault = |address| {
        format!(" 0)  | /* page_fault_user: address={address} ip=0x40 error_code=0x6 */\n")
    };
    let handled = " 0)  |  handle_mm_fault() {\n 0)  |    do_fault();\n 0)  |  }\n";
    let mapped = " 0)  |  ksys_mmap_pgoff() {\n 0)  |    do_mmap();\n 0)  |  }\n";
    let (here, there) = (fault("0x1fff"), fault("0x2000"));
    let trace = [
        &there, handled, mapped, &here, handled, &there, handled, mapped,
    ]
    .concat();
    let handled = ["  handle_mm_fault", "    do_fault"];
    let mapped = ["  ksys_mmap_pgoff", "    do_mmap"];
    let expected = [mapped, handled, mapped].concat();
    assert_eq!(calls_for(&(0x1000..0x2000), &trace), expected);
}
