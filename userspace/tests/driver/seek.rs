//! `lseek(2)`: the device is a file of a fixed length, all of it data.

use std::fs::File;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::fixture::{Device, LEN};

/// The length as an offset.
#[expect(
    clippy::cast_possible_wrap,
    reason = "a length of this size is a valid offset"
)]
const END: i64 = LEN as i64;

/// Where the next read or write of `file` would start.
fn position(file: &File) -> i64 {
    lseek(file, 0, Whence::SeekCur).expect("ask for the position")
}

#[test]
fn seek_end_tells_the_length() {
    let device = Device::take();
    assert_eq!(lseek(device.open(), 0, Whence::SeekEnd), Ok(END));
}

#[test]
fn a_new_descriptor_starts_at_the_first_byte() {
    let device = Device::take();
    assert_eq!(position(&device.open()), 0);
}

#[test]
fn seek_reaches_the_end_and_no_further() {
    let device = Device::take();
    let file = device.open();
    for (offset, whence) in [
        (END, Whence::SeekSet),
        (END, Whence::SeekCur),
        (0, Whence::SeekEnd),
    ] {
        lseek(&file, 0, Whence::SeekSet).expect("go back");
        assert_eq!(lseek(&file, offset, whence), Ok(END));
        assert_eq!(position(&file), END);
    }
    for (offset, whence) in [
        (END + 1, Whence::SeekSet),
        (1, Whence::SeekCur),
        (i64::MAX, Whence::SeekCur),
        (1, Whence::SeekEnd),
    ] {
        assert_eq!(lseek(&file, offset, whence), Err(Errno::EINVAL));
        assert_eq!(position(&file), END, "a refused seek moved the offset");
    }
}

#[test]
fn seek_reaches_the_start_and_no_further() {
    let device = Device::take();
    let file = device.open();
    lseek(&file, 10, Whence::SeekSet).expect("go into the middle");
    for (offset, whence) in [
        (-1, Whence::SeekSet),
        (i64::MIN, Whence::SeekSet),
        (-11, Whence::SeekCur),
        (-END - 1, Whence::SeekEnd),
    ] {
        assert_eq!(lseek(&file, offset, whence), Err(Errno::EINVAL));
        assert_eq!(position(&file), 10, "a refused seek moved the offset");
    }
    assert_eq!(lseek(&file, -10, Whence::SeekCur), Ok(0));
    assert_eq!(lseek(&file, -END, Whence::SeekEnd), Ok(0));
}

#[test]
fn all_of_it_is_data() {
    let device = Device::take();
    let file = device.open();
    for offset in [0, 10, END - 1] {
        assert_eq!(lseek(&file, offset, Whence::SeekData), Ok(offset));
        assert_eq!(lseek(&file, offset, Whence::SeekHole), Ok(END));
    }
}

#[test]
fn there_is_no_data_and_no_hole_outside() {
    let device = Device::take();
    let file = device.open();
    for offset in [END, i64::MAX, -1] {
        for whence in [Whence::SeekData, Whence::SeekHole] {
            assert_eq!(lseek(&file, offset, whence), Err(Errno::ENXIO));
        }
    }
}

#[test]
fn descriptors_have_offsets_of_their_own() {
    let device = Device::take();
    let (one, other) = (device.open(), device.open());
    lseek(&one, 7, Whence::SeekSet).expect("move one");
    assert_eq!(position(&other), 0);
}
