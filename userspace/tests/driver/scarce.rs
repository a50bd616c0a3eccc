//! A buffer that cannot be had: there is memory, but no neighbouring pages.

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;

use mmapdemo::sys::PAGE_SIZE;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::kmod::{DeleteModuleFlags, delete_module};
use nix::unistd::{pipe2, write};

use crate::fixture::{Device, MODULE, Node, load};
use crate::memory;
use crate::twin::{self, Twin};

/// How much memory is left over, in KiB: twice enough for the kernel to load a module, and less than as many
/// buffers of 1 MiB as are tried to be had.
const SPARE: u64 = 8 << 10;

/// How many bytes a pipe holds: the kernel has a page for each of 4096, and moves none of them. What is left is looked at
/// when one is full, so it is not too long; and each takes a descriptor, so it is not too short.
const PIPE: i32 = 1 << 20;

/// Where the kernel is told how much memory to keep for itself, in KiB; huge pages make it keep much.
const RESERVE: &str = "/proc/sys/vm/min_free_kbytes";

/// The kernel keeps little memory for itself; until this is dropped.
struct LittleReserve(String);

impl LittleReserve {
    fn new() -> Self {
        let before = fs::read_to_string(RESERVE).expect("read the reserve");
        fs::write(RESERVE, "2048").expect("make the reserve small");
        Self(before)
    }
}

impl Drop for LittleReserve {
    fn drop(&mut self) {
        // A test that has failed already has no use for another panic.
        let _ = fs::write(RESERVE, &self.0);
    }
}

/// Memory that cannot be moved, in pages that others lie between: full pipes, by the end that is read from.
#[derive(Default)]
struct Hog {
    kept: Vec<OwnedFd>,
    between: Vec<OwnedFd>,
}

impl Hog {
    /// Takes memory, page by page in turn, until no more than `left` KiB are free.
    fn take(&mut self, left: u64) {
        let page = vec![0; PAGE_SIZE];
        while memory::free() > left {
            let ((kept, to_kept), (between, to_between)) = (empty_pipe(), empty_pipe());
            for _ in 0..PIPE / 4096 {
                for to in [&to_kept, &to_between] {
                    assert_eq!(write(to, &page), Ok(PAGE_SIZE));
                }
            }
            self.kept.push(kept);
            self.between.push(between);
        }
    }

    /// Gives so much back that `free` KiB more are free, none of whose pages is beside another.
    fn give_back(&mut self, free: u64) {
        let enough = memory::free() + free;
        while memory::free() < enough && self.between.pop().is_some() {}
    }
}

/// A pipe that holds [`PIPE`] bytes; a writer does not wait for room.
fn empty_pipe() -> (OwnedFd, OwnedFd) {
    let (from, to) = pipe2(OFlag::O_NONBLOCK).expect("make a pipe");
    fcntl(&to, FcntlArg::F_SETPIPE_SZ(PIPE)).expect("make the pipe long");
    (from, to)
}

#[test]
fn a_buffer_that_is_not_to_be_had_is_enomem() {
    let device = Device::take();
    device.unload();
    let reserve = LittleReserve::new();
    let mut hog = Hog::default();
    hog.take(SPARE);
    hog.give_back(SPARE);

    // A module that is loaded takes what would do for the next.
    let mut twin = Twin::new(Node::ALL.len());
    let mut loaded = Vec::new();
    let mut refused = None;
    for letter in (b'a'..=b'z').filter(|&letter| letter != b'm') {
        let name = twin.write(letter);
        refused = load(twin::PATH, c"pages=256").err();
        if refused.is_some() {
            // It is neighbours that lack, not memory; and nothing is left of the attempt.
            assert_eq!(load(twin::PATH, c"pages=1"), Ok(()));
        }
        loaded.push(name);
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(refused, Some(Errno::ENOMEM), "{}", memory::blocks());
    for name in &loaded {
        let name = CString::new(name.as_str()).expect("a name");
        delete_module(&name, DeleteModuleFlags::O_NONBLOCK).expect("unload");
    }
    drop((hog, reserve));
    assert_eq!(load(MODULE, c"pages=256"), Ok(()));
    device.unload();
    device.load();
}
