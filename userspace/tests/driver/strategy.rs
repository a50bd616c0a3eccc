//! In which the nodes differ, and in which they do not.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use mmapdemo::evidence::Touch;
use mmapdemo::probe::{Access, touch};
use mmapdemo::procfs;
use mmapdemo::sys::{PAGE_SIZE, ioctl};
use nix::errno::Errno;
use nix::sys::mman::MmapAdvise;

use crate::fixture::{Device, Node, map, on_every_node};

#[test]
fn a_store_through_one_node_is_seen_through_the_others() {
    on_every_node(|device| {
        let mappings = Node::ALL.map(|node| {
            let file = File::options().read(true).write(true).open(node.path());
            map(&file.expect("open a node"), device.whole()).expect("map")
        });
        let own = map(&device.open(), device.whole()).expect("map");
        for page in 0..device.nr_pages() {
            let (offset, value) = (page * PAGE_SIZE, u8::try_from(page + 1).expect("few pages"));
            own.store(offset, value).expect("store");
            for mapping in &mappings {
                assert_eq!(mapping.load(offset).expect("load"), value);
            }
        }
    });
}

#[test]
fn a_write_to_one_node_is_read_from_the_others() {
    on_every_node(|device| {
        device.open().write_all_at(b"shared", 3).expect("write");
        for node in Node::ALL {
            let mut read = [0; 6];
            let file = File::open(node.path()).expect("open a node");
            file.read_exact_at(&mut read, 3).expect("read");
            assert_eq!(&read, b"shared", "{node:?}");
        }
    });
}

/// The frame that the kernel shows to be mapped at `addr`.
fn frame(addr: usize) -> Option<u64> {
    procfs::page(addr).expect("read pagemap").pfn
}

#[test]
fn pagemap_shows_pages_and_no_frames_without() {
    on_every_node(|device| {
        let mapping = map(&device.open(), device.whole()).expect("map");
        let untouched = frame(mapping.addr());
        mapping.load(0).expect("load");
        let touched = frame(mapping.addr());
        let page = Some(first_frame(device));
        match device.strategy() {
            Node::InsertPage => assert_eq!((untouched, touched), (page, page)),
            Node::RemapPfn => assert_eq!((untouched, touched), (None, None)),
            Node::Fault => assert_eq!((untouched, touched), (None, page)),
        }
    });
}

/// The frame of the first page, as the driver says.
fn first_frame(device: &Device) -> u64 {
    let info = ioctl::page_info(device.open().as_fd(), 0);
    info.expect("page info").pfn
}

#[test]
fn a_page_given_back_returns_if_somebody_is_there_to_bring_it() {
    on_every_node(|device| {
        let mut mapping = map(&device.open(), device.whole()).expect("map");
        mapping.store(0, 1).expect("store");
        let given = mapping.advise(MmapAdvise::MADV_DONTNEED);
        let found = touch(mapping.addr(), Access::Load).expect("probe");
        match (device.strategy(), given, found) {
            // It was put there by mmap, and no fault handler would do it again.
            (Node::InsertPage, Ok(()), Touch::Faulted(fault)) => assert_eq!(fault.signal, "SIGBUS"),
            // The kernel does not take away what it knows no page of.
            (Node::RemapPfn, Err(Errno::EINVAL), Touch::Completed(1))
            | (Node::Fault, Ok(()), Touch::Completed(1)) => {}
            (node, given, found) => panic!("{node:?}: {given:?}, then {found:?}"),
        }
        assert_eq!(device.contents()[0], 1, "at most this mapping has lost it");
    });
}
