//! Tracer: records which functions of the kernel this process and its children go through.
//!
//! It uses ftrace (`Documentation/trace/ftrace.rst`) in an instance of its own, so that nobody else's tracing
//! changes. Functions that rustc compiled have no place to hook in: they show as the callers of others.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;

use crate::error::{Error, Result};
use crate::ftrace::{self, FUNCTIONS, Instance};
use crate::trace::{BEGIN, END, Trace};

/// The event of a page fault in user space; unlike the functions, it also sees the faults that are refused.
pub const PAGE_FAULT: &str = "page_fault_user";

/// What every recording needs, as files of the instance and what is written to them: nothing until it begins, the
/// names and values of arguments, children as well, page faults, and one clock for all CPUs.
const SETTINGS: [(&str, &str); 6] = [
    ("tracing_on", "0"),
    ("options/func-args", "1"),
    ("options/function-fork", "1"),
    ("options/event-fork", "1"),
    ("events/exceptions/page_fault_user/enable", "1"),
    ("trace_clock", "global"),
];

/// An instance of ftrace that is set up for it.
#[derive(Debug)]
pub struct Tracer {
    instance: Instance,
    /// The number of each function in the kernel's list, from 1 on: far quicker to find than the name.
    numbers: HashMap<String, usize>,
}

/// A recording that is under way.
#[derive(Debug)]
pub struct Recording<'a> {
    instance: &'a Instance,
    marker: File,
}

impl Tracer {
    /// Makes the instance; nothing is recorded yet.
    ///
    /// # Errors
    ///
    /// If the kernel has no ftrace, or not for this user.
    pub fn new() -> Result<Self> {
        let functions = ftrace::functions()?.into_iter();
        Ok(Self {
            instance: Instance::new("mmapdemo", &SETTINGS)?,
            numbers: functions.zip(1..).collect(),
        })
    }

    /// Whether the kernel has a function of this name that can be traced.
    #[must_use]
    pub fn knows(&self, function: &str) -> bool {
        self.numbers.contains_key(function)
    }

    /// Records which of `functions` are called in the steps that `body` makes.
    ///
    /// # Errors
    ///
    /// What `body` fails with, or if there is no such function, or if the trace is not complete.
    pub fn record<T>(
        &self,
        functions: &[&str],
        body: impl FnOnce(&Recording<'_>) -> Result<T>,
    ) -> Result<(T, Trace)> {
        let number = |function: &&str| {
            let number = self.numbers.get(*function).map(usize::to_string);
            number.ok_or_else(|| Error::Garbled {
                what: FUNCTIONS.to_owned(),
                detail: format!("{function} is not among them"),
            })
        };
        let filter: Vec<_> = functions.iter().map(number).collect::<Result<_>>()?;
        self.instance.set("set_ftrace_filter", &filter.join(" "))?;
        let recording = Recording::new(&self.instance)?;
        self.instance.set("tracing_on", "1")?;
        // This also empties the trace.
        self.instance.set("current_tracer", "function")?;
        let made = body(&recording);
        self.instance.set("tracing_on", "0")?;
        let trace = self.instance.get("trace");
        drop(recording);
        Ok((made?, Trace::parse(&trace?)?))
    }
}

impl<'a> Recording<'a> {
    /// Of what `instance` records, once it is switched on.
    ///
    /// # Errors
    ///
    /// If there is no place for marks.
    pub fn new(instance: &'a Instance) -> Result<Self> {
        let path = instance.path("trace_marker");
        let marker = OpenOptions::new().write(true).open(&path);
        let marker = marker.map_err(Error::file("open", &path))?;
        Ok(Self { instance, marker })
    }

    /// Does `body` as a step of the recording.
    ///
    /// # Errors
    ///
    /// What `body` fails with.
    pub fn step<T>(&self, name: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
        self.mark(&format!("{BEGIN}{name}"))?;
        let made = body();
        self.mark(END)?;
        made
    }

    fn mark(&self, text: &str) -> Result<()> {
        let written = (&self.marker).write_all(text.as_bytes());
        written.map_err(Error::file("write", self.instance.path("trace_marker")))
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        // The trace has been read, or an error is under way; the instance is removed at the end anyway.
        let _ = self.instance.set("tracing_on", "0");
        let _ = self.instance.set("current_tracer", "nop");
    }
}

/// A tracer that is made when it is first asked for.
#[derive(Debug, Default)]
pub struct LazyTracer(OnceCell<Tracer>);

impl LazyTracer {
    /// The tracer.
    ///
    /// # Errors
    ///
    /// As [`Tracer::new`].
    pub fn get(&self) -> Result<&Tracer> {
        if let Some(tracer) = self.0.get() {
            return Ok(tracer);
        }
        let made = Tracer::new()?;
        Ok(self.0.get_or_init(|| made))
    }

    /// Why there can be none, or `None` if there can.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        ftrace::missing("function")
    }
}
