//! What read and write see of each other: all of a write, or nothing of it.

use std::os::unix::fs::FileExt;
use std::sync::Barrier;
use std::thread;

use crate::fixture::{Device, MOST_PAGES};

/// How often two writers and a reader begin at the same time. Copies as long as these meet in nearly every round.
const ROUNDS: usize = 20;

/// Acts in each round, and counts how often that went well. Nobody panics, which would leave the others waiting.
fn in_each_round(begin: &Barrier, mut act: impl FnMut() -> bool) -> usize {
    let round = |_: &usize| {
        begin.wait();
        act()
    };
    (0..ROUNDS).filter(round).count()
}

#[test]
fn a_write_is_seen_whole_or_not_at_all() {
    let mut device = Device::take();
    device.reload_with(MOST_PAGES);
    let file = device.open();
    let [a, b] = [b'a', b'b'].map(|byte| vec![byte; device.len()]);
    file.write_all_at(&a, 0).expect("write");
    let begin = Barrier::new(3);
    let (whole, written) = thread::scope(|scope| {
        let writers = [&a, &b].map(|bytes| {
            let (file, begin) = (device.open(), &begin);
            let write = move || file.write_at(bytes, 0).is_ok_and(|len| len == bytes.len());
            scope.spawn(move || in_each_round(begin, write))
        });
        let mut bytes = vec![0; device.len()];
        let whole = in_each_round(&begin, || {
            file.read_exact_at(&mut bytes, 0).is_ok() && (bytes == a || bytes == b)
        });
        (whole, writers.map(|writer| writer.join().expect("write")))
    });
    assert_eq!(written, [ROUNDS; 2], "writes");
    assert_eq!(whole, ROUNDS, "reads that saw no mixture");
}
