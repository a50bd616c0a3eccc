//! The saved logs in `tests/data`.
//!
//! The `.log` files are consoles of real runs: of Debian's kernels, with modules that misbehave on
//! request. All but the clean ones have lost the lines between the first three and `init`'s start.

use std::fs;
use std::path::Path;

/// The content of a saved log.
pub(crate) fn saved(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
