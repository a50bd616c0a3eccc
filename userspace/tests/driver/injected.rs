//! No memory, at every place where the kernel asks for some on behalf of the device: the right errno, nothing done,
//! nothing lost. Only a kernel that fails on purpose can show it (docs/sanitizers.md).
//!
//! That nothing is lost is found here as far as pages and counts go, and by the guest's init, which has kmemleak look
//! for every object that nothing points to any more.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use mmapdemo::map_call::MapCall;
use mmapdemo::sys::{self, Mapping, PAGE_SIZE, ioctl};
use mmapdemo::uapi::Fill;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::sys::stat::Mode;
use nix::sys::uio::{pread, pwrite};
use nix::sys::wait::{WaitStatus, waitpid};

use crate::fixture::{Device, MODULE, is_loaded, on_every_node};
use crate::injection::{Injection, Score};

/// A device at which calls are made to fail.
struct Bench<'a> {
    device: &'a Device,
    injection: Injection,
    /// The node, for calls that must not allocate a copy of its path.
    path: CString,
}

impl<'a> Bench<'a> {
    fn new(device: &'a Device) -> Self {
        let path = CString::new(device.node()).expect("a path");
        let injection = Injection::patient();
        Self {
            device,
            injection,
            path,
        }
    }

    fn open(&self) -> Result<OwnedFd, Errno> {
        open(
            self.path.as_c_str(),
            OFlag::O_RDWR | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
    }

    /// Makes each part of `call` fail in turn. What it did where it succeeded is looked at by `succeeded`; where it
    /// was refused, the buffer still has to be full of `byte`.
    fn each<T: std::fmt::Debug>(
        &self,
        what: &str,
        call: impl FnMut() -> Result<T, Errno>,
        mut succeeded: impl FnMut(T),
    ) -> Score {
        let score = self.injection.of_each_part(
            &format!("{what} of {}", self.device.node()),
            call,
            |said| {
                if let Ok(result) = said {
                    succeeded(result);
                }
                self.assert_unharmed();
            },
        );
        assert!(
            score.refused > 0,
            "nothing in {what} was made to fail: {score:?}"
        );
        score
    }

    /// Finds that the device answers, that nobody maps it, and that nobody but the driver has its pages.
    fn assert_unharmed(&self) {
        let info = self.device.info();
        assert_eq!(info.len, self.device.end());
        assert_eq!(info.mappings, 0, "mappings that are left");
        let file = self.device.open();
        for pgoff in 0..self.device.nr_pages() as u64 {
            let page = ioctl::page_info(file.as_fd(), pgoff).expect("page info");
            assert_eq!((page.refcount, page.mapcount), (1, 0), "page {pgoff}");
        }
    }
}

/// Fills the device with a byte.
fn filled(device: &Device, value: u8) -> File {
    let file = device.open();
    let all = Fill {
        len: device.end(),
        value,
        ..Fill::default()
    };
    ioctl::fill(file.as_fd(), all).expect("fill");
    file
}

#[test]
fn insmod_without_memory_is_enomem_and_leaves_nothing() {
    let device = Device::take();
    device.unload();
    let module = File::open(MODULE).expect("open the module");
    // A buffer of one page needs no allocation that one of four does not, and each failure loads the module again.
    let load = || finit_module(&module, c"pages=4", ModuleInitFlags::empty());
    let score = Injection::new().of_each_part("insmod", load, |said| {
        assert_eq!(said.is_ok(), is_loaded(), "{said:?}");
        if said.is_ok() {
            assert_eq!(device.info().mappings, 0);
            device.unload();
        }
        device.assert_no_nodes();
    });
    assert!(score.refused > 50, "{score:?}");
    device.load();
    device.excuse_stacks();
}

#[test]
fn open_without_memory_is_enomem() {
    on_every_node(|device| {
        let bench = Bench::new(device);
        bench.each("open", || bench.open(), drop);
        device.excuse_stacks();
    });
}

#[test]
fn mmap_without_memory_is_enomem_and_counts_no_mapping() {
    on_every_node(|device| {
        let file = filled(device, 7);
        let bench = Bench::new(device);
        for call in [device.whole(), device.private()] {
            let map = || Mapping::new(call, Some(file.as_fd()));
            bench.each("mmap", map, |mapping| {
                for offset in [0, mapping.len() - 1] {
                    assert_eq!(mapping.load(offset).expect("load"), 7);
                }
            });
        }
        device.excuse_stacks();
    });
}

#[test]
fn a_touch_without_memory_is_tried_again() {
    on_every_node(|device| {
        let file = filled(device, 7);
        let bench = Bench::new(device);
        let mut injected = 0;
        // A store to a private page needs a page of its own; on the fault node, a load needs a page table.
        for (call, value) in [(device.whole(), 7), (device.private(), 9)] {
            // Somewhere else, so that it needs page tables of its own.
            let touch = || {
                let mapping = Mapping::placed(FAR, placed(call), Some(file.as_fd()))?;
                mapping.store(0, value).map_err(|_| Errno::EIO)?;
                Ok(mapping)
            };
            let score = bench.each("mmap and store", touch, |mapping| {
                assert_eq!(mapping.load(0).expect("load"), value);
            });
            injected += score.injected;
        }
        assert!(injected > 0);
        device.assert_filled_with(7);
        device.excuse_stacks();
    });
}

/// An address of which no page table is there: 16 TiB.
const FAR: usize = 1 << 44;

fn placed(call: MapCall) -> MapCall {
    MapCall {
        flags: call.flags | libc::MAP_FIXED_NOREPLACE,
        ..call
    }
}

#[test]
fn fork_without_memory_is_enomem_and_counts_no_mapping() {
    on_every_node(|device| {
        let bench = Bench::new(device);
        let mapping = Mapping::new(device.whole(), Some(device.open().as_fd())).expect("map");
        mapping.store(0, 1).expect("store");
        let fork = || sys::fork(|| 0);
        let score = Injection::new().of_each_part("fork", fork, |said| {
            if let Ok(child) = said {
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
            }
            assert_eq!(device.info().mappings, 1, "the parent's");
            assert_eq!(mapping.load(0).expect("load"), 1);
        });
        assert!(score.refused > 10, "{score:?}");
        mapping.unmap().expect("unmap");
        bench.assert_unharmed();
        device.excuse_stacks();
    });
}

#[test]
fn read_without_memory_is_enomem_and_without_user_memory_efault() {
    on_every_node(|device| {
        let file = filled(device, 7);
        let bench = Bench::new(device);
        let len = device.len();
        let mut bytes = vec![0; len];
        let mut read = 0;
        let call = || {
            bytes.fill(0);
            read = pread(&file, &mut bytes, 0)?;
            assert!(bytes[..read].iter().all(|&byte| byte == 7));
            Ok(read)
        };
        bench.each("read", call, |read| assert!(read > 0));
        assert_eq!(read, len, "nothing failed in the end");
        device.excuse_stacks();
    });
}

#[test]
fn write_without_memory_is_enomem_and_writes_nothing() {
    on_every_node(|device| {
        let file = filled(device, 7);
        let bench = Bench::new(device);
        let bytes = vec![9; device.len()];
        let call = || pwrite(&file, &bytes, 0);
        // To find that nothing was written, each of them starts anew.
        bench.injection.of_each_part("write", call, |said| {
            let written = said.unwrap_or(0);
            let contents = device.contents();
            let (new, old) = contents.split_at(written);
            assert!(new.iter().all(|&byte| byte == 9) && old.iter().all(|&byte| byte == 7));
            filled(device, 7);
        });
        bench.assert_unharmed();
        device.excuse_stacks();
    });
}

#[test]
fn an_ioctl_that_cannot_fetch_or_store_is_efault_and_does_nothing() {
    on_every_node(|device| {
        let file = filled(device, 7);
        let fd = file.as_fd();
        let bench = Bench::new(device);
        let end = device.end();
        bench.each("info", || ioctl::info(fd), |info| assert_eq!(info.len, end));
        let page_info = || ioctl::page_info(fd, 0);
        bench.each("page info", page_info, |page| assert_eq!(page.refcount, 1));
        let checksum = || ioctl::checksum(fd, 0, end);
        bench.each("checksum", checksum, |sum| assert_ne!(sum, 0));
        device.assert_filled_with(7);

        let nines = Fill {
            len: PAGE_SIZE as u64,
            value: 9,
            ..Fill::default()
        };
        let call = || ioctl::fill(fd, nines);
        let mut fills = 0;
        bench.each("fill", call, |()| fills += 1);
        let first_and_last = (2, 9);
        assert_eq!(
            (fills, device.contents()[0]),
            first_and_last,
            "one more was not refused"
        );
        let mut increments = 0;
        filled(device, 0);
        bench.each(
            "increment",
            || ioctl::increment(fd, 0),
            |()| increments += 1,
        );
        assert_eq!(increments, device.contents()[0], "as often as not refused");
        device.excuse_stacks();
    });
}

#[test]
fn reset_has_nothing_that_can_fail() {
    on_every_node(|device| {
        let file = filled(device, 7);
        let injection = Injection::new();
        let score = injection.of_each_part("reset", || ioctl::reset(file.as_fd()), drop);
        assert_eq!(score.injected, 0);
        device.assert_filled_with(0);
    });
}
