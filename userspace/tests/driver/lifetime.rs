//! Who outlives whom: mappings, pages, the module, and a module that fails to load.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;

use crate::fixture::{Device, MODULE, Node, load, map, on_every_node, run};
use crate::twin::{self, Twin};

#[test]
fn a_module_of_which_any_node_fails_leaves_nothing() {
    for (renamed, failing) in ["mmapdemo", "mmapdemo-pfn", "mmapdemo-fault"]
        .into_iter()
        .enumerate()
    {
        let device = Device::take();
        Twin::new(renamed).write(b'n');
        // EEXIST of the node; the kernel makes EBUSY of it (`do_init_module()`).
        assert_eq!(load(twin::PATH, c"pages=4"), Err(Errno::EBUSY));
        for gone in ["/sys/module/nmapdemo", "/dev/nmapdemo", "/dev/nmapdemo-pfn"] {
            assert!(!Path::new(gone).exists(), "{gone}");
        }
        for node in Node::ALL {
            File::open(node.path()).expect("the module that was there works on");
        }
        device.expect_name_taken(&format!("misc/{failing}'"));
    }
}

#[test]
fn nobody_gets_in_before_all_nodes_are_there() {
    let device = Device::take();
    Twin::new(2).write(b'n');
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| {
            for _ in 0..5 {
                let output = run("/bin/insmod", &[twin::PATH]);
                assert!(!output.status.success(), "{output:?}");
            }
        });
        while !loading.is_finished() {
            for node in ["/dev/nmapdemo", "/dev/nmapdemo-pfn"] {
                let errno = File::open(node)
                    .map(drop)
                    .map_err(|error| error.raw_os_error());
                let allowed = [libc::ENOENT, libc::ENODEV].map(|errno| Err(Some(errno)));
                assert!(allowed.contains(&errno), "{node}: {errno:?}");
            }
        }
    });
    device.expect_name_taken("misc/mmapdemo-fault'");
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let device = Device::take();
    device.unload();
    for pages in [
        c"pages=0",
        c"pages=257",
        c"pages=-1",
        c"pages=18446744073709551615",
        c"pages=18446744073709551616",
        c"pages=x",
        c"pages=",
    ] {
        assert_eq!(load(MODULE, pages), Err(Errno::EINVAL), "{pages:?}");
    }
    device.load();
}

#[test]
fn the_longest_buffer_is_all_there() {
    let mut device = Device::take();
    device.reload_with(256);
    for node in Node::ALL {
        let file = File::options()
            .read(true)
            .write(true)
            .open(node.path())
            .expect("open");
        let mapping = map(&file, device.whole()).expect("map");
        mapping.store(device.len() - 1, 5).expect("store");
        assert_eq!(device.contents().last(), Some(&5));
        mapping.store(device.len() - 1, 0).expect("store");
    }
    device.reload_with(1);
}

#[test]
fn pages_in_a_pipe_outlive_the_module() {
    on_every_node(|device| {
        let (from, to) = nix::unistd::pipe().expect("make a pipe");
        let mapping = map(&device.open(), device.whole()).expect("map");
        mapping.store_bytes(0, b"kept").expect("store");
        let lent = mapping.lend_to(to.as_fd());
        if device.strategy() == Node::RemapPfn {
            // What has no page cannot be lent; so nobody can keep it.
            assert_eq!(lent, Err(Errno::EFAULT));
            return;
        }
        assert_eq!(lent, Ok(device.len()));
        mapping.unmap().expect("unmap");
        // A reference to a page keeps the page, not the module.
        device.unload();
        // Would get the pages, and zero them, if they had been freed.
        device.load();

        drop(to);
        let mut bytes = Vec::new();
        File::from(from)
            .read_to_end(&mut bytes)
            .expect("read the pipe");
        assert_eq!((bytes.len(), &bytes[..4]), (device.len(), &b"kept"[..]));
    });
}
