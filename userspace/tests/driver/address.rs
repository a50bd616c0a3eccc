//! Bad addresses: what fits is copied, and only when nothing does the call fails.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::AsFd;

use mmapdemo::sys::PAGE_SIZE;
use nix::errno::Errno;

use crate::fixture::{cliff, map, on_every_node};

/// `file`, moved to `offset`.
fn at(mut file: &File, offset: usize) -> &File {
    file.seek(SeekFrom::Start(offset as u64)).expect("seek");
    file
}

#[test]
fn read_stores_what_fits() {
    on_every_node(|device| {
        let (mut file, memory) = (device.open(), cliff());
        memory.store_bytes(PAGE_SIZE - 6, &[1; 6]).expect("store");
        let read = memory.read_from(file.as_fd(), PAGE_SIZE - 6, 100);
        assert_eq!(read, Ok(6));
        assert_eq!(memory.load_bytes(PAGE_SIZE - 6, 6).expect("load"), [0; 6]);
        assert_eq!(file.stream_position().expect("position"), 6);
    });
}

#[test]
fn read_into_nowhere_fails() {
    on_every_node(|device| {
        let (mut file, memory) = (device.open(), cliff());
        let read = |offset, len| memory.read_from(at(&file, offset).as_fd(), PAGE_SIZE, len);
        assert_eq!(read(0, 0), Ok(0), "nothing was to be stored");
        assert_eq!(
            read(device.len(), 100),
            Ok(0),
            "nothing was left to be stored"
        );
        assert_eq!(read(7, 100), Err(Errno::EFAULT));
        assert_eq!(file.stream_position().expect("position"), 7);
    });
}

#[test]
fn write_fetches_what_it_can() {
    on_every_node(|device| {
        let (mut file, memory) = (device.open(), cliff());
        memory.store_bytes(PAGE_SIZE - 6, &[1; 6]).expect("store");
        let written = memory.write_to(file.as_fd(), PAGE_SIZE - 6, 100);
        assert_eq!(written, Ok(6));
        assert_eq!(device.contents()[..7], [1, 1, 1, 1, 1, 1, 0]);
        assert_eq!(file.stream_position().expect("position"), 6);
    });
}

#[test]
fn write_from_nowhere_fails_and_changes_nothing() {
    on_every_node(|device| {
        let (mut file, memory) = (device.open(), cliff());
        let write = |offset, len| memory.write_to(at(&file, offset).as_fd(), PAGE_SIZE, len);
        assert_eq!(write(0, 0), Ok(0), "nothing was to be fetched");
        assert_eq!(
            write(device.len(), 100),
            Err(Errno::ENOSPC),
            "nothing would fit"
        );
        assert_eq!(write(7, 100), Err(Errno::EFAULT));
        assert_eq!(file.stream_position().expect("position"), 7);
        device.assert_filled_with(0);
    });
}

#[test]
fn the_buffer_can_be_copied_onto_itself() {
    on_every_node(|device| {
        let file = device.open();
        let mapping = map(&file, device.whole()).expect("map");
        mapping.store_bytes(0, b"abcd").expect("store");
        let written = mapping.write_to(at(&file, 1).as_fd(), 0, device.len() - 1);
        assert_eq!(written, Ok(device.len() - 1));
        assert_eq!(device.contents()[..5], *b"aabcd");
        let read = mapping.read_from(at(&file, 0).as_fd(), 1, device.len() - 1);
        assert_eq!(read, Ok(device.len() - 1));
        assert_eq!(device.contents()[..6], *b"aaabcd");
    });
}
