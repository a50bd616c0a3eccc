//! `lseek(2)`: the device is a file of a fixed length, all of it data.

use std::fs::File;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::fixture::{Device, on_every_node};

/// The length as an offset.
fn end(device: &Device) -> i64 {
    i64::try_from(device.len()).expect("an offset")
}

/// Where the next read or write of `file` would start.
fn position(file: &File) -> i64 {
    lseek(file, 0, Whence::SeekCur).expect("ask for the position")
}

#[test]
fn seek_end_tells_the_length() {
    on_every_node(|device| {
        assert_eq!(lseek(device.open(), 0, Whence::SeekEnd), Ok(end(device)));
    });
}

#[test]
fn a_new_descriptor_starts_at_the_first_byte() {
    on_every_node(|device| {
        assert_eq!(position(&device.open()), 0);
    });
}

#[test]
fn seek_reaches_the_end_and_no_further() {
    on_every_node(|device| {
        let file = device.open();
        for (offset, whence) in [
            (end(device), Whence::SeekSet),
            (end(device), Whence::SeekCur),
            (0, Whence::SeekEnd),
        ] {
            lseek(&file, 0, Whence::SeekSet).expect("go back");
            assert_eq!(lseek(&file, offset, whence), Ok(end(device)));
            assert_eq!(position(&file), end(device));
        }
        for (offset, whence) in [
            (end(device) + 1, Whence::SeekSet),
            (1, Whence::SeekCur),
            (i64::MAX, Whence::SeekCur),
            (1, Whence::SeekEnd),
        ] {
            assert_eq!(lseek(&file, offset, whence), Err(Errno::EINVAL));
            assert_eq!(
                position(&file),
                end(device),
                "a refused seek moved the offset"
            );
        }
    });
}

#[test]
fn seek_reaches_the_start_and_no_further() {
    on_every_node(|device| {
        let file = device.open();
        lseek(&file, 10, Whence::SeekSet).expect("go into the middle");
        for (offset, whence) in [
            (-1, Whence::SeekSet),
            (i64::MIN, Whence::SeekSet),
            (-11, Whence::SeekCur),
            (-end(device) - 1, Whence::SeekEnd),
        ] {
            assert_eq!(lseek(&file, offset, whence), Err(Errno::EINVAL));
            assert_eq!(position(&file), 10, "a refused seek moved the offset");
        }
        assert_eq!(lseek(&file, -10, Whence::SeekCur), Ok(0));
        assert_eq!(lseek(&file, -end(device), Whence::SeekEnd), Ok(0));
    });
}

#[test]
fn all_of_it_is_data() {
    on_every_node(|device| {
        let file = device.open();
        for offset in [0, 10, end(device) - 1] {
            assert_eq!(lseek(&file, offset, Whence::SeekData), Ok(offset));
            assert_eq!(lseek(&file, offset, Whence::SeekHole), Ok(end(device)));
        }
    });
}

#[test]
fn there_is_no_data_and_no_hole_outside() {
    on_every_node(|device| {
        let file = device.open();
        for offset in [end(device), i64::MAX, -1] {
            for whence in [Whence::SeekData, Whence::SeekHole] {
                assert_eq!(lseek(&file, offset, whence), Err(Errno::ENXIO));
            }
        }
    });
}

#[test]
fn descriptors_have_offsets_of_their_own() {
    on_every_node(|device| {
        let (one, other) = (device.open(), device.open());
        lseek(&one, 7, Whence::SeekSet).expect("move one");
        assert_eq!(position(&other), 0);
    });
}
