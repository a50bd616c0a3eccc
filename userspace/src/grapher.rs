//! Grapher: records what the kernel and the driver call on behalf of this process and its children, as trees.

use crate::calls::interest::{WITNESSES, is_interesting};
use crate::driver_functions::Breakpoints;
use crate::error::{Error, Result};
use crate::ftrace::{self, Instance};
use crate::tracer::Recording;

/// The tracer that it takes.
pub const TRACER: &str = "function_graph";

/// Whose begin and end are recorded, as they say why the kernel was entered.
const SYSCALLS: [&str; 10] = [
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "msync",
    "mlock",
    "mlock2",
    "munlock",
    "remap_file_pages",
];

/// Nothing is recorded until it begins; whose call it is, and which one ends; children as well; one clock for all CPUs.
const SETTINGS: [(&str, &str); 12] = [
    ("tracing_on", "0"),
    ("options/funcgraph-proc", "1"),
    ("options/funcgraph-tail", "1"),
    ("options/funcgraph-cpu", "0"),
    ("options/funcgraph-duration", "0"),
    ("options/funcgraph-overhead", "0"),
    ("options/function-fork", "1"),
    ("options/event-fork", "1"),
    ("options/sym-offset", "0"),
    ("events/exceptions/page_fault_user/enable", "1"),
    ("events/exceptions/page_fault_kernel/enable", "1"),
    ("trace_clock", "global"),
];

/// For each CPU, in KiB: what a few thousand page faults leave.
const BUFFER_KIB: &str = "16384";
/// And if nothing is filtered.
const BUFFER_OF_ALL_KIB: &str = "65536";

/// A recorder that is set up.
#[derive(Debug)]
pub struct Grapher {
    instance: Instance,
    breakpoints: Result<Breakpoints, Error>,
}

impl Grapher {
    /// Sets it up, for `all` functions or those of memory management.
    ///
    /// # Errors
    ///
    /// If the kernel has no such tracer, or not for this user.
    pub fn new(all: bool) -> Result<Self> {
        let instance = Instance::new("mmapdemo-graph", &SETTINGS)?;
        let buffer = if all { BUFFER_OF_ALL_KIB } else { BUFFER_KIB };
        instance.set("buffer_size_kb", buffer)?;
        for syscall in SYSCALLS {
            for side in ["enter", "exit"] {
                instance.set(&format!("events/syscalls/sys_{side}_{syscall}/enable"), "1")?;
            }
        }
        let functions = ftrace::functions()?;
        if all {
            instance.set("options/funcgraph-irqs", "1")?;
        } else {
            instance.set("options/funcgraph-irqs", "0")?;
            let numbers = functions.iter().zip(1..);
            let numbers: Vec<_> = numbers
                .filter(|(name, _)| is_interesting(name))
                .map(|(_, number): (_, usize)| number.to_string())
                .collect();
            instance.set("set_ftrace_filter", &numbers.join(" "))?;
        }
        for witness in WITNESSES {
            if functions.iter().any(|name| name == witness) {
                instance.add("set_ftrace_filter", &format!("{witness}:stacktrace"))?;
            }
        }
        Ok(Self {
            instance,
            breakpoints: Breakpoints::set(),
        })
    }

    /// Why some functions of the driver may be missing in the trees, if they may.
    #[must_use]
    pub fn lacks(&self) -> Option<String> {
        match &self.breakpoints {
            Ok(breakpoints) if breakpoints.is_empty() => {
                Some("the driver is not loaded, or not ours".to_owned())
            }
            Ok(_) => None,
            Err(error) => Some(format!(
                "{error}; functions of the driver are shown where they call the kernel"
            )),
        }
    }

    /// Records the steps that `body` makes, and returns what the tracer wrote.
    ///
    /// # Errors
    ///
    /// What `body` fails with, or if the trace is not complete.
    pub fn record(&self, body: impl FnOnce(&Recording<'_>) -> Result<()>) -> Result<String> {
        let recording = Recording::new(&self.instance)?;
        // This also empties the trace.
        self.instance.set("current_tracer", TRACER)?;
        self.instance.set("tracing_on", "1")?;
        let made = body(&recording);
        self.instance.set("tracing_on", "0")?;
        let text = self.instance.get("trace")?;
        drop(recording);
        made?;
        self.require_complete()?;
        Ok(text)
    }

    /// The buffer of a CPU is a ring: what is too much overwrites what was first.
    fn require_complete(&self) -> Result<()> {
        let cpus = self.instance.path("per_cpu");
        let cpus = std::fs::read_dir(&cpus).map_err(Error::file("read", &cpus))?;
        for cpu in cpus {
            let cpu = cpu.map_err(Error::file("read", self.instance.path("per_cpu")))?;
            let stats = format!("per_cpu/{}/stats", cpu.file_name().to_string_lossy());
            let stats = self.instance.get(&stats)?;
            let lost = stats
                .lines()
                .find_map(|line| line.strip_prefix("overrun: "));
            if lost.is_none_or(|lost| lost.trim() != "0") {
                return Err(Error::Garbled {
                    what: "the trace".to_owned(),
                    detail: "it is too long for the buffers; trace less: one node with --device, without --all, \
                             or a shorter program"
                        .to_owned(),
                });
            }
        }
        Ok(())
    }
}
