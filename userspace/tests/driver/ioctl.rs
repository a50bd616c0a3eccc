//! `ioctl(2)`: what the kernel tells of the device, and what it does to the bytes itself.

use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use mmapdemo::cpu;
use mmapdemo::map_call::MapCall;
use mmapdemo::process::{End, Process};
use mmapdemo::sys::{Mapping, PAGE_SIZE, ioctl};
use mmapdemo::turn::TURN;
use mmapdemo::uapi::{self, Fill, Info};
use nix::errno::Errno;
use nix::sys::mman::ProtFlags;
use nix::unistd::{Uid, setuid};

use crate::fixture::{Device, Node, PRIVATE, SHARED, cliff, map, on_every_node};

/// The commands, of which all but the last have a structure.
const COMMANDS: [u32; 6] = [
    uapi::INFO,
    uapi::PAGE_INFO,
    uapi::FILL,
    uapi::INCREMENT,
    uapi::CHECKSUM,
    uapi::RESET,
];

/// `len` bytes of `value` from `offset` on.
fn bytes(offset: usize, len: usize, value: u8) -> Fill {
    Fill {
        offset: offset as u64,
        len: len as u64,
        value,
        ..Fill::default()
    }
}

/// The checksum that userspace computes.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(uapi::CHECKSUM_START, |sum, &byte| {
        uapi::checksum_step(sum, byte)
    })
}

/// One page of memory for structures.
fn memory(prot: ProtFlags) -> Mapping {
    let call = MapCall {
        prot,
        flags: PRIVATE.flags | libc::MAP_ANONYMOUS,
        ..PRIVATE
    };
    Mapping::new(call, None).expect("map memory")
}

#[test]
fn numbers_do_not_change() {
    // Programs that were compiled with these must go on to work.
    let numbers = [
        0x8020_d600,
        0xc018_d601,
        0x4018_d602,
        0x4008_d603,
        0xc018_d604,
        0x0000_d605,
    ];
    assert_eq!(COMMANDS, numbers);
}

#[test]
fn info_tells_strategy_and_size() {
    on_every_node(|device| {
        let strategy = match device.strategy() {
            Node::InsertPage => uapi::INSERT_PAGE,
            Node::RemapPfn => uapi::REMAP_PFN,
            Node::Fault => uapi::FAULT,
        };
        let told = Info {
            strategy,
            nr_pages: u32::try_from(device.nr_pages()).expect("a number of pages"),
            len: device.end(),
            ..Info::default()
        };
        assert_eq!(device.info(), told);
    });
}

#[test]
fn mappings_are_counted_until_they_are_gone() {
    on_every_node(|device| {
        let counted = || device.info().mappings;
        let one = map(&device.open(), device.whole()).expect("map");
        let other = map(&device.open(), device.private()).expect("map privately");
        assert_eq!(counted(), 2);
        let child = Process::fork("the child", || 0).expect("fork");
        assert_eq!(child.wait(TURN).expect("wait"), End::Exited(0));
        assert_eq!(counted(), 2, "those of a child go with it");
        drop(one);
        assert_eq!(counted(), 1);
        drop(other);
        assert_eq!(counted(), 0);
    });
}

#[test]
fn a_refused_mapping_is_not_counted() {
    on_every_node(|device| {
        let len = device.len() + 1;
        let call = MapCall { len, ..SHARED };
        assert_eq!(map(&device.open(), call).map(drop), Err(Errno::EINVAL));
        assert_eq!(device.info().mappings, 0);
    });
}

#[test]
fn only_the_fault_node_counts_faults() {
    on_every_node(|device| {
        let mapping = map(&device.open(), device.whole()).expect("map");
        for page in 0..device.nr_pages() {
            mapping.load(page * PAGE_SIZE).expect("load");
            mapping.store(page * PAGE_SIZE, 1).expect("store");
        }
        let faults = match device.strategy() {
            Node::Fault => device.nr_pages() as u64,
            Node::InsertPage | Node::RemapPfn => 0,
        };
        assert_eq!(device.info().faults, faults);
    });
}

#[test]
fn page_info_counts_references_and_mappings() {
    on_every_node(|device| {
        let last = device.end() / PAGE_SIZE as u64 - 1;
        let file = device.open();
        let counts = || {
            let info = ioctl::page_info(file.as_fd(), last).expect("page info");
            (info.refcount, info.mapcount)
        };
        assert_eq!(counts(), (1, 0), "the driver's own reference");
        let mapping = map(&file, device.whole()).expect("map");
        mapping.load(device.len() - 1).expect("load");
        let mapped = match device.strategy() {
            Node::RemapPfn => (1, 0),
            Node::InsertPage | Node::Fault => (2, 1),
        };
        assert_eq!(counts(), mapped);
        drop(mapping);
        assert_eq!(counts(), (1, 0));
    });
}

#[test]
fn the_pages_are_neighbours() {
    on_every_node(|device| {
        let file = device.open();
        let pfn = |pgoff| ioctl::page_info(file.as_fd(), pgoff).map(|info| info.pfn);
        let first = pfn(0).expect("page info");
        for pgoff in 0..device.nr_pages() as u64 {
            assert_eq!(pfn(pgoff), Ok(first + pgoff));
        }
        for pgoff in [device.nr_pages() as u64, u64::MAX] {
            assert_eq!(pfn(pgoff), Err(Errno::EINVAL));
        }
    });
}

#[test]
fn page_info_is_for_admins() {
    on_every_node(|device| {
        let file = device.open();
        let body = || {
            let Ok(()) = setuid(Uid::from_raw(65_534)) else {
                return 1;
            };
            let refused = ioctl::page_info(file.as_fd(), 0) == Err(Errno::EPERM);
            i32::from(!(refused && ioctl::info(file.as_fd()).is_ok()))
        };
        let child = Process::fork("nobody", body).expect("fork");
        assert_eq!(child.wait(TURN).expect("wait"), End::Exited(0));
    });
}

#[test]
fn the_kernel_fills_what_it_is_told_to() {
    on_every_node(|device| {
        let file = device.open();
        let mapping = map(&file, device.whole()).expect("map");
        ioctl::fill(file.as_fd(), bytes(1, device.len() - 2, 7)).expect("fill");
        let filled = [vec![0], vec![7; device.len() - 2], vec![0]].concat();
        assert_eq!(mapping.load_bytes(0, device.len()).expect("load"), filled);
        ioctl::fill(file.as_fd(), bytes(device.len(), 0, 9)).expect("fill nothing");
        assert_eq!(device.contents(), filled);
    });
}

#[test]
fn the_kernel_sees_what_userspace_has_stored() {
    on_every_node(|device| {
        let file = device.open();
        let mapping = map(&file, device.whole()).expect("map");
        let sum = |offset, len| ioctl::checksum(file.as_fd(), offset, len);
        assert_eq!(sum(0, 0), Ok(uapi::CHECKSUM_START));
        mapping
            .store_bytes(device.len() - 3, b"abc")
            .expect("store");
        assert_eq!(sum(device.end() - 3, 3), Ok(checksum(b"abc")));
        assert_eq!(sum(0, device.end()), Ok(checksum(&device.contents())));
    });
}

#[test]
fn no_increment_is_lost() {
    /// Increments by the kernel, in each of which the process increments the same number many times: one between
    /// a load and a store would be seen.
    const ROUNDS: u64 = 10_000;
    /// On a busy host the two may hardly run at the same time. So long for all nodes; and so often at least.
    const LONGEST: Duration = Duration::from_secs(60);
    const LEAST: u64 = 100;
    let cpus = cpu::allowed().expect("CPUs");
    let [first, .., last] = cpus.as_slice() else {
        panic!("one CPU: nothing happens at the same time");
    };
    cpu::pin(*first).expect("pin");
    let begun = Instant::now();
    on_every_node(|device| {
        let file = device.open();
        let mapping = map(&file, device.whole()).expect("map");
        let offset = device.len() - 8;
        let number = mapping.long(offset).expect("a number");
        let done = AtomicBool::new(false);
        let by_process = || {
            let mut count = 0;
            let pinned = cpu::pin(*last);
            while !done.load(Relaxed) {
                number.fetch_add(1, Relaxed);
                count += 1;
            }
            pinned.map(|()| count)
        };
        let by_kernel = || {
            let (mut count, mut met) = (0, 0);
            while met < ROUNDS && (met < LEAST || begun.elapsed() < LONGEST) {
                let before = number.load(Relaxed);
                ioctl::increment(file.as_fd(), offset as u64)?;
                count += 1;
                met += u64::from(number.load(Relaxed) > before + 1);
            }
            Ok::<_, Errno>(count)
        };
        let (by_kernel, by_process) = thread::scope(|scope| {
            let process = scope.spawn(by_process);
            let by_kernel = by_kernel();
            done.store(true, Relaxed);
            (by_kernel, process.join().expect("count").expect("pin"))
        });
        let sum = number.load(Relaxed);
        assert_eq!(sum, by_kernel.expect("increment") + by_process);
    });
}

#[test]
fn a_number_at_its_end_wraps_around() {
    on_every_node(|device| {
        let file = device.open();
        ioctl::fill(file.as_fd(), bytes(8, 8, 0xff)).expect("fill");
        ioctl::increment(file.as_fd(), 8).expect("increment");
        device.assert_filled_with(0);
    });
}

#[test]
fn reset_starts_anew() {
    on_every_node(|device| {
        let file = device.open();
        let mapping = map(&file, device.whole()).expect("map");
        mapping.store_bytes(0, b"gone").expect("store");
        ioctl::reset(file.as_fd()).expect("reset");
        device.assert_filled_with(0);
        assert_eq!(device.info().faults, 0);
        assert_eq!(device.info().mappings, 1, "the mapping is still there");
    });
}

#[test]
fn ranges_outside_the_buffer_change_nothing() {
    on_every_node(|device| {
        let (file, end) = (device.open(), device.end());
        for (offset, len) in [
            (0, end + 1),
            (end, 1),
            (end + 1, 0),
            (u64::MAX, 1),
            (1, u64::MAX),
        ] {
            let outside = Fill {
                offset,
                len,
                value: 1,
                ..Fill::default()
            };
            assert_eq!(ioctl::fill(file.as_fd(), outside), Err(Errno::EINVAL));
            let sum = ioctl::checksum(file.as_fd(), offset, len);
            assert_eq!(sum, Err(Errno::EINVAL));
        }
        for offset in [1, 4, end - 7, end, end + 8, u64::MAX - 7] {
            let incremented = ioctl::increment(file.as_fd(), offset);
            assert_eq!(incremented, Err(Errno::EINVAL), "at {offset}");
        }
        let mut reserved = bytes(0, 1, 1);
        reserved.reserved[6] = 1;
        assert_eq!(ioctl::fill(file.as_fd(), reserved), Err(Errno::EINVAL));
        device.assert_filled_with(0);
    });
}

/// What a descriptor opened with these flags is refused.
fn refused(device: &Device, flags: i32) -> [bool; 4] {
    let mut options = OpenOptions::new();
    // The standard library wants one of them; the flags decide.
    options
        .read(flags != libc::O_WRONLY)
        .write(flags != libc::O_RDONLY);
    let file: File = device.open_with(options.custom_flags(flags));
    [
        ioctl::fill(file.as_fd(), bytes(0, 1, 0)),
        ioctl::increment(file.as_fd(), device.end() - 8),
        ioctl::reset(file.as_fd()),
        ioctl::checksum(file.as_fd(), 0, 1).map(drop),
    ]
    .map(|done| done == Err(Errno::EBADF))
}

#[test]
fn a_descriptor_does_only_what_it_is_open_for() {
    on_every_node(|device| {
        let [reader, writer, both] = [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR];
        assert_eq!(refused(device, reader), [true, true, true, false]);
        assert_eq!(refused(device, writer), [false, false, false, true]);
        assert_eq!(refused(device, both), [false; 4]);
    });
}

#[test]
fn structures_at_bad_addresses_change_nothing() {
    on_every_node(|device| {
        let (file, cliff) = (device.open(), cliff());
        for command in COMMANDS
            .into_iter()
            .filter(|&command| command != uapi::RESET)
        {
            // Out of reach; and with the last 4 bytes out of reach.
            let len = (command >> 16 & 0x3fff) as usize;
            for offset in [PAGE_SIZE, PAGE_SIZE - len + 4] {
                let done = cliff.ioctl(file.as_fd(), command, offset);
                assert_eq!(done, Err(Errno::EFAULT), "{command:#x} at {offset}");
            }
        }
        device.assert_filled_with(0);
    });
}

#[test]
fn answers_need_memory_that_can_be_written() {
    on_every_node(|device| {
        let file = device.open();
        let constant = memory(ProtFlags::PROT_READ);
        for command in [uapi::INFO, uapi::PAGE_INFO, uapi::CHECKSUM] {
            let done = constant.ioctl(file.as_fd(), command, 0);
            assert_eq!(done, Err(Errno::EFAULT), "{command:#x}");
        }
        // Zeros: a fill of no bytes, and an increment of the first number.
        for command in [uapi::FILL, uapi::INCREMENT] {
            assert_eq!(constant.ioctl(file.as_fd(), command, 0), Ok(()));
        }
        assert_eq!(device.contents()[..2], [1, 0]);
    });
}

#[test]
fn unknown_commands_and_sizes_are_refused() {
    on_every_node(|device| {
        let file = device.open();
        let memory = memory(SHARED.prot);
        let mut others = vec![uapi::RESET + 0x40, uapi::RESET | 4 << 16];
        for command in COMMANDS {
            let (longer, other_direction) = (command + (8 << 16), command ^ 3 << 30);
            others.extend([longer, other_direction]);
            if command != uapi::RESET {
                let shorter = command - (8 << 16);
                others.push(shorter);
            }
        }
        for command in others {
            let done = memory.ioctl(file.as_fd(), command, 0);
            assert_eq!(done, Err(Errno::ENOTTY), "{command:#x}");
        }
        assert!(!file.is_terminal());
        device.assert_filled_with(0);
    });
}
