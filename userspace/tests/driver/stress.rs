//! Races and repetition: what a single test cannot meet, a thousand rounds might.

use std::ffi::CStr;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mmapdemo::map_call::MapCall;
use mmapdemo::process::{End, Process};
use mmapdemo::sys::PAGE_SIZE;
use nix::errno::Errno;
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};

use crate::fixture::{Device, MODULE, Node, PRIVATE, SHARED, map};
use crate::memory;

/// Loads, each against threads that open and map.
const CYCLES: usize = 1000;

/// Rounds of mapping, touching, forking and unmapping, of all processes together.
const ROUNDS: usize = 10_000;

/// How many processes share them.
const PROCESSES: usize = 4;

/// Pages of the buffer in every other load: one such buffer lost in each is 128 MiB in the end.
const LONG: &CStr = c"pages=64";

/// What the kernel may have taken in each round without being suspected, in KiB: half a page.
const TOLERANCE: usize = 2;

/// Time for the kernel to free what it frees later, on a busy host.
const LATER: Duration = Duration::from_secs(30);

/// How often the module is tried to be unloaded while others go on opening it.
const ATTEMPTS: usize = 50;

/// Time for all rounds of one process, on a busy host.
const PATIENCE: Duration = Duration::from_secs(2000);

/// Does as many `rounds` as told, and finds that they have cost no memory.
///
/// A tenth of them goes before: what the first ones cost, or free from before, is no leak.
fn without_a_leak(nr_rounds: usize, rounds: impl Fn(usize)) {
    rounds(nr_rounds / 10);
    let before = memory::of_kernel();
    rounds(nr_rounds);
    let allowed = (nr_rounds * TOLERANCE) as u64;
    let deadline = Instant::now() + LATER;
    loop {
        let after = memory::of_kernel();
        if after <= before + allowed {
            println!("{nr_rounds} rounds: the kernel had {before} KiB before, {after} after");
            return;
        }
        // Much is freed by workers, or once all CPUs have passed through the scheduler.
        let lost = after - before;
        assert!(
            Instant::now() < deadline,
            "{nr_rounds} rounds: {lost} KiB lost"
        );
        thread::yield_now();
    }
}

/// Opens a node, and maps and touches all of it; `false` if it was not there to be opened.
fn use_once(node: Node, call: MapCall) -> bool {
    let file = match File::options().read(true).write(true).open(node.path()) {
        Ok(file) => file,
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV) => return false,
            _ => panic!("open failed: {error}"),
        },
    };
    let mapping = map(&file, call).expect("map");
    for page in 0..call.len / PAGE_SIZE {
        let _ = mapping.load(page * PAGE_SIZE).expect("load");
        mapping.store(page * PAGE_SIZE, 1).expect("store");
    }
    true
}

/// Loads and unloads the module, with a buffer that is short and long in turn.
///
/// `pause` asks the others to let go: three of them could keep the module for minutes.
fn cycle(module: &File, round: usize, pause: &AtomicBool) {
    let pages = if round % 2 == 0 { c"pages=1" } else { LONG };
    pause.store(false, Ordering::Relaxed);
    finit_module(module, pages, ModuleInitFlags::empty()).expect("load");
    for attempt in 0.. {
        match delete_module(c"mmapdemo", DeleteModuleFlags::O_NONBLOCK) {
            Ok(()) => return,
            // Somebody has it open.
            Err(Errno::EAGAIN) => thread::yield_now(),
            Err(errno) => panic!("unload: {errno}"),
        }
        pause.store(attempt >= ATTEMPTS, Ordering::Relaxed);
    }
}

#[test]
fn loading_races_with_opening_and_mapping() {
    let device = Device::take();
    device.unload();
    let module = File::open(Path::new(MODULE)).expect("open the module");
    without_a_leak(CYCLES, |cycles| {
        let (over, pause) = (AtomicBool::new(false), AtomicBool::new(false));
        let used = AtomicUsize::new(0);
        thread::scope(|scope| {
            for node in Node::ALL {
                let (over, pause, used) = (&over, &pause, &used);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        if pause.load(Ordering::Relaxed) {
                            thread::yield_now();
                            continue;
                        }
                        for call in [SHARED, PRIVATE] {
                            used.fetch_add(use_once(node, call).into(), Ordering::Relaxed);
                        }
                    }
                });
            }
            for round in 0..cycles {
                cycle(&module, round, &pause);
            }
            over.store(true, Ordering::Relaxed);
        });
        let used = used.into_inner();
        println!("{cycles} loads, used {used} times");
        assert!(
            used >= cycles,
            "the race did not take place: used {used} times"
        );
    });
    device.load();
}

/// Maps, touches, forks a child that touches, and unmaps; on each node in turn, shared and private.
fn round(device: &Device, round: usize) -> Option<()> {
    let node = Node::ALL[round % Node::ALL.len()];
    let call = if round % 2 == 0 {
        device.whole()
    } else {
        device.private()
    };
    let file = File::options()
        .read(true)
        .write(true)
        .open(node.path())
        .ok()?;
    let mapping = map(&file, call).ok()?;
    let touch = || {
        (0..device.nr_pages()).try_for_each(|page| {
            mapping.load(page * PAGE_SIZE).ok()?;
            mapping.store(page * PAGE_SIZE, 1).ok()
        })
    };
    // Every other child meets page table entries, the others have to make their own.
    if round % 4 < 2 {
        touch()?;
    }
    let body = || i32::from(touch().is_none());
    let child = Process::fork("a child", body).ok()?;
    touch()?;
    let end = child.wait(PATIENCE).ok()?;
    (end == End::Exited(0)).then_some(())
}

#[test]
fn four_processes_map_touch_fork_and_unmap() {
    let device = Device::with(Node::Fault, 4);
    let all = |rounds: usize| {
        let body = || {
            let done = (0..rounds / PROCESSES).try_for_each(|number| round(&device, number));
            i32::from(done.is_none())
        };
        let processes: Vec<_> = (0..PROCESSES)
            .map(|_| Process::fork("a process", body).expect("fork"))
            .collect();
        for process in processes {
            assert_eq!(process.wait(PATIENCE).expect("wait"), End::Exited(0));
        }
    };
    without_a_leak(ROUNDS, all);
    for node in Node::ALL {
        let file = File::open(node.path()).expect("open");
        let fd = std::os::fd::AsFd::as_fd(&file);
        let info = mmapdemo::sys::ioctl::info(fd).expect("info");
        assert_eq!(info.mappings, 0, "{node:?}");
        for pgoff in 0..device.nr_pages() as u64 {
            let page = mmapdemo::sys::ioctl::page_info(fd, pgoff).expect("page info");
            assert_eq!((page.refcount, page.mapcount), (1, 0), "{node:?}");
        }
    }
    drop(device);
    // Leaves the module as it is loaded by default.
    drop(Device::take());
}
