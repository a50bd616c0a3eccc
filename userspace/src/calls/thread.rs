//! Thread: the calls that one thread is in, put together from the begin and the end of each.

use super::{Call, Cause, Entry};
use crate::calls::interest::is_interruption;

/// Where a fault is handled, and where a process learns that it is not: the only functions that belong to a fault if
/// they are called by none that is traced.
const OF_FAULTS: [&str; 3] = ["handle_mm_fault", "lock_mm_and_find_vma", "force_sig_fault"];

/// The functions in which a thread is, from the outermost on.
#[derive(Debug, Default)]
pub(super) struct Thread {
    open: Vec<Open>,
    /// Why the kernel was entered, and what came of it so far.
    entry: Option<Entry>,
    /// Who called the function that comes next, the innermost first.
    callers: Option<(String, Vec<Frame>)>,
}

/// A function on a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) name: String,
    pub(super) of_driver: bool,
}

#[derive(Debug)]
struct Open {
    call: Call,
    /// Whether it is known from stacks only: its end is not in the trace.
    inferred: bool,
}

impl Frame {
    fn call(&self) -> Call {
        Call {
            name: self.name.clone(),
            of_driver: self.of_driver,
            calls: Vec::new(),
        }
    }
}

impl Thread {
    /// The kernel is entered: what went before is over, and returned.
    pub(super) fn enter(&mut self, tid: u32, cause: Cause) -> Option<Entry> {
        let before = self.leave();
        self.entry = Some(Entry {
            tid,
            cause,
            calls: Vec::new(),
        });
        before
    }

    /// The kernel is left, or the recording ends.
    pub(super) fn leave(&mut self) -> Option<Entry> {
        while !self.open.is_empty() {
            self.pop();
        }
        self.entry.take()
    }

    /// Why the kernel is in this thread.
    pub(super) fn cause(&mut self) -> Option<&mut Cause> {
        self.entry.as_mut().map(|entry| &mut entry.cause)
    }

    /// Whether it is in no function.
    pub(super) fn is_outside(&self) -> bool {
        self.open.is_empty()
    }

    /// A function begins; the kernel traces it.
    pub(super) fn begin(&mut self, name: &str) {
        // An interruption says nothing about where the function is that it interrupts.
        if !is_interruption(name) {
            match self.callers.take() {
                Some((callee, callers)) if callee == name => self.go_to(&callers),
                _ => self.go_to(&[]),
            }
        }
        self.open.push(Open {
            call: Frame {
                name: name.to_owned(),
                of_driver: false,
            }
            .call(),
            inferred: false,
        });
    }

    /// A function ends, and whatever is still open in it.
    pub(super) fn end(&mut self, name: &str) {
        let is_it = |open: &Open| !open.inferred && open.call.name == name;
        // It may have begun before the recording.
        if self.open.iter().any(is_it) {
            while let Some(open) = self.open.last() {
                let last = is_it(open);
                self.pop();
                if last {
                    break;
                }
            }
        }
    }

    /// A function of the driver begins, as a breakpoint shows; `callers` called it, the innermost first.
    pub(super) fn hit(&mut self, function: &Frame, callers: &[Frame]) {
        self.go_to(callers);
        self.open.push(Open {
            call: function.call(),
            inferred: true,
        });
    }

    /// `callee` has just begun or is about to, and these called it, the innermost first.
    pub(super) fn called_by(&mut self, callee: &str, callers: Vec<Frame>) {
        let just_begun = |open: &Open| open.call.name == callee && open.call.calls.is_empty();
        match self.open.pop() {
            Some(last) if !last.inferred && just_begun(&last) => {
                self.reopen(&callers);
                self.go_to(&callers);
                self.open.push(last);
            }
            last => {
                self.open.extend(last);
                self.callers = Some((callee.to_owned(), callers));
            }
        }
    }

    /// Opens the innermost function's last call again if that was a function of the driver that is among `callers`.
    fn reopen(&mut self, callers: &[Frame]) {
        let Some(open) = self.open.last_mut().filter(|open| !open.inferred) else {
            return;
        };
        let named = |call: &Call| callers.iter().any(|caller| caller.name == call.name);
        let last = open.call.calls.last();
        if last.is_some_and(|call| call.of_driver && named(call)) {
            let call = open.call.calls.pop();
            self.open.extend(call.map(|call| Open {
                call,
                inferred: true,
            }));
        }
    }

    /// Closes and opens inferred functions, so that those between the innermost traced one and what comes next are as in
    /// `callers`.
    fn go_to(&mut self, callers: &[Frame]) {
        let traced = self.open.iter().rposition(|open| !open.inferred);
        let base = traced.map_or(0, |index| index + 1);
        let name = traced.map(|index| self.open[index].call.name.as_str());
        let here = callers
            .iter()
            .position(|caller| Some(caller.name.as_str()) == name);
        let between = match here {
            Some(here) => callers[..here].to_vec(),
            // The function that it stands in is not traced, or has another name: the driver's are certain.
            None => callers
                .iter()
                .filter(|caller| caller.of_driver)
                .cloned()
                .collect(),
        };
        let wanted: Vec<_> = between.into_iter().rev().collect();
        let there = self.open[base..].iter().map(|open| &open.call.name);
        let common = there
            .zip(&wanted)
            .take_while(|(there, wanted)| **there == wanted.name)
            .count();
        while self.open.len() > base + common {
            self.pop();
        }
        for frame in &wanted[common..] {
            self.open.push(Open {
                call: frame.call(),
                inferred: true,
            });
        }
    }

    fn pop(&mut self) {
        let Some(Open { call, .. }) = self.open.pop() else {
            return;
        };
        if is_interruption(&call.name) {
            return;
        }
        match (self.open.last_mut(), &mut self.entry) {
            (Some(caller), _) => caller.call.calls.push(call),
            (None, Some(entry)) => {
                let of_fault = OF_FAULTS.contains(&call.name.as_str());
                if of_fault || !matches!(entry.cause, Cause::Fault(_)) {
                    entry.calls.push(call);
                }
            }
            // Nothing that is looked at.
            (None, None) => {}
        }
    }
}
