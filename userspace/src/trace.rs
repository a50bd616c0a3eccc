//! Trace: which functions of the kernel a process went through, in order; pure.
//!
//! Read from what the `function` tracer writes with the option `func-args`, see
//! `Documentation/trace/ftrace.rst`.

use rustc_demangle::demangle;

use crate::error::{Error, Result};

/// What marks the begin of a step in the trace, before its name.
pub const BEGIN: &str = "mmapdemo begins ";
/// What marks the end of a step.
pub const END: &str = "mmapdemo ends";

/// A function that was called, or an event that the kernel reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The thread that made it.
    pub tid: u32,
    /// The function or the event.
    pub name: String,
    /// Its arguments, or the fields of the event, by name.
    pub args: Vec<(String, String)>,
    /// The function that called it, as its source has it; empty for an event. This is how functions show that
    /// cannot be traced themselves, such as those that rustc compiled.
    pub caller: String,
}

/// All calls of a recording, step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    steps: Vec<(String, Vec<Call>)>,
}

impl Call {
    /// The argument of this name as a number, if it is one: `0x10` is 16.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        let (_, text) = self.args.iter().find(|(known, _)| known == name)?;
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    }
}

impl Trace {
    /// Reads a trace; calls outside of steps are left out.
    ///
    /// # Errors
    ///
    /// If the kernel lost some of it, or if a line is not understood.
    pub fn parse(text: &str) -> Result<Self> {
        let garbled = |detail: String| Error::Garbled {
            what: "the trace".to_owned(),
            detail,
        };
        let mut trace = Self::default();
        let mut open = false;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if line.contains("[LOST ") {
                return Err(garbled(format!("it is not complete: {line}")));
            }
            let (tid, what) = split(line).ok_or_else(|| garbled(line.to_owned()))?;
            match what.strip_prefix("tracing_mark_write: ") {
                Some(mark) if mark.starts_with(BEGIN) => {
                    let name = mark.trim_start_matches(BEGIN).trim_end().to_owned();
                    trace.steps.push((name, Vec::new()));
                    open = true;
                }
                Some(_) => open = false,
                None => {
                    let call = call(tid, what).ok_or_else(|| garbled(line.to_owned()))?;
                    if let (true, Some((_, calls))) = (open, trace.steps.last_mut()) {
                        calls.push(call);
                    }
                }
            }
        }
        Ok(trace)
    }

    /// The calls of a step, in order; none if there was no such step.
    #[must_use]
    pub fn step(&self, name: &str) -> &[Call] {
        let step = self.steps.iter().find(|(known, _)| known == name);
        step.map_or(&[], |(_, calls)| calls.as_slice())
    }

    /// How often a function was called in a step.
    #[must_use]
    pub fn count(&self, step: &str, function: &str) -> u64 {
        let calls = self.step(step).iter();
        calls.filter(|call| call.name == function).count() as u64
    }

    /// The place of a function's first call among the calls of a step, from 1 on.
    #[must_use]
    pub fn place(&self, step: &str, function: &str) -> Option<u64> {
        let mut calls = self.step(step).iter();
        let place = calls.position(|call| call.name == function)?;
        Some(place as u64 + 1)
    }

    /// How often a function was called in a step with this number as an argument.
    #[must_use]
    pub fn count_with(&self, step: &str, function: &str, argument: &str, number: u64) -> u64 {
        let calls = self.step(step).iter();
        let with = |call: &&Call| call.name == function && call.number(argument) == Some(number);
        calls.filter(with).count() as u64
    }

    /// What called a function in a step for the first time.
    #[must_use]
    pub fn caller(&self, step: &str, function: &str) -> Option<&str> {
        let call = self.step(step).iter().find(|call| call.name == function)?;
        Some(&call.caller)
    }

    /// The names of all that was called in a step, each once, in the order of their first calls.
    #[must_use]
    pub fn names(&self, step: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for call in self.step(step) {
            if !names.contains(&call.name) {
                names.push(call.name.clone());
            }
        }
        names
    }
}

/// Takes `          sh-99      [001] ...1.    27.963433: what` apart.
fn split(line: &str) -> Option<(u32, &str)> {
    let (who, rest) = line.split_once("] ")?;
    let (task, _cpu) = who.rsplit_once('[')?;
    let (_, tid) = task.trim_end().rsplit_once('-')?;
    let (_, what) = rest.split_once(": ")?;
    Some((tid.parse().ok()?, what))
}

fn call(tid: u32, what: &str) -> Option<Call> {
    let Some((function, caller)) = what.rsplit_once(" <-") else {
        let (event, fields) = what.split_once(": ")?;
        return Some(Call {
            tid,
            name: event.to_owned(),
            args: pairs(fields.split(' ')),
            caller: String::new(),
        });
    };
    let (name, args) = match function.split_once('(') {
        Some((name, args)) => (name, args.strip_suffix(')')?),
        None => (function, ""),
    };
    let symbol = caller.split(' ').next()?;
    Some(Call {
        tid,
        name: name.to_owned(),
        args: pairs(args.split(", ")),
        caller: format!("{:#}", demangle(symbol)),
    })
}

/// A number may be followed by what it means: `0xfff (-1)`.
fn pairs<'a>(of: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let pairs = of.filter_map(|one| one.split_once('='));
    let value = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    pairs
        .map(|(name, text)| (name.to_owned(), value(text)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded in a guest by the experiment `path-of-mmap`.
    const SAVED: &str = include_str!("../tests/data/trace");

    #[test]
    fn the_calls_of_a_step_come_in_order() {
        let trace = Trace::parse(SAVED).unwrap();
        assert!(trace.place("device-map", "fget") < trace.place("device-map", "do_mmap"));
        assert_eq!(trace.count("device-map", "vm_insert_page"), 1);
        assert_eq!(trace.count("zero-map", "vm_insert_page"), 0);
        assert_eq!(trace.count("zero-map", "mmap_zero_prepare"), 1);
        assert_eq!(trace.step("no-such-step"), []);
        assert_eq!(trace.place("device-map", "filemap_fault"), None);
    }

    #[test]
    fn rust_shows_as_the_caller_by_its_own_name() {
        let trace = Trace::parse(SAVED).unwrap();
        assert_eq!(
            trace.caller("device-map", "vm_insert_page"),
            Some("<mmapdemo::device::MmapDemo as kernel::miscdevice::MiscDevice>::mmap")
        );
    }

    #[test]
    fn arguments_and_fields_are_numbers_by_name() {
        let line = "  my sh-99  [001] ...1.  27.96: handle_mm_fault(vma=0x1, address=0x7f10, flags=0x12 (18)) <-do_user_addr_fault";
        let event = "  sh-99  [000] d....  27.96: page_fault_user: address=0x7f20 ip=0x4c9c90 error_code=0x7";
        let text =
            format!("  sh-99 [001] ...1. 2.5: tracing_mark_write: {BEGIN}one\n{line}\n{event}\n");
        let trace = Trace::parse(&text).unwrap();
        let calls = trace.step("one");
        let numbers: Vec<_> = calls.iter().map(|call| call.number("address")).collect();
        assert_eq!(numbers, [Some(0x7f10), Some(0x7f20)]);
        assert_eq!(trace.count_with("one", "handle_mm_fault", "flags", 0x12), 1);
        assert_eq!(trace.count_with("one", "handle_mm_fault", "flags", 0x13), 0);
        assert_eq!(trace.names("one"), ["handle_mm_fault", "page_fault_user"]);
    }

    #[test]
    fn a_trace_that_lacks_something_is_refused() {
        assert!(Trace::parse("CPU:1 [LOST 12 EVENTS]\n").is_err());
        assert!(Trace::parse("gibberish\n").is_err());
    }
}
