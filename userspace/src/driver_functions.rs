//! Driver functions: where those of the driver are in memory that the kernel calls about a mapping, and a breakpoint on
//! each.
//!
//! rustc leaves no place in them for a tracer to hook in, and the kernel refuses kprobes on functions without one. A
//! hardware breakpoint needs none: it is counted by perf, and the function that counts can be traced. A processor has
//! four.

use std::fs;

use perf_event::events::Breakpoint;
use perf_event::{Builder, Counter};
use rustc_demangle::demangle;

use crate::error::{Error, Result};

const KALLSYMS: &str = "/proc/kallsyms";

/// What is in the names of functions worth a breakpoint, and what is at their end: `mmap`, and what the kernel calls when
/// a page is touched, when a mapping is copied, and when it goes.
const WORTH: [(&str, &str); 4] = [
    (" as kernel::miscdevice::MiscDevice>", "::mmap"),
    ("::Operations<", "::fault"),
    ("::Operations<", "::open"),
    ("::Operations<", "::close"),
];

/// Breakpoints on functions of the driver, for this process and the children that it will have.
#[derive(Debug, Default)]
pub struct Breakpoints {
    counters: Vec<Counter>,
}

impl Breakpoints {
    /// Sets them; none if the driver is not there.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell addresses, or the machine has no breakpoints to give.
    pub fn set() -> Result<Self> {
        let symbols = fs::read_to_string(KALLSYMS).map_err(Error::file("read", KALLSYMS))?;
        let mut counters = Vec::new();
        for (addr, name) in addresses(&symbols) {
            let mut builder = Builder::new(Breakpoint::execute(addr));
            builder.inherit(true).exclude_kernel(false);
            let refused = |error: std::io::Error| Error::Garbled {
                what: format!("a breakpoint on {name}"),
                detail: error.to_string(),
            };
            let mut counter = builder.build().map_err(refused)?;
            counter.enable().map_err(refused)?;
            counters.push(counter);
        }
        Ok(Self { counters })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }
}

/// The functions of the driver that are worth a breakpoint, by address.
fn addresses(symbols: &str) -> Vec<(u64, String)> {
    let symbol = |line: &str| {
        let (symbol, module) = line.split_once('\t')?;
        let [addr, kind, name] = symbol.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let name = format!("{:#}", demangle(name));
        let worth = |(inside, end): &(&str, &str)| name.contains(inside) && name.ends_with(end);
        let is_ours = module == "[mmapdemo]" && kind.eq_ignore_ascii_case("t");
        let wanted = is_ours && name.starts_with("<mmapdemo::") && WORTH.iter().any(worth);
        let addr = u64::from_str_radix(addr, 16)
            .ok()
            .filter(|addr| *addr != 0)?;
        wanted.then_some((addr, name))
    };
    symbols.lines().filter_map(symbol).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a guest.
    const SYMBOLS: &str = "\
ffffffff81234560 T do_mmap
ffffffffc0400170 t _RNvMs2_NtCsb5MLIFMWygY_6kernel10miscdeviceINtB5_16MiscdeviceVTableNtNtCslR1xLWU8rDS_8mmapdemo6device8MmapDemoE4mmapB16_\t[mmapdemo]
ffffffffc0400a30 t _RNvXs_NtCslR1xLWU8rDS_8mmapdemo6deviceNtB4_8MmapDemoNtNtCsb5MLIFMWygY_6kernel10miscdevice10MiscDevice4mmap\t[mmapdemo]
ffffffffc0400a20 t __pfx__RNvXs_NtCslR1xLWU8rDS_8mmapdemo6deviceNtB4_8MmapDemoNtNtCsb5MLIFMWygY_6kernel10miscdevice10MiscDevice4mmap\t[mmapdemo]
ffffffffc0400720 t _RNvMs_NtNtCslR1xLWU8rDS_8mmapdemo3raw3vmaINtB4_10OperationsNtNtB8_4node4NodeE5faultB8_\t[mmapdemo]
ffffffffc04005e0 t _RNvXs_NtCslR1xLWU8rDS_8mmapdemo4nodeNtB4_4NodeNtNtNtB6_3raw3vma6Mapped5fault\t[mmapdemo]
ffffffffc0400710 t .Ltmp20\t[mmapdemo]
";

    #[test]
    fn what_the_kernel_calls_about_a_mapping_gets_a_breakpoint() {
        let found = addresses(SYMBOLS);
        let expected = [
            (
                0xffff_ffff_c040_0a30,
                "<mmapdemo::device::MmapDemo as kernel::miscdevice::MiscDevice>::mmap",
            ),
            (
                0xffff_ffff_c040_0720,
                "<mmapdemo::raw::vma::Operations<mmapdemo::node::Node>>::fault",
            ),
        ];
        assert_eq!(found, expected.map(|(addr, name)| (addr, name.to_owned())));
    }

    #[test]
    fn addresses_that_the_kernel_hides_are_none() {
        let hide = |line: &str| format!("{}{}\n", "0".repeat(16), &line[16..]);
        let hidden: String = SYMBOLS.lines().map(hide).collect();
        assert_eq!(addresses(&hidden), []);
    }
}
