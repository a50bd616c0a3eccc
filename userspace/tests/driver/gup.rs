//! The kernel's own test of `mm/gup.c`, on pages of the device (`CONFIG_GUP_TEST`).

use std::fs::File;
use std::os::fd::AsFd;

use mmapdemo::sys::gup_test::{self, Way};
use mmapdemo::sys::ioctl;

use crate::fixture::{Device, Node, map, on_every_node};

/// Finds that nobody but the driver, and `mapped` page table entries, has references to the pages.
fn assert_references(device: &Device, mapped: i32) {
    let file = device.open();
    for pgoff in 0..device.nr_pages() as u64 {
        let page = ioctl::page_info(file.as_fd(), pgoff).expect("page info");
        assert_eq!(
            (page.refcount, page.mapcount),
            (1 + mapped, mapped),
            "page {pgoff}"
        );
    }
}

#[test]
fn the_kernel_gets_the_pages_where_it_knows_them_in_every_way_and_gives_them_back() {
    let kernel = File::open(gup_test::PATH).expect("the kernel's test of gup");
    on_every_node(|device| {
        let (pages, mapped) = match device.strategy() {
            Node::RemapPfn => (0, 0),
            Node::InsertPage | Node::Fault => (device.nr_pages(), 1),
        };
        for way in Way::ALL {
            let mapping = map(&device.open(), device.whole()).expect("map");
            let taken = gup_test::take(kernel.as_fd(), &mapping, way);
            assert_eq!(taken, Ok(pages), "{way:?} on {}", device.node());
            assert_references(device, mapped);
            mapping.unmap().expect("unmap");
            assert_references(device, 0);
        }
    });
}

#[test]
fn what_is_mapped_privately_is_copied_before_it_is_taken_for_writing() {
    let kernel = File::open(gup_test::PATH).expect("the kernel's test of gup");
    on_every_node(|device| {
        // The VMA says that frames are not of pages, and is not asked what is there instead.
        let pages = match device.strategy() {
            Node::RemapPfn => 0,
            Node::InsertPage | Node::Fault => device.nr_pages(),
        };
        for way in Way::ALL {
            let mapping = map(&device.open(), device.private()).expect("map");
            let taken = gup_test::take(kernel.as_fd(), &mapping, way);
            assert_eq!(taken, Ok(pages), "{way:?} on {}", device.node());
            assert_references(device, 0);
        }
    });
}

#[test]
fn the_copy_of_a_frame_is_a_page_for_those_who_read_the_page_table_alone() {
    let kernel = File::open(gup_test::PATH).expect("the kernel's test of gup");
    let device = Device::with(Node::RemapPfn, 1);
    for way in Way::ALL {
        let mapping = map(&device.open(), device.private()).expect("map");
        mapping.store(0, 1).expect("store");
        let pages = usize::from(matches!(way, Way::GetFast | Way::PinFast));
        let taken = gup_test::take(kernel.as_fd(), &mapping, way);
        assert_eq!(taken, Ok(pages), "{way:?}");
        assert_references(&device, 0);
    }
}
