//! Modules that differ from the one under test by their name, and by the names of their nodes.

use std::fs;

use crate::fixture::MODULE;

/// Where the twin made last is.
pub const PATH: &str = "/root/twin.ko";

/// What follows the name in a `struct module`, which has 56 bytes for it; nothing else there is as empty.
const UNUSED: [u8; 32] = [0; 32];

/// The module, and where the names are that make it another.
pub struct Twin {
    elf: Vec<u8>,
    places: Vec<usize>,
}

impl Twin {
    /// Other names for the module and its first `renamed` nodes.
    pub fn new(renamed: usize) -> Self {
        let elf = fs::read(MODULE).expect("read the module");
        let is_other = |&at: &usize| {
            let (before, rest) = elf.split_at(at);
            let Some(after) = rest.strip_prefix(b"mmapdemo") else {
                return false;
            };
            let is_module = before.ends_with(b"name=") || after.starts_with(&UNUSED);
            let node = match after.get(..3) {
                Some(b"-pf") => 1,
                Some(b"-fa") => 2,
                _ => 0,
            };
            is_module || node < renamed
        };
        let places = (0..elf.len()).filter(is_other).collect();
        Self { elf, places }
    }

    /// Writes the module to [`PATH`], with names that begin with `letter` in place of an m, and returns its own.
    pub fn write(&mut self, letter: u8) -> String {
        for &at in &self.places {
            self.elf[at] = letter;
        }
        fs::write(PATH, &self.elf).expect("write the twin");
        format!("{}mapdemo", char::from(letter))
    }
}
