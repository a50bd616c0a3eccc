//! `poll(2)`, `epoll(7)` and `/proc/PID/fdinfo`.

use std::os::fd::{AsFd, AsRawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::fixture::{Node, map, on_every_node};

#[test]
fn reading_and_writing_never_wait() {
    on_every_node(|device| {
        let file = device.open();
        let mut asked = [PollFd::new(file.as_fd(), PollFlags::all())];
        assert_eq!(poll(&mut asked, PollTimeout::ZERO), Ok(1));
        let ready =
            PollFlags::POLLIN | PollFlags::POLLRDNORM | PollFlags::POLLOUT | PollFlags::POLLWRNORM;
        assert_eq!(asked[0].revents(), Some(ready));
    });
}

#[test]
fn fdinfo_tells_what_is_open() {
    on_every_node(|device| {
        let file = device.open();
        let mapping = map(&file, device.whole()).expect("map");
        mapping.load(0).expect("load");
        let path = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
        let fdinfo = std::fs::read_to_string(path).expect("read fdinfo");
        let (strategy, faults) = match device.strategy() {
            Node::InsertPage => ("vm_insert_page", 0),
            Node::RemapPfn => ("remap_pfn_range", 0),
            Node::Fault => ("fault", 1),
        };
        let told = format!(
            "strategy:\t{strategy}\nsize:\t{}\nmappings:\t1\nfaults:\t{faults}\n",
            device.len()
        );
        assert!(fdinfo.ends_with(&told), "{fdinfo}");
    });
}
