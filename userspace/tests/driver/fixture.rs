//! The device, for one test at a time.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mmapdemo::map_call::MapCall;
use mmapdemo::sys::Mapping;
use nix::errno::Errno;
use nix::sys::mman::ProtFlags;

use crate::log::KernelLog;

/// The node under test.
pub const NODE: &str = "/dev/mmapdemo";

/// The module under test, loaded by the guest's init before any program runs.
pub const MODULE: &str = "/root/mmapdemo.ko";

/// How long the device is, in bytes.
pub const LEN: usize = 4096;

/// The whole buffer, readable and writable.
pub const WHOLE: MapCall = MapCall {
    len: LEN,
    prot: ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE),
    flags: libc::MAP_SHARED,
    offset: 0,
};

/// The whole buffer, with stores kept to oneself.
pub const PRIVATE: MapCall = MapCall {
    flags: libc::MAP_PRIVATE,
    ..WHOLE
};

/// All tests share one buffer and one module, so that they take turns.
static TURN: Mutex<()> = Mutex::new(());

/// The device: loaded, and all zeros, until the test is over.
///
/// When it is dropped, the kernel log must not have got a line that tells of a defect.
pub struct Device {
    log: KernelLog,
    _turn: MutexGuard<'static, ()>,
}

impl Device {
    /// Waits for the turn of this test.
    pub fn take() -> Self {
        // A test that failed says nothing about the device: the next one starts from zeros anyway.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let device = Self {
            log: KernelLog::from_now(),
            _turn: turn,
        };
        if !is_loaded() {
            device.load();
        }
        let wiped = device
            .open()
            .write_at(&[0; LEN], 0)
            .expect("wipe the buffer");
        assert_eq!(wiped, LEN);
        device
    }

    /// The device, open for reading and writing.
    pub fn open(&self) -> File {
        self.open_with(OpenOptions::new().read(true).write(true))
    }

    /// The device, open as `options` say.
    #[expect(clippy::unused_self, reason = "proves that it is this test's turn")]
    pub fn open_with(&self, options: &OpenOptions) -> File {
        options.open(NODE).expect("open the device")
    }

    /// All bytes of the device, read through a descriptor of its own.
    pub fn contents(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let len = self.open().read_at(&mut bytes, 0).expect("read the device");
        assert_eq!(len, LEN, "the device is shorter than it should be");
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
    #[expect(clippy::unused_self, reason = "proves that it is this test's turn")]
    pub fn load(&self) {
        let output = run("/bin/insmod", &[MODULE]);
        assert!(output.status.success(), "insmod: {output:?}");
        assert!(Path::new(NODE).exists(), "insmod made no {NODE}");
    }

    /// Unloads the module, which nobody uses.
    pub fn unload(&self) {
        let output = self.try_unload();
        assert!(output.status.success(), "rmmod: {output:?}");
        assert!(!is_loaded(), "rmmod left the module");
        assert!(!Path::new(NODE).exists(), "rmmod left {NODE}");
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
        if !std::thread::panicking() {
            assert!(defects.is_empty(), "in the kernel log: {defects:#?}");
        }
    }
}

/// Whether the module is loaded.
fn is_loaded() -> bool {
    Path::new("/sys/module/mmapdemo").exists()
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
