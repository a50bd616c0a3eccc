//! What read and write see of each other: all of a write, or nothing of it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread;

use crate::fixture::{Device, MOST_PAGES};

/// Writes of each writer, and reads. Copies as long as these overlap in nearly every round.
const ROUNDS: usize = 300;

/// Writes `bytes`, as many as the device has, over and over, in single writes.
fn write(file: &File, bytes: &[u8]) {
    for _ in 0..ROUNDS {
        let written = file.write_at(bytes, 0).expect("write");
        assert_eq!(written, bytes.len());
    }
}

#[test]
fn a_write_is_seen_whole_or_not_at_all() {
    let mut device = Device::take();
    device.reload_with(MOST_PAGES);
    let file = device.open();
    let [a, b] = [b'a', b'b'].map(|byte| vec![byte; device.len()]);
    file.write_all_at(&a, 0).expect("write");
    thread::scope(|scope| {
        for bytes in [&a, &b] {
            let file = device.open();
            scope.spawn(move || write(&file, bytes));
        }
        let mut bytes = vec![0; device.len()];
        for round in 0..ROUNDS {
            file.read_exact_at(&mut bytes, 0).expect("read");
            assert!(bytes == a || bytes == b, "a mixture in round {round}");
        }
    });
}
