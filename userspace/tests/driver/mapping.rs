//! `mmap(2)`: what may be mapped, what is refused, and who sees a store.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use memmap2::MmapOptions;
use mmapdemo::map_call::MapCall;
use mmapdemo::sys::PAGE_SIZE;
use nix::errno::Errno;
use nix::sys::mman::{MsFlags, ProtFlags};

use crate::fixture::{map, on_every_node, run};

/// The errno with which the kernel refuses to map `file`.
#[track_caller]
fn refusal(file: &File, call: MapCall) -> Errno {
    map(file, call).expect_err("the call was to fail")
}

#[test]
fn one_byte_more_than_the_buffer_is_refused() {
    on_every_node(|device| {
        let file = device.open();
        for len in [device.len() + 1, 2 * device.len(), 1 << 21] {
            for call in [device.whole(), device.private()] {
                assert_eq!(refusal(&file, MapCall { len, ..call }), Errno::EINVAL);
            }
        }
    });
}

#[test]
fn no_bytes_are_refused() {
    on_every_node(|device| {
        let file = device.open();
        assert_eq!(
            refusal(
                &file,
                MapCall {
                    len: 0,
                    ..device.whole()
                }
            ),
            Errno::EINVAL
        );
    });
}

#[test]
fn less_than_a_page_shows_the_whole_page() {
    on_every_node(|device| {
        let short = map(
            &device.open(),
            MapCall {
                len: 1,
                ..device.whole()
            },
        )
        .expect("map one byte");
        short
            .store(PAGE_SIZE - 1, 7)
            .expect("store to the last byte");
        assert_eq!(device.contents()[PAGE_SIZE - 1], 7);
    });
}

#[test]
fn an_offset_past_the_buffer_is_refused() {
    on_every_node(|device| {
        let file = device.open();
        // The last: pages whose numbers differ from those of the buffer in the highest bits only.
        for offset in [4096, 4 * 4096, 1 << 40, 1 << 62, i64::MIN] {
            for call in [device.whole(), device.private()] {
                assert_eq!(refusal(&file, MapCall { offset, ..call }), Errno::EINVAL);
            }
        }
    });
}

#[test]
fn an_offset_whose_end_cannot_be_counted_is_refused() {
    on_every_node(|device| {
        let file = device.open();
        // Negative offsets are huge ones here (`file_mmap_ok()` in mm/mmap.c): the last page there is
        // ends one byte too far; some pages before it, it is only far past the buffer.
        let refused = |offset| {
            refusal(
                &file,
                MapCall {
                    offset,
                    ..device.whole()
                },
            )
        };
        assert_eq!(refused(-4096), Errno::EOVERFLOW);
        assert_eq!(refused(-5 * 4096), Errno::EINVAL);
    });
}

#[test]
fn an_offset_within_a_page_is_refused() {
    on_every_node(|device| {
        let file = device.open();
        for offset in [1, 2048, 4095] {
            assert_eq!(
                refusal(
                    &file,
                    MapCall {
                        offset,
                        ..device.whole()
                    }
                ),
                Errno::EINVAL
            );
        }
    });
}

#[test]
fn a_mapping_allows_no_more_than_its_descriptor() {
    on_every_node(|device| {
        let reader = device.open_with(OpenOptions::new().read(true));
        let writer = device.open_with(OpenOptions::new().write(true));
        assert_eq!(refusal(&reader, device.whole()), Errno::EACCES);
        assert_eq!(refusal(&writer, device.whole()), Errno::EACCES);

        let prot = ProtFlags::PROT_READ;
        let mut readable = map(
            &reader,
            MapCall {
                prot,
                ..device.whole()
            },
        )
        .expect("map for reading");
        assert_eq!(readable.protect(device.whole().prot), Err(Errno::EACCES));

        let private = map(&reader, device.private()).expect("stores to a copy need no permission");
        private.store(0, 1).expect("store");
        device.assert_filled_with(0);
    });
}

#[test]
fn mappings_of_two_opens_share_the_bytes() {
    on_every_node(|device| {
        let one = map(&device.open(), device.whole()).expect("map");
        let other = map(&device.open(), device.whole()).expect("map again");
        one.store(0, 1).expect("store");
        assert_eq!(other.load(0).expect("load"), 1);
        other.store(device.len() - 1, 2).expect("store");
        assert_eq!(one.load(device.len() - 1).expect("load"), 2);
    });
}

#[test]
fn read_sees_a_store_and_a_load_sees_a_write() {
    on_every_node(|device| {
        let file = device.open();
        let mapping = map(&file, device.whole()).expect("map");
        mapping.store_bytes(10, b"stored").expect("store");
        let mut read = [0; 6];
        file.read_exact_at(&mut read, 10).expect("read");
        assert_eq!(&read, b"stored");

        file.write_all_at(b"written", 20).expect("write");
        assert_eq!(mapping.load_bytes(20, 7).expect("load"), b"written");
    });
}

#[test]
fn an_unrelated_process_sees_a_store() {
    on_every_node(|device| {
        let mapping = map(&device.open(), device.whole()).expect("map");
        mapping.store_bytes(0, b"for all\n").expect("store");
        let output = run("/bin/head", &["-n", "1", device.node()]);
        assert_eq!(output.stdout, b"for all\n", "{output:?}");
    });
}

#[test]
fn a_private_store_does_not_leak() {
    on_every_node(|device| {
        let shared = map(&device.open(), device.whole()).expect("map");
        let private = map(&device.open(), device.private()).expect("map privately");
        let neighbour = map(&device.open(), device.private()).expect("map privately again");
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
    });
}

#[test]
fn a_mapping_outlives_its_descriptor() {
    on_every_node(|device| {
        let mapping = map(&device.open(), device.whole()).expect("map, and close at once");
        mapping.store(0, 9).expect("store");
        assert_eq!(device.contents()[0], 9);
    });
}

#[test]
fn flushing_has_nothing_to_do_and_succeeds() {
    on_every_node(|device| {
        let file = device.open();
        let mapping = map(&file, device.whole()).expect("map");
        for flags in [
            MsFlags::MS_SYNC,
            MsFlags::MS_ASYNC,
            MsFlags::MS_SYNC | MsFlags::MS_INVALIDATE,
        ] {
            assert_eq!(mapping.sync(flags), Ok(()), "{flags:?}");
        }
        let raw = MmapOptions::new()
            .len(device.len())
            .map_raw(&file)
            .expect("map");
        raw.flush().expect("flush all");
        raw.flush_range(1, 1).expect("flush one byte");
        raw.flush_async().expect("flush later");
    });
}
