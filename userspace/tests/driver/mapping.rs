//! `mmap(2)`: what may be mapped, what is refused, and who sees a store.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use memmap2::MmapOptions;
use mmapdemo::evidence::Touch;
use mmapdemo::map_call::MapCall;
use mmapdemo::probe::{Access, touch};
use mmapdemo::procfs;
use mmapdemo::sys::Mapping;
use nix::errno::Errno;
use nix::sys::mman::{MmapAdvise, MsFlags, ProtFlags};

use crate::fixture::{Device, LEN, NODE, PRIVATE, WHOLE, map, run};

/// The errno with which the kernel refuses to map `file`.
#[track_caller]
fn refusal(file: &File, call: MapCall) -> Errno {
    map(file, call).expect_err("the call was to fail")
}

#[test]
fn one_byte_more_than_the_buffer_is_refused() {
    let device = Device::take();
    let file = device.open();
    for len in [LEN + 1, 2 * LEN, 1 << 20] {
        for call in [WHOLE, PRIVATE] {
            assert_eq!(refusal(&file, MapCall { len, ..call }), Errno::EINVAL);
        }
    }
}

#[test]
fn no_bytes_are_refused() {
    let device = Device::take();
    let file = device.open();
    assert_eq!(refusal(&file, MapCall { len: 0, ..WHOLE }), Errno::EINVAL);
}

#[test]
fn less_than_a_page_shows_the_whole_page() {
    let device = Device::take();
    let short = map(&device.open(), MapCall { len: 1, ..WHOLE }).expect("map one byte");
    short.store(LEN - 1, 7).expect("store to the last byte");
    assert_eq!(device.contents()[LEN - 1], 7);
}

#[test]
fn an_offset_past_the_buffer_is_refused() {
    let device = Device::take();
    let file = device.open();
    // The last: pages whose numbers differ from those of the buffer in the highest bits only.
    for offset in [4096, 8192, 1 << 40, 1 << 62, i64::MIN] {
        for call in [WHOLE, PRIVATE] {
            assert_eq!(refusal(&file, MapCall { offset, ..call }), Errno::EINVAL);
        }
    }
}

#[test]
fn an_offset_whose_end_cannot_be_counted_is_refused() {
    let device = Device::take();
    let file = device.open();
    // Negative offsets are huge ones here (`file_mmap_ok()` in mm/mmap.c): the last page there is
    // ends one byte too far; the one before it is only far past the buffer.
    let refused = |offset| refusal(&file, MapCall { offset, ..WHOLE });
    assert_eq!(refused(-4096), Errno::EOVERFLOW);
    assert_eq!(refused(-8192), Errno::EINVAL);
}

#[test]
fn an_offset_within_a_page_is_refused() {
    let device = Device::take();
    let file = device.open();
    for offset in [1, 2048, 4095] {
        assert_eq!(refusal(&file, MapCall { offset, ..WHOLE }), Errno::EINVAL);
    }
}

#[test]
fn a_mapping_allows_no_more_than_its_descriptor() {
    let device = Device::take();
    let reader = device.open_with(OpenOptions::new().read(true));
    let writer = device.open_with(OpenOptions::new().write(true));
    assert_eq!(refusal(&reader, WHOLE), Errno::EACCES);
    assert_eq!(refusal(&writer, WHOLE), Errno::EACCES);

    let prot = ProtFlags::PROT_READ;
    let mut readable = map(&reader, MapCall { prot, ..WHOLE }).expect("map for reading");
    assert_eq!(readable.protect(WHOLE.prot), Err(Errno::EACCES));

    let private = map(&reader, PRIVATE).expect("stores to a copy need no permission");
    private.store(0, 1).expect("store");
    device.assert_filled_with(0);
}

#[test]
fn mappings_of_two_opens_share_the_bytes() {
    let device = Device::take();
    let one = map(&device.open(), WHOLE).expect("map");
    let other = map(&device.open(), WHOLE).expect("map again");
    let frame = |of: &Mapping| procfs::page(of.addr()).expect("read pagemap").pfn;
    assert!(
        frame(&one).is_some(),
        "the page is there before it is touched"
    );
    assert_eq!(frame(&one), frame(&other));

    one.store(0, 1).expect("store");
    assert_eq!(other.load(0).expect("load"), 1);
    other.store(LEN - 1, 2).expect("store");
    assert_eq!(one.load(LEN - 1).expect("load"), 2);
}

#[test]
fn read_sees_a_store_and_a_load_sees_a_write() {
    let device = Device::take();
    let file = device.open();
    let mapping = map(&file, WHOLE).expect("map");
    mapping.store_bytes(10, b"stored").expect("store");
    let mut read = [0; 6];
    file.read_exact_at(&mut read, 10).expect("read");
    assert_eq!(&read, b"stored");

    file.write_all_at(b"written", 20).expect("write");
    assert_eq!(mapping.load_bytes(20, 7).expect("load"), b"written");
}

#[test]
fn an_unrelated_process_sees_a_store() {
    let device = Device::take();
    let mapping = map(&device.open(), WHOLE).expect("map");
    mapping.store_bytes(0, b"for all\n").expect("store");
    let output = run("/bin/head", &["-n", "1", NODE]);
    assert_eq!(output.stdout, b"for all\n", "{output:?}");
}

#[test]
fn a_private_store_does_not_leak() {
    let device = Device::take();
    let shared = map(&device.open(), WHOLE).expect("map");
    let private = map(&device.open(), PRIVATE).expect("map privately");
    let neighbour = map(&device.open(), PRIVATE).expect("map privately again");
    shared.store(0, 1).expect("store");
    assert_eq!(private.load(0).expect("load"), 1, "nothing stored yet");

    private.store(1, 2).expect("store to the copy");
    for other in [&shared, &neighbour] {
        assert_eq!(other.load(1).expect("load"), 0);
    }
    assert_eq!(device.contents()[..2], [1, 0]);

    shared.store(0, 3).expect("store");
    assert_eq!(private.load(0).expect("load"), 1, "the page was copied");
    assert_eq!(neighbour.load(0).expect("load"), 3, "the page was not");
}

#[test]
fn a_mapping_outlives_its_descriptor() {
    let device = Device::take();
    let mapping = map(&device.open(), WHOLE).expect("map, and close at once");
    mapping.store(0, 9).expect("store");
    assert_eq!(device.contents()[0], 9);
}

#[test]
fn mremap_cannot_grow_past_the_buffer() {
    let device = Device::take();
    for call in [WHOLE, PRIVATE] {
        let mut mapping = map(&device.open(), call).expect("map");
        for len in [LEN + 1, 2 * LEN] {
            // EFAULT is what mremap(2) gives for a range that may not grow: VM_DONTEXPAND.
            assert_eq!(mapping.resize(len), Err(Errno::EFAULT));
        }
        mapping.store(0, 1).expect("what was mapped is still there");
    }
}

#[test]
fn flushing_has_nothing_to_do_and_succeeds() {
    let device = Device::take();
    let file = device.open();
    let mapping = map(&file, WHOLE).expect("map");
    for flags in [
        MsFlags::MS_SYNC,
        MsFlags::MS_ASYNC,
        MsFlags::MS_SYNC | MsFlags::MS_INVALIDATE,
    ] {
        assert_eq!(mapping.sync(flags), Ok(()), "{flags:?}");
    }
    let raw = MmapOptions::new().len(LEN).map_raw(&file).expect("map");
    raw.flush().expect("flush all");
    raw.flush_range(1, 1).expect("flush one byte");
    raw.flush_async().expect("flush later");
}

#[test]
fn a_page_given_back_does_not_return() {
    let device = Device::take();
    let mut mapping = map(&device.open(), WHOLE).expect("map");
    mapping.store(0, 1).expect("store");
    mapping
        .advise(MmapAdvise::MADV_DONTNEED)
        .expect("give back");
    // It was put there by mmap, and no fault handler would do it again.
    match touch(mapping.addr(), Access::Load).expect("probe") {
        Touch::Faulted(fault) => assert_eq!(fault.signal, "SIGBUS"),
        Touch::Completed(value) => panic!("read {value}"),
    }
    assert_eq!(device.contents()[0], 1, "only this mapping has lost it");
}
