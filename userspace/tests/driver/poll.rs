//! `poll(2)`, `epoll(7)` and `/proc/PID/fdinfo`.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::fixture::{Node, map, on_every_node};

/// A set that waits for `file`, under the number 7, for whatever `how` says.
fn set_of(file: &File, how: EpollFlags) -> Epoll {
    let set = Epoll::new(EpollCreateFlags::empty()).expect("make a set");
    set.add(file, EpollEvent::new(how, 7))
        .expect("add the file");
    set
}

/// What the set has to say now.
fn events(set: &Epoll) -> Vec<(u64, EpollFlags)> {
    let mut found = [EpollEvent::empty(); 4];
    let count = set
        .wait(&mut found, EpollTimeout::ZERO)
        .expect("ask the set");
    let of = |event: &EpollEvent| (event.data(), event.events());
    found[..count].iter().map(of).collect()
}

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

/// Ready for both, which is all that is asked for below.
const BOTH: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLOUT);

#[test]
fn a_set_always_finds_it_ready() {
    on_every_node(|device| {
        let file = device.open();
        let set = set_of(&file, BOTH);
        assert_eq!(events(&set), [(7, BOTH)]);
        assert_eq!(events(&set), [(7, BOTH)], "the same again");
        let again = set.add(&file, EpollEvent::new(BOTH, 8));
        assert_eq!(again, Err(Errno::EEXIST));
        set.delete(&file).expect("remove the file");
        assert_eq!(events(&set), []);
        assert_eq!(set.delete(&file), Err(Errno::ENOENT));

        // Nothing ever changes, so a change is reported once: that there is something at all.
        let edges = set_of(&file, BOTH | EpollFlags::EPOLLET);
        assert_eq!(events(&edges), [(7, BOTH)]);
        assert_eq!(events(&edges), []);
    });
}

#[test]
fn a_set_keeps_neither_the_file_nor_the_module() {
    on_every_node(|device| {
        let file = device.open();
        let set = set_of(&file, BOTH);
        device.assert_in_use();
        drop(file);
        assert_eq!(events(&set), [], "the file has left the set");
        device.unload();
        assert_eq!(events(&set), []);
        device.load();
        assert_eq!(
            events(&set),
            [],
            "another file is not the one that was there"
        );
    });
}

#[test]
fn a_file_stays_in_a_set_until_its_last_descriptor_or_mapping_goes() {
    on_every_node(|device| {
        let file = device.open();
        let set = set_of(&file, BOTH);
        let copy = file.try_clone().expect("duplicate");
        let mapping = map(&file, device.whole()).expect("map");
        drop(file);
        assert_eq!(events(&set), [(7, BOTH)], "a descriptor is left");
        drop(copy);
        assert_eq!(events(&set), [(7, BOTH)], "a mapping is left");
        device.assert_in_use();
        mapping.unmap().expect("unmap");
        assert_eq!(events(&set), []);
        device.unload();
        device.load();
    });
}

#[test]
fn a_set_of_sets_may_go_first() {
    on_every_node(|device| {
        let file = device.open();
        let inner = set_of(&file, BOTH);
        let outer = Epoll::new(EpollCreateFlags::empty()).expect("make a set");
        outer
            .add(&inner.0, EpollEvent::new(EpollFlags::EPOLLIN, 9))
            .expect("add the set");
        assert_eq!(events(&outer), [(9, EpollFlags::EPOLLIN)]);
        drop(inner);
        assert_eq!(events(&outer), []);
        drop(file);
        device.unload();
        drop(outer);
        device.load();
    });
}
