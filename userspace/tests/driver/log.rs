//! What the kernel says while a test runs.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// What a line contains that tells of a defect in the kernel.
const DEFECTS: [&str; 8] = [
    "BUG",
    "WARNING",
    "Oops",
    "Bad page",
    "refcount_t",
    "general protection fault",
    "Call Trace",
    "mmapdemo: panicked",
];

/// What the kernel says of a node whose name is taken; the stack of who asked for it follows
/// (`sysfs_warn_dup()` in `fs/sysfs/dir.c`).
pub const NAME_TAKEN: &str = "cannot create duplicate filename";

/// What the kernel says of pages that are not to be had, behind the reason; the stack of who asked for them follows
/// (`warn_alloc()` in `mm/page_alloc.c`).
pub const NO_MEMORY: &str = ", mode:0x";

/// Longest record that `/dev/kmsg` returns (`PRINTKRB_RECORD_MAX` is less, `kernel/printk/`).
const RECORD: usize = 8192;

/// The kernel log, from one moment on.
pub struct KernelLog(File);

impl KernelLog {
    /// Leaves out what has been logged up to now.
    pub fn from_now() -> Self {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .expect("open the kernel log");
        // Goes behind the last record (Documentation/ABI/testing/dev-kmsg).
        file.seek(SeekFrom::End(0)).expect("skip the old log");
        Self(file)
    }

    /// Leaves out nothing that the kernel still has.
    pub fn from_boot() -> Self {
        let log = Self::from_now();
        (&log.0)
            .seek(SeekFrom::Start(0))
            .expect("go to the first record");
        log
    }

    /// The lines logged since that tell of a defect.
    pub fn defects(&self) -> Vec<String> {
        defects(&self.lines())
    }

    /// The lines logged since.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut record = vec![0; RECORD];
        loop {
            match (&self.0).read(&mut record) {
                Ok(len) => lines.push(message(&record[..len])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return lines,
                Err(error) => panic!("read the kernel log: {error}"),
            }
        }
    }
}

/// The lines that tell of a defect.
pub fn defects(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .filter(|line| DEFECTS.iter().any(|word| line.contains(word)))
        .cloned()
        .collect()
}

/// The text of a record: `priority,sequence,time,flags;text`, then a line for each property.
fn message(record: &[u8]) -> String {
    let record = String::from_utf8_lossy(record);
    let text = record.split_once(';').map_or(&*record, |(_, text)| text);
    text.lines().next().unwrap_or_default().to_owned()
}
