//! The calls inside the kernel that put a page into a process, as `docs/driver.md` shows them.

use std::collections::BTreeSet;
use std::fs;
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
        tracer.set("set_graph_function", "ksys_mmap_pgoff handle_mm_fault");
        // Once for all: it takes seconds until no CPU is in a function that is about to change.
        tracer.set("current_tracer", "function_graph");
        tracer
    }

    fn set(&self, name: &str, value: &str) {
        let path = self.0.join(name);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Does `what`, and returns the calls that come of it, a line each.
    fn calls(&self, what: impl FnOnce()) -> Vec<String> {
        self.set("trace", "");
        self.set("tracing_on", "1");
        what();
        self.set("tracing_on", "0");
        let trace = fs::read_to_string(self.0.join("trace")).expect("read the trace");
        // A line such as ` 1)   0.5 us    |    folio_unlock();`
        let call = |line: &str| {
            let (_, call) = line.split_once('|')?;
            let (call, _) = call.split_once("()")?;
            Some(call.to_owned())
        };
        let mut calls: Vec<_> = trace.lines().filter_map(call).collect();
        if calls.is_empty() {
            calls.push(NOTHING.to_owned());
        }
        calls
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Back to what there was; a test that has failed has no use for another panic.
        for (name, value) in [
            ("current_tracer", "nop"),
            ("set_ftrace_filter", ""),
            ("set_graph_function", ""),
            ("set_ftrace_pid", ""),
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
    let store = |mapping: &Mapping| mapping.store(0, 1).expect("store");
    let faults_of = |mapping: &Mapping| tracer.calls(|| store(mapping));
    // The first of each also touches the program's own memory for the first time.
    store(&shared());
    let loaded = private();
    assert_eq!(loaded.load(0).expect("load"), 1);
    let mapped = tracer.calls(|| drop(shared()));
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
