//! Calls: what the kernel did on behalf of a process, as trees of function calls; pure.
//!
//! Read from what the `function_graph` tracer writes with the options `funcgraph-proc` and `funcgraph-tail`, together
//! with events that say why the kernel was entered. See `Documentation/trace/ftrace.rst`.

use std::fmt;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags};

pub mod interest;
mod memory;
mod parse;
mod thread;

pub use memory::{Memory, select};
pub use parse::parse;

/// A function that was called, with what it called itself, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name, as its source has it.
    pub name: String,
    /// Whether it belongs to the driver.
    pub of_driver: bool,
    /// What it called.
    pub calls: Vec<Call>,
}

/// Why the kernel was entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A system call.
    Syscall(Syscall),
    /// A page fault.
    Fault(Fault),
    /// A process was forked, and its address space copied.
    Fork,
    /// A process gave up its address space: it ended, or became another program.
    Exit,
}

/// A system call about memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syscall {
    /// Its name.
    pub name: String,
    /// Its arguments by name, in order.
    pub args: Vec<(String, u64)>,
    /// What it returned, an errno below zero; `None` if it had not when the recording ended.
    pub returned: Option<i64>,
}

/// A page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The address that was touched.
    pub addr: u64,
    /// What the processor says about it (`enum x86_pf_error_code`, `arch/x86/include/asm/trap_pf.h`).
    pub error_code: u64,
}

/// One entry into the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The thread.
    pub tid: u32,
    /// Why.
    pub cause: Cause,
    /// What came of it.
    pub calls: Vec<Call>,
}

/// What was recorded between two marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// The entries into the kernel, in order.
    pub entries: Vec<Entry>,
}

impl Call {
    /// Whether this is the driver's, or anything that came of it.
    #[must_use]
    pub fn reaches_driver(&self) -> bool {
        self.of_driver || self.calls.iter().any(Self::reaches_driver)
    }
}

impl Entry {
    /// Whether the driver had a part in it.
    #[must_use]
    pub fn reaches_driver(&self) -> bool {
        self.calls.iter().any(Call::reaches_driver)
    }
}

impl Syscall {
    /// An argument; 0 if there is none of this name.
    #[must_use]
    pub fn arg(&self, name: &str) -> u64 {
        let found = self.args.iter().find(|(known, _)| known == name);
        found.map_or(0, |(_, value)| *value)
    }

    /// The file descriptor it was given, if it was given one.
    #[must_use]
    pub fn fd(&self) -> Option<i32> {
        let (_, value) = self.args.iter().find(|(name, _)| name == "fd")?;
        // The kernel shows all 64 bits of the register, of which an `int` has half.
        let [a, b, c, d, ..] = value.to_le_bytes();
        Some(i32::from_le_bytes([a, b, c, d])).filter(|fd| *fd >= 0)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syscall(syscall) => write!(f, "{syscall}"),
            Self::Fault(fault) => write!(f, "{fault}"),
            Self::Fork => f.write_str("fork: the address space is copied"),
            Self::Exit => f.write_str("exit: the address space is given up"),
        }
    }
}

impl fmt::Display for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (index, (name, value)) in self.args.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", argument(&self.name, name, *value))?;
        }
        f.write_str(")")?;
        match self.returned {
            None => Ok(()),
            Some(0) => f.write_str(" = 0"),
            Some(refused @ -4095..0) => {
                let errno = Errno::from_raw(i32::try_from(-refused).unwrap_or_default());
                write!(f, " = {errno:?}")
            }
            Some(addr) => write!(f, " = {addr:#x}"),
        }
    }
}

/// An argument as `mmap(2)` and its like have it.
fn argument(call: &str, name: &str, value: u64) -> String {
    let bits = i32::try_from(value & 0xffff_ffff).unwrap_or(-1);
    let words = |words: Vec<&str>, none: &str| {
        if words.is_empty() {
            none.to_owned()
        } else {
            words.join("|")
        }
    };
    match (call, name) {
        (_, "prot") => {
            let prot = ProtFlags::from_bits_retain(bits);
            words(
                prot.iter_names().map(|(word, _)| word).collect(),
                "PROT_NONE",
            )
        }
        ("mmap", "flags") => {
            let flags = MapFlags::from_bits_retain(bits);
            words(flags.iter_names().map(|(word, _)| word).collect(), "0")
        }
        (_, "fd") if bits < 0 => "-1".to_owned(),
        (_, "fd") => format!("fd {bits}"),
        (_, "len" | "off" | "new_len" | "old_len" | "behavior" | "flags") => value.to_string(),
        (_, _) if value == 0 => "0".to_owned(),
        _ => format!("{value:#x}"),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PRESENT: u64 = 1;
        const WRITE: u64 = 1 << 1;
        const USER: u64 = 1 << 2;
        const FETCH: u64 = 1 << 4;
        let has = |bit| self.error_code & bit != 0;
        let access = match (has(WRITE), has(FETCH)) {
            (true, _) => "store to",
            (_, true) => "jump to",
            _ => "load from",
        };
        let page = if has(PRESENT) {
            "the page is there, and not for this"
        } else {
            "no page is there"
        };
        let by = if has(USER) { "" } else { " in the kernel" };
        write!(f, "page fault{by}: {access} {:#x}, {page}", self.addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_call_reads_as_in_its_manual_page() {
        let args = [
            ("addr", 0),
            ("len", 0x1000),
            ("prot", 3),
            ("flags", 1),
            ("fd", 5),
            ("off", 0),
        ];
        let mut call = Syscall {
            name: "mmap".to_owned(),
            args: args.map(|(name, value)| (name.to_owned(), value)).into(),
            returned: Some(0x7f00_0000_1000),
        };
        assert_eq!(
            call.to_string(),
            "mmap(0, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, fd 5, 0) = 0x7f0000001000"
        );
        assert_eq!(call.fd(), Some(5));
        call.returned = Some(-19);
        call.args[4].1 = 0xffff_ffff;
        assert!(call.to_string().ends_with("-1, 0) = ENODEV"), "{call}");
        assert_eq!(call.fd(), None);
    }

    #[test]
    fn a_fault_says_what_was_tried() {
        let fault = |error_code| {
            Fault {
                addr: 0x7f00,
                error_code,
            }
            .to_string()
        };
        assert_eq!(fault(0x4), "page fault: load from 0x7f00, no page is there");
        assert_eq!(fault(0x6), "page fault: store to 0x7f00, no page is there");
        assert_eq!(
            fault(0x7),
            "page fault: store to 0x7f00, the page is there, and not for this"
        );
        assert!(fault(0x2).starts_with("page fault in the kernel: store to"));
        assert_eq!(fault(0x14), "page fault: jump to 0x7f00, no page is there");
    }
}
