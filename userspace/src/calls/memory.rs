//! Memory: which entries into the kernel are about memory that somebody asks for.

use std::ops::Range;

use clap::ValueEnum;

use super::{Cause, Entry, Step, Syscall};

/// Which memory is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Memory {
    /// What is mapped from the driver.
    Device,
    /// What is mapped from files and devices.
    Files,
    /// What is mapped by mmap(2).
    Mapped,
    /// All of it: text, heap and stack as well.
    Any,
}

/// Leaves the entries about this memory, and says how many others there were.
#[must_use]
pub fn select(steps: Vec<Step>, memory: Memory) -> (Vec<Step>, usize) {
    let mut left_out = 0;
    let steps = steps.into_iter().map(|step| {
        let mut known = Known::default();
        let (name, nr_entries) = (step.name, step.entries.len());
        let entries: Vec<_> = step
            .entries
            .into_iter()
            .filter(|entry| known.wants(entry, memory))
            .collect();
        left_out += nr_entries - entries.len();
        Step { name, entries }
    });
    let steps = steps.collect();
    (steps, left_out)
}

/// What was mapped so far, by whomever: children have the mappings of their parents.
#[derive(Default)]
struct Known {
    mapped: Vec<Range<u64>>,
}

impl Known {
    fn wants(&mut self, entry: &Entry, memory: Memory) -> bool {
        match (&entry.cause, memory) {
            (_, Memory::Any) => true,
            (Cause::Syscall(call), _) if call.name == "mmap" => self.maps(entry, call, memory),
            (Cause::Syscall(call), _) => {
                // The address comes first, whatever its name.
                let addr = call.args.first().map_or(0, |(_, addr)| *addr);
                entry.reaches_driver() || self.has(addr)
            }
            (Cause::Fault(fault), _) => entry.reaches_driver() || self.has(fault.addr),
            // Of all that is copied or given up, only the driver's part is told apart.
            (Cause::Fork | Cause::Exit, _) => entry.reaches_driver(),
        }
    }

    fn maps(&mut self, entry: &Entry, call: &Syscall, memory: Memory) -> bool {
        let refused = call
            .returned
            .is_some_and(|returned| (-4095..0).contains(&returned));
        let wanted = match memory {
            Memory::Device => entry.reaches_driver() || refused && call.fd().is_some(),
            Memory::Files => call.fd().is_some(),
            Memory::Mapped | Memory::Any => true,
        };
        if let (true, false, Some(returned)) = (wanted, refused, call.returned) {
            let begin = u64::from_le_bytes(returned.to_le_bytes());
            self.mapped
                .push(begin..begin.saturating_add(call.arg("len")));
        }
        wanted
    }

    fn has(&self, addr: u64) -> bool {
        self.mapped.iter().any(|range| range.contains(&addr))
    }
}
