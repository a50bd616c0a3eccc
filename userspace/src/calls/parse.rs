//! Parse: from the tracer's text to entries into the kernel.

use std::collections::HashMap;

use rustc_demangle::demangle;

use super::interest::BREAKPOINT;
use super::thread::{Frame, Thread};
use super::{Cause, Fault, Step, Syscall};
use crate::error::{Error, Result};
use crate::trace::{BEGIN, END};

/// What the kernel writes behind the name of a function of the driver.
const OF_DRIVER: &str = "[mmapdemo]";

/// Where the processor goes when it runs into a breakpoint (`arch/x86/entry/entry_64.S`).
const BREAKPOINT_ENTRY: &str = "asm_exc_debug";

/// Reads a trace; what is outside of steps is left out.
///
/// # Errors
///
/// If the kernel lost some of it, or if a line is not understood.
pub fn parse(text: &str) -> Result<Vec<Step>> {
    let mut reader = Reader::default();
    for line in text.lines() {
        reader.line(line)?;
    }
    reader.finish();
    Ok(reader.steps)
}

#[derive(Default)]
struct Reader {
    threads: HashMap<u32, Thread>,
    steps: Vec<Step>,
    recording: bool,
    /// A stack that is being read: whose, and its functions, the innermost first.
    stack: Option<(u32, Vec<Frame>)>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<()> {
        if line.contains("[LOST ") {
            return Err(Error::Garbled {
                what: "the trace".to_owned(),
                detail: format!("it is not complete: {line}"),
            });
        }
        if let Some(frame) = line.strip_prefix(" => ") {
            if let Some((_, frames)) = &mut self.stack {
                frames.push(self::frame(frame));
            }
            return Ok(());
        }
        self.end_of_stack();
        // Headings, and lines that say that a CPU goes on with another task.
        if line.starts_with('#')
            || line.trim().is_empty()
            || line.contains("-----")
            || line.contains(" => ")
        {
            return Ok(());
        }
        self.event(line).ok_or_else(|| Error::Garbled {
            what: "the trace".to_owned(),
            detail: line.to_owned(),
        })
    }

    /// A line such as ` my-prog-99    |     do_mmap() {`.
    fn event(&mut self, line: &str) -> Option<()> {
        if line.ends_with("<stack trace>") {
            let (task, _) = line.rsplit_once('[')?;
            self.stack = Some((tid(task)?, Vec::new()));
            return Some(());
        }
        let (task, what) = line.split_once(" | ")?;
        let what = what.trim();
        if what.contains("==========") {
            // The begin or the end of an interrupt.
            return Some(());
        }
        let tid = tid(task)?;
        if let Some(comment) = what.strip_prefix("/*") {
            return self.comment(tid, comment.strip_suffix("*/")?.trim());
        }
        if let Some(end) = what.strip_prefix('}') {
            let name = end.trim().strip_prefix("/*")?.strip_suffix("*/")?;
            self.end(tid, name_of(name.trim()));
            return Some(());
        }
        let (name, rest) = what.split_once('(')?;
        let name = name_of(name);
        self.begin(tid, name);
        if rest.ends_with(';') {
            self.end(tid, name);
        }
        Some(())
    }

    /// An event of the kernel's, or a mark.
    fn comment(&mut self, tid: u32, text: &str) -> Option<()> {
        if let Some((_, name)) = text.split_once(BEGIN) {
            self.finish();
            self.steps.push(Step {
                name: name.trim().to_owned(),
                entries: Vec::new(),
            });
            self.recording = true;
        } else if text.contains(END) {
            self.finish();
        } else if text.starts_with("page_fault_") {
            let fault = fault(text)?;
            let thread = self.threads.entry(tid).or_default();
            // In the middle of a system call it is a part of that.
            if !matches!(thread.cause(), Some(Cause::Syscall(_))) {
                self.enter(tid, Cause::Fault(fault));
            }
        } else if let Some((name, value)) = text.strip_prefix("sys_")?.split_once(" -> ") {
            self.returned(tid, name, number(value)?);
        } else {
            let syscall = syscall(text.strip_prefix("sys_")?)?;
            self.enter(tid, Cause::Syscall(syscall));
        }
        Some(())
    }

    fn enter(&mut self, tid: u32, cause: Cause) {
        let before = self.threads.entry(tid).or_default().enter(tid, cause);
        self.keep(before);
    }

    fn returned(&mut self, tid: u32, name: &str, value: u64) {
        let thread = self.threads.entry(tid).or_default();
        if let Some(Cause::Syscall(syscall)) = thread.cause() {
            if syscall.name == name {
                syscall.returned = Some(i64::from_le_bytes(value.to_le_bytes()));
            }
        }
        let entry = thread.leave();
        self.keep(entry);
    }

    fn begin(&mut self, tid: u32, name: &str) {
        let thread = self.threads.entry(tid).or_default();
        if thread.is_outside() {
            let begins = match name {
                "dup_mmap" => Some(Cause::Fork),
                "exit_mmap" => Some(Cause::Exit),
                _ => None,
            };
            let in_call = matches!(thread.cause(), Some(Cause::Syscall(_)));
            let over = matches!(thread.cause(), None | Some(Cause::Fork | Cause::Exit));
            let before = match begins {
                Some(cause) if !in_call => thread.enter(tid, cause),
                _ if over => thread.leave(),
                _ => None,
            };
            thread.begin(name);
            self.keep(before);
        } else {
            thread.begin(name);
        }
    }

    fn end(&mut self, tid: u32, name: &str) {
        self.threads.entry(tid).or_default().end(name);
    }

    fn end_of_stack(&mut self) {
        let Some((tid, frames)) = self.stack.take() else {
            return;
        };
        let thread = self.threads.entry(tid).or_default();
        let interrupted = frames
            .iter()
            .position(|frame| frame.name == BREAKPOINT_ENTRY);
        match interrupted.and_then(|at| frames.get(at + 1..)) {
            Some([function, callers @ ..]) => thread.hit(function, callers),
            Some([]) => {}
            None => {
                let mut frames = frames
                    .into_iter()
                    .skip_while(|frame| frame.name.starts_with("ftrace_"));
                if let Some(callee) = frames.next().filter(|callee| callee.name != BREAKPOINT) {
                    thread.called_by(&callee.name, frames.collect());
                }
            }
        }
    }

    fn keep(&mut self, entry: Option<super::Entry>) {
        if let (true, Some(step)) = (self.recording, self.steps.last_mut()) {
            step.entries.extend(entry);
        }
    }

    /// The step is over, if there is one.
    fn finish(&mut self) {
        let mut open: Vec<_> = self.threads.drain().collect();
        open.sort_by_key(|(tid, _)| *tid);
        for (_, mut thread) in open {
            let entry = thread.leave();
            self.keep(entry);
        }
        self.recording = false;
    }
}

/// The number behind the last dash: `my-prog-99`.
fn tid(task: &str) -> Option<u32> {
    let (_, tid) = task.trim().rsplit_once('-')?;
    tid.trim().parse().ok()
}

/// A function on a stack, such as `do_mmap` or `_RNv...mmap [mmapdemo]`.
fn frame(text: &str) -> Frame {
    let symbol = name_of(text.trim());
    let name = format!("{:#}", demangle(symbol));
    Frame {
        of_driver: text.contains(OF_DRIVER)
            || name.starts_with("<mmapdemo::")
            || name.starts_with("mmapdemo::"),
        name,
    }
}

/// Without the name of its module.
fn name_of(function: &str) -> &str {
    function.split(' ').next().unwrap_or_default()
}

/// Such as `mmap(addr: 0, len: 0x3000)`.
fn syscall(text: &str) -> Option<Syscall> {
    let (name, args) = text.split_once('(')?;
    let args = args.trim_end().strip_suffix(')')?.split(", ");
    let args = args.filter(|arg| !arg.is_empty()).map(|arg| {
        let (name, value) = arg.split_once(": ")?;
        Some((name.to_owned(), number(value)?))
    });
    Some(Syscall {
        name: name.to_owned(),
        args: args.collect::<Option<_>>()?,
        returned: None,
    })
}

/// Such as `page_fault_user: address=0x7f20 ip=0x4c9c90 error_code=0x7`.
fn fault(fields: &str) -> Option<Fault> {
    let field = |name| {
        let mut fields = fields.split(' ').filter_map(|field| field.split_once('='));
        fields
            .find(|(known, _)| *known == name)
            .and_then(|(_, value)| number(value))
    };
    Some(Fault {
        addr: field("address")?,
        error_code: field("error_code")?,
    })
}

/// Hexadecimal; what it means may follow in parentheses.
fn number(text: &str) -> Option<u64> {
    let text = text.trim().split(' ').next()?;
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}
