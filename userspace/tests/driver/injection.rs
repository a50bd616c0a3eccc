//! Calls that fail on purpose: the first that can, the second, and so on, until there is none left.
//!
//! `Documentation/fault-injection/fault-injection.rst`: what can fail are allocations (`failslab`, `fail_page_alloc`),
//! copies from and to user space (`fail_usercopy`) and futexes; `fail-nth` counts them all.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;

use crate::log::KernelLog;

/// Where the kernel is told what may fail.
const SETTINGS: &str = "/sys/kernel/debug";

/// Allocations that may wait may fail as well, of single pages, too; and each failure is worth two lines in the log,
/// but no stack.
const WANTED: [(&str, &str); 8] = [
    ("failslab/ignore-gfp-wait", "N"),
    ("failslab/verbose", "1"),
    ("fail_page_alloc/ignore-gfp-wait", "N"),
    ("fail_page_alloc/ignore-gfp-highmem", "N"),
    ("fail_page_alloc/min-order", "0"),
    ("fail_page_alloc/verbose", "1"),
    ("fail_usercopy/verbose", "1"),
    ("fail_futex/verbose", "1"),
];

/// Which call of this thread fails, counted from now; 0 once it has.
const NTH: &str = "/proc/thread-self/fail-nth";

/// More than any system call has that can fail.
const MOST: u32 = 5000;

/// How often more a part is made to fail of which nobody was told and nobody took notice: it may have been none of the
/// call's. A stack that the kernel has not seen takes memory to remember, once, and is counted like the call's own parts.
const ONCE_MORE: u32 = 4;

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// An allocation.
    Allocation,
    /// A copy from or to user space.
    Copy,
    /// An allocation whose caller is prepared for that, so that nobody is told.
    Silent,
}

impl Failed {
    /// What the log says.
    fn of(lines: &[String]) -> Self {
        let named = |name: &str| lines.iter().any(|line| line.contains(name));
        if named("name failslab") || named("name fail_page_alloc") {
            Self::Allocation
        } else if named("name fail_usercopy") {
            Self::Copy
        } else {
            Self::Silent
        }
    }

    /// The errno that tells of it (docs/driver.md).
    fn errno(self) -> Errno {
        match self {
            Self::Allocation | Self::Silent => Errno::ENOMEM,
            Self::Copy => Errno::EFAULT,
        }
    }
}

/// What came of a call, with each of its parts made to fail in turn.
#[derive(Debug, Default)]
pub struct Score {
    /// How often something was made to fail.
    pub injected: u32,
    /// How often the call said so, by the errno that belongs to it.
    pub refused: u32,
    /// How often it did its work nevertheless.
    pub survived: u32,
}

/// Makes calls of the thread that made it fail.
pub struct Injection {
    nth: File,
    once_more: u32,
}

/// Whether this kernel can be told to fail.
pub fn is_possible() -> bool {
    Path::new(NTH).exists()
}

impl Injection {
    /// Tells the kernel what may fail.
    pub fn new() -> Self {
        for (setting, value) in WANTED {
            let path = Path::new(SETTINGS).join(setting);
            fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        let open = OpenOptions::new().read(true).write(true).open(NTH);
        Self {
            nth: open.expect(NTH),
            once_more: 0,
        }
    }

    /// For calls with few parts, of which none may be missed.
    pub fn patient() -> Self {
        Self {
            once_more: ONCE_MORE,
            ..Self::new()
        }
    }

    /// Makes the call `what` again and again, and in each call the next of its parts fail, until none is left. It has
    /// to say ENOMEM or EFAULT, whichever belongs to the part, or to do its work; `after` gets what it said, once
    /// nothing fails any more, and finds that the device is as it should be.
    ///
    /// `call` must not allocate, nor do anything else that can fail, beside the call.
    pub fn of_each_part<T: Debug>(
        &self,
        what: &str,
        mut call: impl FnMut() -> Result<T, Errno>,
        mut after: impl FnMut(Result<T, Errno>),
    ) -> Score {
        // What the call needs of this program is in memory then, and cannot fail in the place of its own parts.
        let said = call();
        assert!(said.is_ok(), "{what}, with nothing failing: {said:?}");
        after(said);
        let mut score = Score::default();
        let (mut nth, mut once_more) = (1, self.once_more);
        while nth < MOST {
            let log = KernelLog::from_now();
            self.arm(nth);
            let said = call();
            if !self.disarm() {
                assert!(said.is_ok(), "{what}, with nothing failing: {said:?}");
                after(said);
                println!("{what}: {score:?}");
                return score;
            }
            score.injected += 1;
            let failed = Failed::of(&log.lines());
            match &said {
                Ok(_) => score.survived += 1,
                Err(errno) => {
                    assert_eq!(*errno, failed.errno(), "{what}, {failed:?}, call {nth}");
                    score.refused += 1;
                }
            }
            let may_be_anybodys = said.is_ok() && failed == Failed::Silent;
            after(said);
            if may_be_anybodys && once_more > 0 {
                once_more -= 1;
            } else {
                (nth, once_more) = (nth + 1, self.once_more);
            }
        }
        panic!("{what} still fails at its part {MOST}");
    }

    fn arm(&self, nth: u32) {
        let text = nth.to_string();
        self.nth.write_all_at(text.as_bytes(), 0).expect(NTH);
    }

    /// Ends it, and returns whether something was made to fail.
    fn disarm(&self) -> bool {
        let mut left = [0; 16];
        // To read is to copy to user space, which is what fails now if one call was left.
        let read = self.nth.read_at(&mut left, 0);
        let injected = match &read {
            Ok(len) => left[..*len].trim_ascii() == b"0",
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => false,
            Err(error) => panic!("read {NTH}: {error}"),
        };
        // To write is to copy from user space: the same applies.
        while self.nth.write_all_at(b"0", 0).is_err() {}
        injected
    }
}
