//! `read(2)` and `write(2)` up to the last byte of the buffer, and beyond.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::fixture::{Device, errno, on_every_node};

/// A file at `offset`.
fn open_at(device: &Device, offset: u64) -> File {
    let mut file = device.open();
    file.seek(SeekFrom::Start(offset)).expect("seek");
    file
}

#[test]
fn everybody_may_read_and_write() {
    on_every_node(|device| {
        let mode = std::fs::metadata(device.node())
            .expect("stat the device")
            .mode();
        assert_eq!(mode, libc::S_IFCHR | 0o666);
    });
}

#[test]
fn reads_back_what_was_written() {
    on_every_node(|device| {
        let mut file = device.open();
        file.write_all(b"hello").expect("write");
        assert_eq!(file.stream_position().expect("position"), 5);
        file.rewind().expect("rewind");
        let mut read = [0; 5];
        file.read_exact(&mut read).expect("read");
        assert_eq!(&read, b"hello");
        assert_eq!(file.stream_position().expect("position"), 5);
    });
}

#[test]
fn two_opens_share_the_bytes() {
    on_every_node(|device| {
        let (one, other) = (device.open(), device.open());
        one.write_all_at(b"shared", 100).expect("write");
        let mut read = [0; 6];
        other.read_exact_at(&mut read, 100).expect("read");
        assert_eq!(&read, b"shared");
    });
}

#[test]
fn the_bytes_outlive_the_last_close() {
    on_every_node(|device| {
        device.open().write_all_at(b"still here", 0).expect("write");
        assert_eq!(device.contents()[..10], *b"still here");
    });
}

#[test]
fn read_stops_at_the_end() {
    on_every_node(|device| {
        let mut file = open_at(device, device.end() - 96);
        let mut bytes = [1; 200];
        assert_eq!(file.read(&mut bytes).expect("read"), 96);
        assert_eq!((&bytes[..96], &bytes[96..]), (&[0; 96][..], &[1; 104][..]));
        assert_eq!(file.read(&mut bytes).expect("read at the end"), 0);
    });
}

#[test]
fn read_beyond_the_end_finds_nothing() {
    on_every_node(|device| {
        for offset in [device.end(), device.end() + 1, 1 << 62] {
            let read = device.open().read_at(&mut [0; 10], offset);
            assert_eq!(read.expect("pread"), 0);
        }
    });
}

#[test]
fn write_stops_at_the_end() {
    on_every_node(|device| {
        let mut file = open_at(device, device.end() - 96);
        assert_eq!(file.write(&[1; 200]).expect("write"), 96);
        assert_eq!(errno(file.write(&[2])), libc::ENOSPC);
        let contents = device.contents();
        assert_eq!(contents[device.len() - 97..], [&[0][..], &[1; 96]].concat());
    });
}

#[test]
fn the_byte_after_the_last_cannot_be_written() {
    on_every_node(|device| {
        let file = device.open();
        assert_eq!(
            file.write_at(&vec![1; device.len() + 1], 0).expect("write"),
            device.len()
        );
        for offset in [device.end(), device.end() + 1, 1 << 62] {
            assert_eq!(errno(file.write_at(&[1], offset)), libc::ENOSPC);
        }
    });
}

#[test]
fn nothing_can_be_written_anywhere() {
    on_every_node(|device| {
        for offset in [0, device.end(), device.end() + 1] {
            let written = device.open().write_at(&[], offset);
            assert_eq!(written.expect("write of no bytes"), 0);
        }
    });
}

#[test]
fn offsets_are_not_negative() {
    on_every_node(|device| {
        let file = device.open();
        // -1, as the system sees it.
        assert_eq!(errno(file.read_at(&mut [0], u64::MAX)), libc::EINVAL);
        assert_eq!(errno(file.write_at(&[0], u64::MAX)), libc::EINVAL);
    });
}

#[test]
fn positioned_calls_leave_the_offset_alone() {
    on_every_node(|device| {
        let mut file = open_at(device, 5);
        file.write_all_at(b"x", 50).expect("pwrite");
        file.read_exact_at(&mut [0], 50).expect("pread");
        assert_eq!(file.stream_position().expect("position"), 5);
    });
}

#[test]
fn vectors_stop_at_the_end_too() {
    on_every_node(|device| {
        let from = [IoSlice::new(&[1; 10]), IoSlice::new(&[2; 10])];
        let written = open_at(device, device.end() - 15).write_vectored(&from);
        assert_eq!(written.expect("writev"), 15);

        let (mut first, mut second) = ([0; 10], [0; 10]);
        let mut to = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        let read = open_at(device, device.end() - 15).read_vectored(&mut to);
        assert_eq!(read.expect("readv"), 15);
        assert_eq!(
            (first, &second[..5], &second[5..]),
            ([1; 10], &[2; 5][..], &[0; 5][..])
        );
    });
}

#[test]
fn a_descriptor_does_only_what_it_is_open_for() {
    on_every_node(|device| {
        let mut reader = device.open_with(OpenOptions::new().read(true));
        assert_eq!(errno(reader.write(&[1])), libc::EBADF);
        let mut writer = device.open_with(OpenOptions::new().write(true));
        assert_eq!(errno(writer.read(&mut [1])), libc::EBADF);
    });
}

#[test]
fn the_length_cannot_be_changed() {
    on_every_node(|device| {
        assert_eq!(errno(device.open().set_len(0)), libc::EINVAL);
        // open(2): O_TRUNC is ignored by a device.
        device.open().write_all_at(b"kept", 0).expect("write");
        drop(device.open_with(OpenOptions::new().write(true).truncate(true)));
        assert_eq!(device.contents()[..4], *b"kept");
    });
}

#[test]
fn syncing_has_nothing_to_do_and_succeeds() {
    on_every_node(|device| {
        device.open().sync_all().expect("fsync");
        device.open().sync_data().expect("fdatasync");
    });
}
