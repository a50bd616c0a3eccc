//! Pages that the kernel has pinned for somebody (`io_uring(7)`): what becomes of them when all else goes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use mmapdemo::sys::PAGE_SIZE;
use mmapdemo::sys::ioctl;
use mmapdemo::sys::pinned::Pinned;
use nix::errno::Errno;
use nix::unistd::pipe;

use crate::fixture::{Device, Node, map, on_every_node};

/// What pinning a page adds to its references (`GUP_PIN_COUNTING_BIAS` in `include/linux/mm.h`).
const PIN: i32 = 1024;

/// The references to each page of the buffer.
fn references(device: &Device) -> Vec<i32> {
    let file = device.open();
    let nr_pages = device.nr_pages() as u64;
    let of = |pgoff| ioctl::page_info(file.as_fd(), pgoff).expect("page info");
    (0..nr_pages).map(|pgoff| of(pgoff).refcount).collect()
}

/// The device's pages, pinned, with `what` in front; mapped and open no more. `None` where frames have no pages.
fn pin(device: &Device, what: &[u8]) -> Option<Pinned> {
    let mapping = map(&device.open(), device.whole()).expect("map");
    mapping.store_bytes(0, what).expect("store");
    let pinned = Pinned::new(&mapping);
    device.assert_in_use();
    mapping.unmap().expect("unmap");
    if device.strategy() == Node::RemapPfn {
        assert_eq!(pinned.err(), Some(Errno::EFAULT));
        return None;
    }
    Some(pinned.expect("pin"))
}

/// The first bytes of what is pinned, by way of a pipe.
fn first_bytes(pinned: &Pinned, len: u32) -> Vec<u8> {
    let (from, to) = pipe().expect("make a pipe");
    let written = pinned.write_to(to.as_fd(), 0, len);
    assert_eq!(written, Ok(len as usize));
    drop(to);
    let mut bytes = Vec::new();
    File::from(from).read_to_end(&mut bytes).expect("read");
    bytes
}

/// A pipe with `what` in it.
fn pipe_with(what: &[u8]) -> OwnedFd {
    let (from, to) = pipe().expect("make a pipe");
    File::from(to).write_all(what).expect("fill the pipe");
    from
}

#[test]
fn pinned_pages_stay_those_of_the_device() {
    on_every_node(|device| {
        let alone = vec![1; device.nr_pages()];
        let Some(pinned) = pin(device, b"seen") else {
            assert_eq!(references(device), alone);
            return;
        };
        let by_pin = vec![1 + PIN; device.nr_pages()];
        assert_eq!(references(device), by_pin, "pinned, and not mapped");
        assert_eq!(device.info().mappings, 0);

        assert_eq!(first_bytes(&pinned, 4), b"seen");
        let from = pipe_with(b"new");
        let last = device.len() - PAGE_SIZE;
        assert_eq!(pinned.read_from(from.as_fd(), last, 3), Ok(3));
        assert_eq!(&device.contents()[last..][..3], b"new");
        let beyond = pinned.write_to(from.as_fd(), device.len(), 1);
        assert_eq!(beyond, Err(Errno::EFAULT), "a byte after the last page");

        pinned.release().expect("release");
        assert_eq!(references(device), alone);
    });
}

#[test]
fn pinned_pages_outlive_the_module() {
    on_every_node(|device| {
        let Some(pinned) = pin(device, b"kept") else {
            device.unload();
            device.load();
            return;
        };
        // A pin keeps the pages, not the module: nothing of it is ever called for them.
        device.unload();
        device.load();
        assert_eq!(first_bytes(&pinned, 4), b"kept");
        let from = pipe_with(&vec![0xff; PAGE_SIZE]);
        let len = u32::try_from(PAGE_SIZE).expect("a page");
        assert_eq!(pinned.read_from(from.as_fd(), 0, len), Ok(PAGE_SIZE));
        // These are pages of their own by now: the new buffer has others.
        device.assert_filled_with(0);
        pinned.release().expect("release");
        assert_eq!(references(device), vec![1; device.nr_pages()]);
    });
}

#[test]
fn an_exit_gives_back_what_was_pinned() {
    on_every_node(|device| {
        let pinned = pin(device, b"left");
        // As exit does: the descriptor of the ring is closed, and nothing was unregistered.
        drop(pinned);
        await_references(device, 1);
    });
}

/// Waits until each page has as many references: a ring is taken down by a worker of the kernel.
fn await_references(device: &Device, wanted: i32) {
    let deadline = std::time::Instant::now() + mmapdemo::turn::TURN;
    while references(device).iter().any(|&found| found != wanted) {
        assert!(
            std::time::Instant::now() < deadline,
            "{:?}",
            references(device)
        );
        std::thread::yield_now();
    }
}

#[test]
fn what_is_mapped_privately_is_copied_before_it_is_pinned() {
    on_every_node(|device| {
        let file = device.open();
        let mapping = map(&file, device.private()).expect("map");
        let pinned = Pinned::new(&mapping);
        if device.strategy() == Node::RemapPfn {
            assert_eq!(pinned.err(), Some(Errno::EFAULT));
            return;
        }
        let pinned = pinned.expect("pin");
        mapping.store_bytes(0, b"mine").expect("store");
        assert_eq!(first_bytes(&pinned, 4), b"mine");
        device.assert_filled_with(0);
        assert!(references(device).iter().all(|&found| found < PIN));
    });
}
