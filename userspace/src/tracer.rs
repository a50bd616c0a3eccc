//! Tracer: records which functions of the kernel this process and its children go through.
//!
//! It uses ftrace (`Documentation/trace/ftrace.rst`) in an instance of its own, so that nobody else's tracing
//! changes. Functions that rustc compiled have no place to hook in: they show as the callers of others.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::unistd::gettid;

use crate::error::{Error, Result};
use crate::trace::{BEGIN, END, Trace};

const TRACEFS: &str = "/sys/kernel/tracing";
const FUNCTIONS: &str = "available_filter_functions";

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

/// An instance of ftrace, which is removed when this is dropped.
#[derive(Debug)]
pub struct Tracer {
    dir: PathBuf,
    /// The number of each function in the kernel's list, from 1 on: far quicker to find than the name.
    numbers: HashMap<String, usize>,
}

/// A recording that is under way.
#[derive(Debug)]
pub struct Recording<'a> {
    tracer: &'a Tracer,
    marker: File,
}

impl Tracer {
    /// Makes the instance; nothing is recorded yet.
    ///
    /// # Errors
    ///
    /// If the kernel has no ftrace, or not for this user.
    pub fn new() -> Result<Self> {
        let list = Path::new(TRACEFS).join(FUNCTIONS);
        let list = fs::read_to_string(&list).map_err(Error::file("read", &list))?;
        let dir = Path::new(TRACEFS).join(format!("instances/mmapdemo-{}", std::process::id()));
        fs::create_dir(&dir).map_err(Error::file("make", &dir))?;
        let tracer = Self {
            dir,
            numbers: numbers(&list),
        };
        for (file, value) in SETTINGS {
            tracer.set(file, value)?;
        }
        for file in ["set_ftrace_pid", "set_event_pid"] {
            tracer.set(file, &gettid().to_string())?;
        }
        Ok(tracer)
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
        self.set("set_ftrace_filter", &filter.join(" "))?;
        let marker = self.dir.join("trace_marker");
        let marker = OpenOptions::new().write(true).open(&marker);
        let recording = Recording {
            tracer: self,
            marker: marker.map_err(Error::file("open", &self.dir))?,
        };
        self.set("tracing_on", "1")?;
        // This also empties the trace.
        self.set("current_tracer", "function")?;
        let made = body(&recording);
        self.set("tracing_on", "0")?;
        let trace = self.get("trace");
        drop(recording);
        Ok((made?, Trace::parse(&trace?)?))
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        let path = self.dir.join(file);
        fs::write(&path, value).map_err(Error::file("write", &path))
    }

    fn get(&self, file: &str) -> Result<String> {
        let path = self.dir.join(file);
        fs::read_to_string(&path).map_err(Error::file("read", &path))
    }
}

impl Recording<'_> {
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
        written.map_err(Error::file("write", self.tracer.dir.join("trace_marker")))
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        // The trace has been read, or an error is under way; the instance is removed at the end anyway.
        let _ = self.tracer.set("tracing_on", "0");
        let _ = self.tracer.set("current_tracer", "nop");
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // What is left then is an instance that records nothing.
        let _ = fs::remove_dir(&self.dir);
    }
}

fn numbers(list: &str) -> HashMap<String, usize> {
    let name = |line: &str| {
        line.split([' ', '\t'])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let lines = list.lines().enumerate();
    lines.map(|(index, line)| (name(line), index + 1)).collect()
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
        let file = Path::new(TRACEFS).join("available_tracers");
        match fs::read_to_string(&file) {
            Ok(tracers) if tracers.split_whitespace().any(|it| it == "function") => None,
            Ok(_) => Some("the kernel has no function tracer".to_owned()),
            Err(error) => Some(format!("cannot read {}: {error}", file.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_numbered_from_1_on() {
        let numbers = numbers("do_mmap\nvm_insert_page\nnvme_probe [nvme]\n");
        assert_eq!(numbers.get("do_mmap"), Some(&1));
        assert_eq!(numbers.get("nvme_probe"), Some(&3));
    }
}
