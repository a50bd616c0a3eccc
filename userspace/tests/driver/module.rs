//! How long the module stays: as long as somebody can still call into it, and no longer.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{Command, Stdio};
use std::thread;

use mmapdemo::process::{End, Process};
use mmapdemo::procfs;
use mmapdemo::turn::TURN;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, mknod};

use crate::fixture::{Device, MODULE, errno, map, on_every_node, run};
use crate::injection;
use crate::log::{self, KernelLog, NAME_TAKEN};
use crate::memory;

/// Reloads in a row. A registration that is not undone shows in the second.
const CYCLES: usize = 100;

/// Unloads that meet somebody who opens the device.
const RACES: usize = 20;

#[test]
fn without_the_module_there_is_no_node_and_an_old_one_leads_nowhere() {
    on_every_node(|device| {
        // As in a container, or on a disk: a node that nobody removes when the module goes.
        let dir = tempfile::tempdir().expect("a directory");
        let old = dir.path().join("old-node");
        let number = fs::metadata(device.node()).expect("the node").rdev();
        let (kind, mode) = (SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR);
        mknod(&old, kind, mode, number).expect("mknod");
        assert!(File::open(&old).is_ok(), "it is the same device");
        device.unload();
        assert_eq!(errno(File::open(device.node())), libc::ENOENT);
        assert_eq!(errno(File::open(&old)), libc::ENODEV);
        device.load();
    });
}

#[test]
fn an_open_file_keeps_the_module() {
    on_every_node(|device| {
        let file = device.open();
        device.assert_in_use();
        file.read_exact_at(&mut vec![0; device.len()], 0)
            .expect("the device works on");
        drop(file);
        device.unload();
        device.load();
    });
}

#[test]
fn a_descriptor_in_another_process_keeps_the_module() {
    on_every_node(|device| {
        // Reads its standard input to the end, and so has it open until its pipe is closed.
        let mut child = Command::new("/bin/cat")
            .stdin(Stdio::piped())
            .stdout(device.open())
            .spawn()
            .expect("run cat");
        device.assert_in_use();
        drop(child.stdin.take());
        assert!(child.wait().expect("wait for cat").success());
        device.unload();
        device.load();
    });
}

#[test]
fn a_mapping_keeps_the_module() {
    on_every_node(|device| {
        for call in [device.whole(), device.private()] {
            let mapping = map(&device.open(), call).expect("map, and close at once");
            device.assert_in_use();
            mapping.store(0, 1).expect("the mapping works on");
            mapping.unmap().expect("unmap");
            device.unload();
            device.load();
        }
    });
}

#[test]
fn the_mapping_of_a_child_keeps_the_module() {
    on_every_node(|device| {
        let mapping = map(&device.open(), device.whole()).expect("map");
        let mut child = Process::fork("the child", wait_for_ever).expect("fork");
        mapping.unmap().expect("unmap");
        device.assert_in_use();
        assert_eq!(child.kill().expect("kill"), End::Killed(Signal::SIGKILL));
        device.unload();
        device.load();
    });
}

#[test]
fn a_child_and_its_parent_share_the_bytes() {
    on_every_node(|device| {
        let mapping = map(&device.open(), device.whole()).expect("map");
        mapping.store(0, 1).expect("store");
        let body = || match (mapping.load(0), mapping.store(1, 2)) {
            (Ok(1), Ok(())) => 0,
            _ => 1,
        };
        let child = Process::fork("the child", body).expect("fork");
        assert_eq!(child.wait(TURN).expect("wait"), End::Exited(0));
        assert_eq!(mapping.load(1).expect("load"), 2);
    });
}

#[test]
fn a_thousand_mappings_are_forgotten() {
    on_every_node(|device| {
        let file = device.open();
        let mappings: Vec<_> = (0..1000)
            .map(|_| map(&file, device.whole()).expect("map"))
            .collect();
        mappings[0].store(5, 5).expect("store");
        for mapping in &mappings {
            assert_eq!(mapping.load(5).expect("load"), 5);
        }
        drop((file, mappings));
        device.unload();
        device.load();
    });
}

/// What a child does that only has to be there.
fn wait_for_ever() -> i32 {
    loop {
        nix::unistd::pause();
    }
}

#[test]
fn a_reloaded_module_starts_from_zeros() {
    let device = Device::take();
    // More than once: the page freed last is the one that the next load is likely to get.
    for _ in 0..5 {
        device
            .open()
            .write_all_at(&vec![0xa5; device.len()], 0)
            .expect("write a pattern");
        device.unload();
        // What never was in use holds zeros anyway, and a guest has much of that.
        memory::soil();
        device.load();
        device.assert_filled_with(0);
    }
}

#[test]
fn a_hundred_loads_leave_nothing_behind() {
    let device = Device::take();
    let mut frames = BTreeSet::new();
    for _ in 0..CYCLES {
        let file = device.open();
        let shared = map(&file, device.whole()).expect("map");
        let private = map(&file, device.private()).expect("map privately");
        private.store(0, 1).expect("store to a copy");
        let page = procfs::page(shared.addr()).expect("read pagemap");
        frames.insert(page.pfn.expect("the page is there"));
        drop((file, shared, private));
        device.unload();
        device.load();
    }
    // A page that is not freed can never be allocated again.
    assert!(frames.len() < CYCLES, "{CYCLES} loads, {CYCLES} frames");
}

#[test]
fn loading_twice_is_refused_and_harmless() {
    let device = Device::take();
    device.open().write_all_at(b"kept", 0).expect("write");
    let output = run("/bin/insmod", &[MODULE]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("File exists"),
        "{output:?}"
    );
    assert_eq!(&device.contents()[..4], b"kept");
}

#[test]
fn opening_and_unloading_may_race() {
    let device = Device::take();
    for _ in 0..RACES {
        thread::scope(|scope| {
            scope.spawn(|| open_until_gone(&device));
            // Refused whenever the file happens to be open; one of them hits a moment in between.
            while !device.try_unload().status.success() {}
        });
        device.load();
    }
}

/// Opens and closes the device until it has disappeared.
fn open_until_gone(device: &Device) {
    loop {
        match File::open(device.node()).map_err(|error| error.raw_os_error()) {
            Ok(file) => file
                .read_exact_at(&mut vec![0; device.len()], 0)
                .expect("read"),
            // The node is gone; or it is still there, and nothing behind it.
            Err(Some(libc::ENOENT | libc::ENODEV)) => return,
            Err(errno) => panic!("open failed with {errno:?}"),
        }
    }
}

#[test]
fn the_kernel_has_found_no_fault_since_boot() {
    let _device = Device::take();
    let lines = KernelLog::from_boot().lines();
    // Tests of a module that fails to load have the kernel show the stack of who asked; on a kernel in which allocations
    // are made to fail, so do some of these.
    let without_memory = injection::is_possible().then_some(log::NO_MEMORY);
    let asked = [NAME_TAKEN].into_iter().chain(without_memory);
    let asked = |line: &&String| asked.clone().any(|words| line.contains(words));
    let asked = lines.iter().filter(asked).count();
    let (stacks, others): (Vec<_>, Vec<_>) = log::defects(&lines)
        .into_iter()
        .partition(|line| line.contains("Call Trace"));
    assert_eq!(others, Vec::<String>::new());
    assert_eq!(stacks.len(), asked, "stacks that nobody asked for");
}
