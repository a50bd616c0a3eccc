//! How long the module stays: as long as somebody can still call into it, and no longer.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::thread;

use crate::fixture::{Device, LEN, MODULE, NODE, run};
use crate::log::KernelLog;

/// Reloads in a row. A registration that is not undone shows in the second.
const CYCLES: usize = 100;

/// Unloads that meet somebody who opens the device.
const RACES: usize = 20;

#[test]
fn an_open_file_keeps_the_module() {
    let device = Device::take();
    let file = device.open();
    device.assert_in_use();
    file.read_exact_at(&mut [0; LEN], 0)
        .expect("the device works on");
    drop(file);
    device.unload();
    device.load();
}

#[test]
fn a_descriptor_in_another_process_keeps_the_module() {
    let device = Device::take();
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
}

#[test]
fn a_reloaded_module_starts_from_zeros() {
    let device = Device::take();
    // More than once: the page freed last is the one that the next load is likely to get.
    for _ in 0..10 {
        device
            .open()
            .write_all_at(&[0xa5; LEN], 0)
            .expect("write a pattern");
        device.unload();
        device.load();
        device.assert_filled_with(0);
    }
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
fn loads_and_unloads_again_and_again() {
    let device = Device::take();
    for _ in 0..CYCLES {
        device.unload();
        device.load();
        device
            .open()
            .read_exact_at(&mut [0; LEN], 0)
            .expect("read the device");
    }
}

#[test]
fn opening_and_unloading_may_race() {
    let device = Device::take();
    for _ in 0..RACES {
        thread::scope(|scope| {
            scope.spawn(open_until_gone);
            // Refused whenever the file happens to be open; one of them hits a moment in between.
            while !device.try_unload().status.success() {}
        });
        device.load();
    }
}

/// Opens and closes the device until it has disappeared.
fn open_until_gone() {
    loop {
        match File::open(NODE).map_err(|error| error.raw_os_error()) {
            Ok(file) => file.read_exact_at(&mut [0; LEN], 0).expect("read"),
            // The node is gone; or it is still there, and nothing behind it.
            Err(Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)) => return,
            Err(errno) => panic!("open failed with {errno:?}"),
        }
    }
}

#[test]
fn the_kernel_has_found_no_fault_since_boot() {
    let _device = Device::take();
    assert_eq!(KernelLog::from_boot().defects(), Vec::<String>::new());
}
