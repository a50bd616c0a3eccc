//! The device, for one test at a time.

use std::env;
use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mmapdemo::map_call::MapCall;
use mmapdemo::sys::ioctl;
use mmapdemo::sys::{Mapping, PAGE_SIZE};
use mmapdemo::uapi::Info;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::sys::mman::ProtFlags;

use crate::log::{self, KernelLog, NAME_TAKEN};

/// A node, and with it a way in which pages reach a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    InsertPage,
    RemapPfn,
    Fault,
}

impl Node {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::InsertPage, Self::RemapPfn, Self::Fault];

    /// Where it is.
    pub fn path(self) -> &'static str {
        match self {
            Self::InsertPage => "/dev/mmapdemo",
            Self::RemapPfn => "/dev/mmapdemo-pfn",
            Self::Fault => "/dev/mmapdemo-fault",
        }
    }
}

/// The module under test, loaded by the guest's init before any program runs.
pub const MODULE: &str = "/root/mmapdemo.ko";

/// Lengths of the buffer, in pages, that every node is tried with; the last is the module's default, but the tests
/// may leave it with the other.
const PAGES: [usize; 2] = [4, 1];

/// The length with which the last test had the module.
static LOADED: AtomicUsize = AtomicUsize::new(PAGES[1]);

/// As long as a buffer can be, in pages (`Buffer::MAX_PAGES` in `driver/buffer.rs`).
pub const MOST_PAGES: usize = 256;

/// One page, readable and writable.
pub const SHARED: MapCall = MapCall {
    len: PAGE_SIZE,
    prot: ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE),
    flags: libc::MAP_SHARED,
    offset: 0,
};

/// One page, with stores kept to oneself.
pub const PRIVATE: MapCall = MapCall {
    flags: libc::MAP_PRIVATE,
    ..SHARED
};

/// All tests share one buffer and one module, so that they take turns.
static TURN: Mutex<()> = Mutex::new(());

/// The nodes to test: those that the variable `MMAPDEMO_NODES` names, `insert`, `pfn` and `fault`
/// separated by commas, or else all. Of a driver that is not finished one node can be tried so.
fn nodes() -> Vec<Node> {
    let Some(names) = env::var_os("MMAPDEMO_NODES") else {
        return Node::ALL.to_vec();
    };
    let names = names.into_string().expect("MMAPDEMO_NODES is text");
    let node = |name| match name {
        "insert" => Node::InsertPage,
        "pfn" => Node::RemapPfn,
        "fault" => Node::Fault,
        _ => panic!("MMAPDEMO_NODES names {name:?}, not insert, pfn or fault"),
    };
    names.split(',').map(node).collect()
}

/// Does the same test on each node over buffers of each length; the length that there is comes first, since to load
/// the module anew takes longer than most tests.
pub fn on_every_node(test: impl Fn(&Device)) {
    let mut lengths = PAGES;
    if LOADED.load(Ordering::Relaxed) == PAGES[1] {
        lengths.reverse();
    }
    for nr_pages in lengths {
        on_nodes(nr_pages, &test);
    }
}

/// Does the same test, which needs several pages, on each node.
pub fn on_long_nodes(test: impl Fn(&Device)) {
    on_nodes(PAGES[0], test);
}

fn on_nodes(nr_pages: usize, test: impl Fn(&Device)) {
    for node in nodes() {
        test(&Device::with(node, nr_pages));
    }
}

/// The device: loaded, and all zeros, until the test is over.
///
/// When it is dropped, the kernel log must not have got a line that tells of a defect.
pub struct Device {
    node: Node,
    nr_pages: usize,
    log: KernelLog,
    _turn: MutexGuard<'static, ()>,
}

impl Device {
    /// Waits for the turn of this test, which is about the module rather than a node.
    pub fn take() -> Self {
        Self::with(Node::InsertPage, 1)
    }

    /// Waits for the turn of this test, and has `node` over a buffer of `nr_pages`.
    pub fn with(node: Node, nr_pages: usize) -> Self {
        // A test that failed says nothing about the device: the next one starts from zeros anyway.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let device = Self {
            node,
            nr_pages,
            log: KernelLog::from_now(),
            _turn: turn,
        };
        if !is_loaded() {
            device.load();
        } else if ioctl::info(device.open().as_fd()).map(|info| info.len) != Ok(device.end()) {
            device.unload();
            device.load();
        }
        LOADED.store(nr_pages, Ordering::Relaxed);
        ioctl::reset(device.open().as_fd()).expect("reset the device");
        device
    }

    /// The way in which pages reach a mapping of it.
    pub fn strategy(&self) -> Node {
        self.node
    }

    /// Its node.
    pub fn node(&self) -> &'static str {
        self.node.path()
    }

    /// How long the device is, in pages.
    pub fn nr_pages(&self) -> usize {
        self.nr_pages
    }

    /// How long the device is, in bytes.
    pub fn len(&self) -> usize {
        self.nr_pages * PAGE_SIZE
    }

    /// The same as an offset.
    pub fn end(&self) -> u64 {
        self.len() as u64
    }

    /// The whole buffer, readable and writable.
    pub fn whole(&self) -> MapCall {
        MapCall {
            len: self.len(),
            ..SHARED
        }
    }

    /// The whole buffer, with stores kept to oneself.
    pub fn private(&self) -> MapCall {
        MapCall {
            len: self.len(),
            ..PRIVATE
        }
    }

    /// What the device tells everybody of itself.
    pub fn info(&self) -> Info {
        ioctl::info(self.open().as_fd()).expect("ask the device")
    }

    /// The device, open for reading and writing.
    pub fn open(&self) -> File {
        self.open_with(OpenOptions::new().read(true).write(true))
    }

    /// The device, open as `options` say.
    pub fn open_with(&self, options: &OpenOptions) -> File {
        options.open(self.node()).expect("open the device")
    }

    /// All bytes of the device, read through a descriptor of its own.
    pub fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        let len = self.open().read_at(&mut bytes, 0).expect("read the device");
        assert_eq!(len, self.len(), "the device is shorter than it should be");
        bytes
    }

    /// Finds that all bytes of the device are `byte`.
    #[track_caller]
    pub fn assert_filled_with(&self, byte: u8) {
        let contents = self.contents();
        let other = contents.iter().position(|&found| found != byte);
        assert_eq!(other, None, "the first byte that is not {byte:#x}");
    }

    /// Loads the module.
    pub fn load(&self) {
        let pages = format!("pages={}", self.nr_pages);
        let output = run("/bin/insmod", &[MODULE, &pages]);
        assert!(output.status.success(), "insmod: {output:?}");
        for node in Node::ALL.map(Node::path) {
            assert!(Path::new(node).exists(), "insmod made no {node}");
        }
    }

    /// Unloads the module, and loads it with a buffer of `nr_pages`.
    pub fn reload_with(&mut self, nr_pages: usize) {
        self.unload();
        self.nr_pages = nr_pages;
        self.load();
    }

    /// Finds that the kernel has refused a second `node`, and excuses the stack that it then shows.
    pub fn expect_name_taken(&self, node: &str) {
        let lines = self.log.lines();
        let refused = |line: &String| line.contains(NAME_TAKEN) && line.contains(node);
        assert!(lines.iter().any(refused), "{lines:#?}");
        let mut defects = log::defects(&lines);
        defects.retain(|line| !line.contains("Call Trace"));
        assert!(defects.is_empty(), "in the kernel log: {defects:#?}");
    }

    /// Finds that the kernel log tells of no defect, and excuses the stacks that go with allocations which were made to
    /// fail.
    pub fn excuse_stacks(&self) {
        let mut defects = self.log.defects();
        defects.retain(|line| !line.contains("Call Trace"));
        assert!(defects.is_empty(), "in the kernel log: {defects:#?}");
    }

    /// Unloads the module, which nobody uses.
    pub fn unload(&self) {
        let output = self.try_unload();
        assert!(output.status.success(), "rmmod: {output:?}");
        assert!(!is_loaded(), "rmmod left the module");
        self.assert_no_nodes();
    }

    /// Finds that no node is left.
    #[expect(clippy::unused_self, reason = "proves that it is this test's turn")]
    pub fn assert_no_nodes(&self) {
        for node in Node::ALL.map(Node::path) {
            assert!(!Path::new(node).exists(), "{node} was left");
        }
    }

    /// Finds that the module cannot be unloaded, because somebody uses it.
    pub fn assert_in_use(&self) {
        let output = self.try_unload();
        let said = String::from_utf8_lossy(&output.stderr);
        // EAGAIN, in the words of strerror(3): what delete_module(2) with O_NONBLOCK (the same as
        // EWOULDBLOCK) says of a module with users.
        assert!(
            !output.status.success() && said.contains("temporarily unavailable"),
            "rmmod of a module in use: {output:?}"
        );
        assert!(is_loaded());
    }

    /// Tries to unload the module, and returns what rmmod said.
    #[expect(clippy::unused_self, reason = "proves that it is this test's turn")]
    pub fn try_unload(&self) -> Output {
        run("/bin/rmmod", &["mmapdemo"])
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let defects = self.log.defects();
        // A second panic would end the process, with the first one unreported.
        if std::thread::panicking() {
            eprintln!("on {} with {} pages", self.node(), self.nr_pages);
        } else {
            assert!(defects.is_empty(), "in the kernel log: {defects:#?}");
        }
    }
}

/// Whether the module is loaded.
pub fn is_loaded() -> bool {
    Path::new("/sys/module/mmapdemo").exists()
}

/// Loads the module in the file `path` with `params`.
pub fn load(path: &str, params: &CStr) -> Result<(), Errno> {
    let file = File::open(path).expect("open the module");
    finit_module(&file, params, ModuleInitFlags::empty())
}

/// Runs a program of the guest to its end.
pub fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("failed to run {program}: {error}"))
}

/// Maps `file`.
pub fn map(file: &File, call: MapCall) -> Result<Mapping, Errno> {
    Mapping::new(call, Some(file.as_fd()))
}

/// The errno of a call that had to fail.
#[track_caller]
pub fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    let error = result.expect_err("the call was to fail");
    error.raw_os_error().expect("an error of the system")
}

/// Two pages of memory, of which the second is not accessible.
pub fn cliff() -> Mapping {
    let anonymous = PRIVATE.flags | libc::MAP_ANONYMOUS;
    let accessible = MapCall {
        len: 2 * PAGE_SIZE,
        flags: anonymous,
        ..PRIVATE
    };
    let not = MapCall {
        len: PAGE_SIZE,
        prot: ProtFlags::PROT_NONE,
        flags: anonymous,
        ..PRIVATE
    };
    let mut memory = Mapping::new(accessible, None).expect("map two pages");
    memory
        .replace_page(PAGE_SIZE, not, None)
        .expect("replace the second");
    memory
}
