//! Kernel symbols: where the running kernel keeps what has a name, from `/proc/kallsyms`, for root.

use std::collections::HashMap;
use std::fs;
use std::sync::OnceLock;

use crate::error::{Error, Result};

const KALLSYMS: &str = "/proc/kallsyms";

/// What is asked for; the list is long, and read once.
const KNOWN: [&str; 2] = ["init_task", "vmemmap_base"];

/// The kernel's address of one of its variables.
///
/// # Errors
///
/// If the list cannot be read, does not have it, or hides the addresses, `kptr_restrict` of `proc_sys_kernel(5)`.
pub fn address(name: &str) -> Result<u64> {
    static ADDRESSES: OnceLock<HashMap<String, u64>> = OnceLock::new();
    let addresses = if let Some(addresses) = ADDRESSES.get() {
        addresses
    } else {
        let text = fs::read_to_string(KALLSYMS).map_err(Error::file("read", KALLSYMS))?;
        ADDRESSES.get_or_init(|| parse(&text))
    };
    let found = addresses.get(name).copied().filter(|addr| *addr != 0);
    found.ok_or_else(|| Error::Garbled {
        what: KALLSYMS.to_owned(),
        detail: format!("it shows no address of {name}"),
    })
}

/// Each line has an address, a letter and a name; those of modules have the module as well.
fn parse(text: &str) -> HashMap<String, u64> {
    let known = |line: &str| {
        let mut fields = line.split_whitespace();
        let (addr, name) = (fields.next()?, fields.nth(1)?);
        let addr = u64::from_str_radix(addr, 16).ok()?;
        (KNOWN.contains(&name) && fields.next().is_none()).then(|| (name.to_owned(), addr))
    };
    text.lines().filter_map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_of_the_kernel_is_found_and_that_of_a_module_is_not() {
        let text = "ffffffff82a0c940 D init_task\nffffffffc0001000 d vmemmap_base\t[other]\n";
        let found = parse(text);
        assert_eq!(found.get("init_task"), Some(&0xffff_ffff_82a0_c940));
        assert_eq!(found.get("vmemmap_base"), None);
    }
}
