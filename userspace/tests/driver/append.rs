//! `O_APPEND` on a file that cannot grow: there is no room behind its end, so nothing is written.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;

use crate::fixture::{errno, on_every_node, run};

#[test]
fn appending_is_refused_for_lack_of_space() {
    on_every_node(|device| {
        let mut file = device.open_with(OpenOptions::new().append(true));
        assert_eq!(errno(file.write(b"x")), libc::ENOSPC);
        // pwrite(2), "Bugs": with O_APPEND, Linux takes the offset for the end of the file.
        assert_eq!(errno(file.write_at(b"x", 0)), libc::ENOSPC);
        device.assert_filled_with(0);
    });
}

#[test]
fn appending_nothing_succeeds() {
    on_every_node(|device| {
        let mut file = device.open_with(OpenOptions::new().append(true));
        assert_eq!(file.write(&[]).expect("write of no bytes"), 0);
    });
}

#[test]
fn the_shells_append_reports_the_lack_of_space() {
    on_every_node(|device| {
        let output = run("/bin/sh", &["-c", "echo x >> /dev/mmapdemo"]);
        assert!(!output.status.success(), "{output:?}");
        device.assert_filled_with(0);
    });
}
