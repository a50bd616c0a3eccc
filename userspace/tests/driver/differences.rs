//! The table of differences in docs/driver.md, made from what the nodes do here and now.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use mmapdemo::error::Result;
use mmapdemo::evidence::Touch;
use mmapdemo::map_call::MapCall;
use mmapdemo::probe::{Access, touch};
use mmapdemo::process::{End, Process};
use mmapdemo::sys::{Mapping, PAGE_SIZE, ioctl};
use mmapdemo::turn::TURN;
use mmapdemo::{faults, procfs};
use nix::errno::Errno;
use nix::sys::mman::MmapAdvise;

use crate::fixture::{Device, Node, map};

/// The document that shows the table.
const DOCUMENT: &str = include_str!("../../../docs/driver.md");

/// What is tried on a mapping of one page, and what comes of it.
type Trial = (&'static str, fn(&Device) -> String);

/// The rows of the table.
const TRIALS: [Trial; 16] = [
    ("page faults of the first load", first_load),
    ("page faults of the first store", first_store),
    ("page faults of a child, touched before", load_after_fork),
    ("references to the page, once touched", |device| {
        page_info(device).0.to_string()
    }),
    ("counted mappings of the page, once touched", |device| {
        page_info(device).1.to_string()
    }),
    ("`VmFlags` in smaps", |device| smaps(device, "VmFlags:")),
    ("`Rss` in smaps, once touched", |device| {
        smaps(device, "Rss:")
    }),
    ("frame in pagemap, once touched", frame),
    ("offset in maps, mapped privately", private_offset),
    ("`MAP_PRIVATE` with `MAP_POPULATE` copies", populate_copies),
    (
        "page faults of a child's first private store",
        private_store,
    ),
    ("`MADV_DONTNEED`, then a load", give_back),
    ("`/proc/self/mem`", through_proc),
    ("`vmsplice(2)`", lend),
    ("`write(2)` from it to a pipe", copy_out),
    ("`mremap(2)` to two pages", grow),
];

/// One page, shared.
fn shared(device: &Device) -> Mapping {
    map(&device.open(), device.whole()).expect("map")
}

/// `ok`, or the name of the errno.
fn outcome<T>(result: std::result::Result<T, Errno>) -> String {
    result.map_or_else(|errno| format!("{errno:?}"), |_| "ok".to_owned())
}

/// How many faults `touch` takes in a child, which no thread disturbs.
fn faults_in_child<T>(mapping: &Mapping, touch: fn(&Mapping) -> Result<T>) -> i32 {
    let body = || match faults::count(mapping, touch) {
        Ok((_, faults)) => i32::try_from(faults).unwrap_or(i32::MAX),
        Err(_) => i32::MAX,
    };
    let child = Process::fork("the child", body).expect("fork");
    match child.wait(TURN).expect("wait") {
        End::Exited(faults) => faults,
        end @ End::Killed(_) => panic!("{end:?}"),
    }
}

fn first_load(device: &Device) -> String {
    faults_in_child(&shared(device), |mapping| mapping.load(0)).to_string()
}

fn first_store(device: &Device) -> String {
    faults_in_child(&shared(device), |mapping| mapping.store(0, 1)).to_string()
}

fn load_after_fork(device: &Device) -> String {
    let mapping = shared(device);
    mapping.load(0).expect("load");
    faults_in_child(&mapping, |mapping| mapping.load(0)).to_string()
}

/// References and mappings that the kernel counts.
fn page_info(device: &Device) -> (i32, i32) {
    let mapping = shared(device);
    mapping.load(0).expect("load");
    let info = ioctl::page_info(device.open().as_fd(), 0).expect("page info");
    (info.refcount, info.mapcount)
}

/// A line of the mapping's entry in smaps, once it was touched.
fn smaps(device: &Device, key: &str) -> String {
    let mapping = shared(device);
    mapping.load(0).expect("load");
    let smaps = std::fs::read_to_string("/proc/self/smaps").expect("read smaps");
    let from = format!("{:x}-", mapping.addr());
    let entry = smaps.lines().skip_while(|line| !line.starts_with(&from));
    let value = entry.skip(1).find_map(|line| line.strip_prefix(key));
    let value = value.expect("a line of smaps").trim();
    // What depends on the kernel's configuration, not on the node.
    value.replace(" sd", "")
}

fn frame(device: &Device) -> String {
    let mapping = shared(device);
    mapping.load(0).expect("load");
    let shown = procfs::page(mapping.addr()).expect("read pagemap").pfn;
    shown.map_or("none", |_| "shown").to_owned()
}

fn private_offset(device: &Device) -> String {
    let mapping = map(&device.open(), device.private()).expect("map");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("read maps");
    let from = format!("{:x}-", mapping.addr());
    let entry = maps.lines().find(|line| line.starts_with(&from));
    let offset = entry.and_then(|line| line.split_whitespace().nth(2));
    let offset = u64::from_str_radix(offset.expect("an offset"), 16).expect("a number");
    let info = ioctl::page_info(device.open().as_fd(), 0).expect("page info");
    match offset {
        0 => "0".to_owned(),
        _ if offset == info.pfn * PAGE_SIZE as u64 => "the physical address".to_owned(),
        other => format!("{other:#x}"),
    }
}

fn populate_copies(device: &Device) -> String {
    let call = MapCall {
        flags: libc::MAP_PRIVATE | libc::MAP_POPULATE,
        ..device.whole()
    };
    let mapping = map(&device.open(), call).expect("map");
    device.open().write_all_at(&[7], 0).expect("write");
    match mapping.load(0).expect("load") {
        7 => "no".to_owned(),
        _ => "at once".to_owned(),
    }
}

fn private_store(device: &Device) -> String {
    let mapping = map(&device.open(), device.private()).expect("map");
    faults_in_child(&mapping, |mapping| mapping.store(0, 1)).to_string()
}

fn give_back(device: &Device) -> String {
    let mut mapping = shared(device);
    mapping.store(0, 1).expect("store");
    let given = outcome(mapping.advise(MmapAdvise::MADV_DONTNEED));
    match touch(mapping.addr(), Access::Load).expect("probe") {
        Touch::Completed(value) => format!("{given}, reads {value}"),
        Touch::Faulted(fault) => format!("{given}, {}", fault.signal),
    }
}

fn through_proc(device: &Device) -> String {
    let mapping = shared(device);
    let memory = File::open("/proc/self/mem").expect("open");
    let read = memory.read_exact_at(&mut [0], mapping.addr() as u64);
    outcome(read.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default())))
}

fn lend(device: &Device) -> String {
    let (_from, to) = nix::unistd::pipe().expect("make a pipe");
    outcome(shared(device).lend_to(to.as_fd()))
}

fn copy_out(device: &Device) -> String {
    let (_from, to) = nix::unistd::pipe().expect("make a pipe");
    outcome(shared(device).write_to(to.as_fd(), 0, PAGE_SIZE))
}

fn grow(device: &Device) -> String {
    outcome(shared(device).resize(2 * PAGE_SIZE))
}

/// The table, as the document shows it.
fn table() -> String {
    let row = |name: &str, cells: [String; 3]| format!("| {name} | {} |\n", cells.join(" | "));
    let nodes = Node::ALL.map(|node| format!("`{}`", node.path()));
    let mut table = row("what is tried", nodes) + "|---|---|---|---|\n";
    for (name, trial) in TRIALS {
        table += &row(name, Node::ALL.map(|node| trial(&Device::with(node, 1))));
    }
    table
}

#[test]
fn the_document_tells_in_what_the_nodes_differ() {
    let table = table();
    println!("{table}");
    assert!(
        DOCUMENT.contains(&table),
        "docs/driver.md shows another table than this:\n\n{table}"
    );
}
