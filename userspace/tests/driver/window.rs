//! Mappings of a part of the buffer: which bytes they show, and what may become of them.

use mmapdemo::map_call::MapCall;
use mmapdemo::process::{End, Process};
use mmapdemo::sys::PAGE_SIZE;
use mmapdemo::turn::TURN;
use nix::errno::Errno;
use nix::sys::mman::ProtFlags;

use crate::fixture::{Device, PRIVATE, SHARED, map, on_every_node, on_long_nodes};

/// Gives each page of the buffer its own first byte: its number, counted from 1.
fn number_pages(device: &Device) {
    let mapping = map(&device.open(), device.whole()).expect("map");
    for page in 0..device.nr_pages() {
        let number = u8::try_from(page + 1).expect("few pages");
        mapping.store(page * PAGE_SIZE, number).expect("store");
    }
}

#[test]
fn every_window_shows_its_own_pages() {
    on_every_node(|device| {
        number_pages(device);
        let file = device.open();
        for first in 0..device.nr_pages() {
            for end in first + 1..=device.nr_pages() {
                for call in [SHARED, PRIVATE] {
                    let call = MapCall {
                        len: (end - first) * PAGE_SIZE,
                        offset: i64::try_from(first * PAGE_SIZE).expect("an offset"),
                        ..call
                    };
                    let window = map(&file, call).expect("map a window");
                    for page in first..end {
                        let number = window.load((page - first) * PAGE_SIZE).expect("load");
                        assert_eq!(usize::from(number), page + 1, "{call:?}");
                    }
                }
            }
        }
    });
}

#[test]
fn no_window_ends_past_the_buffer() {
    on_every_node(|device| {
        let file = device.open();
        for first in 0..=device.nr_pages() {
            for call in [SHARED, PRIVATE] {
                let call = MapCall {
                    len: (device.nr_pages() - first + 1) * PAGE_SIZE,
                    offset: i64::try_from(first * PAGE_SIZE).expect("an offset"),
                    ..call
                };
                assert_eq!(map(&file, call).map(drop), Err(Errno::EINVAL), "{call:?}");
            }
        }
        assert_eq!(device.info().mappings, 0);
    });
}

#[test]
fn a_mapping_cannot_grow() {
    on_every_node(|device| {
        let mut mapping = map(&device.open(), device.whole()).expect("map");
        assert_eq!(mapping.resize(device.len() + PAGE_SIZE), Err(Errno::EFAULT));
        let mut first = map(&device.open(), SHARED).expect("map the first page");
        // Not even where there would be more of the buffer.
        assert_eq!(first.resize(2 * PAGE_SIZE), Err(Errno::EFAULT));
        assert_eq!(device.info().mappings, 2);
    });
}

#[test]
fn a_mapping_can_shrink() {
    on_every_node(|device| {
        number_pages(device);
        let mut mapping = map(&device.open(), device.whole()).expect("map");
        assert_eq!(mapping.resize(PAGE_SIZE), Ok(()));
        assert_eq!(mapping.load(0).expect("load"), 1);
        assert_eq!(device.info().mappings, 1);
    });
}

#[test]
fn a_hole_makes_two_mappings_of_one() {
    on_long_nodes(|device| {
        number_pages(device);
        for call in [device.whole(), device.private()] {
            let mut mapping = map(&device.open(), call).expect("map");
            let hole = MapCall {
                prot: ProtFlags::PROT_NONE,
                flags: PRIVATE.flags | libc::MAP_ANONYMOUS,
                ..PRIVATE
            };
            mapping
                .replace_page(PAGE_SIZE, hole, None)
                .expect("make a hole");
            assert_eq!(device.info().mappings, 2);
            assert_eq!(mapping.load(0).expect("load"), 1);
            assert_eq!(mapping.load(2 * PAGE_SIZE).expect("load"), 3);
            drop(mapping);
            assert_eq!(device.info().mappings, 0);
        }
    });
}

#[test]
fn a_page_mapped_over_its_neighbour_shows_itself() {
    on_long_nodes(|device| {
        number_pages(device);
        let file = device.open();
        let mut mapping = map(&file, device.whole()).expect("map");
        // The second page, over the first: what nonlinear mappings are made of.
        let second = MapCall {
            offset: 4096,
            ..SHARED
        };
        let fd = std::os::fd::AsFd::as_fd(&file);
        mapping.replace_page(0, second, Some(fd)).expect("map over");
        mapping.store(0, 9).expect("store");
        assert_eq!(mapping.load(PAGE_SIZE).expect("load"), 9);
        assert_eq!(device.contents()[0], 1);
        assert_eq!(device.info().mappings, 2);
    });
}

#[test]
fn a_child_sees_and_changes_the_same_pages() {
    on_every_node(|device| {
        number_pages(device);
        let mapping = map(&device.open(), device.whole()).expect("map");
        let last = device.len() - PAGE_SIZE;
        let private = map(&device.open(), device.private()).expect("map privately");
        private.store(1, 1).expect("store to a copy");
        let body = || {
            let counted = device.info().mappings == 4;
            let seen = mapping.load(last).ok().map(usize::from) == Some(device.nr_pages());
            let copy = private.load(1).ok() == Some(1) && private.store(1, 2).is_ok();
            let changed = mapping.store(last + 1, 7).is_ok();
            i32::from(!(counted && seen && copy && changed))
        };
        let child = Process::fork("the child", body).expect("fork");
        assert_eq!(child.wait(TURN).expect("wait"), End::Exited(0));
        assert_eq!(mapping.load(last + 1).expect("load"), 7);
        assert_eq!(
            private.load(1).expect("load"),
            1,
            "the child has its own copy"
        );
        assert_eq!(device.info().mappings, 2);
    });
}

#[test]
fn children_that_end_take_nothing_along() {
    /// More than anybody has references to the buffer.
    const NR_CHILDREN: usize = 32;
    on_every_node(|device| {
        number_pages(device);
        let mapping = map(&device.open(), device.whole()).expect("map");
        for _ in 0..NR_CHILDREN {
            let child = Process::fork("the child", || 0).expect("fork");
            assert_eq!(child.wait(TURN).expect("wait"), End::Exited(0));
        }
        let last = mapping.load(device.len() - PAGE_SIZE).expect("load");
        assert_eq!(usize::from(last), device.nr_pages());
        assert_eq!(device.info().mappings, 1);
    });
}
