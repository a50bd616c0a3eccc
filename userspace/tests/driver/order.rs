//! What read and write see of each other: all of a write, or nothing of it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread;

use crate::fixture::{Device, SHARED};

/// Without the driver's lock, 7 of 8 runs of this many rounds met a mixture, on two emulated CPUs.
const ROUNDS: usize = 10_000;

/// Fills the device with `byte`, over and over, in single writes.
fn fill(file: &File, byte: u8) {
    for _ in 0..ROUNDS {
        let written = file.write_at(&[byte; SHARED.len], 0).expect("write");
        assert_eq!(written, SHARED.len);
    }
}

#[test]
fn a_write_is_seen_whole_or_not_at_all() {
    let device = Device::take();
    let file = device.open();
    fill(&file, b'a');
    thread::scope(|scope| {
        for byte in [b'a', b'b'] {
            let file = device.open();
            scope.spawn(move || fill(&file, byte));
        }
        for round in 0..ROUNDS {
            let mut bytes = [0; SHARED.len];
            file.read_exact_at(&mut bytes, 0).expect("read");
            let first = bytes[0];
            assert!(
                bytes.iter().all(|byte| *byte == first),
                "a mixture in round {round}"
            );
        }
    });
}
