//! A page of memory of one's own.

use super::child::text;
use super::{Example, Story};
use crate::error::{Error, Result};
use crate::object::Request;
use crate::sys::PAGE_SIZE;

pub(super) const EXAMPLE: Example = Example {
    name: "anonymous",
    source: "004, an anonymous mapping",
    about: "map a page of private anonymous memory, and use and return it",
    right,
    as_written: None,
};

fn right() -> Result<Story> {
    let mut story = Story::default();
    let greeting = "hello, mmap";
    let mapping = Request::anonymous(libc::MAP_PRIVATE).len(100).map()?;
    story.did("mapped 100 bytes, private and anonymous");
    let len = mapping.len();
    let zeros = mapping.load_bytes(0, len)?.iter().all(|byte| *byte == 0);
    let whole = len == PAGE_SIZE && zeros;
    story.expect(
        whole,
        format!("{len} bytes can be used, as memory comes in pages, and all are 0"),
    );
    mapping.store_bytes(0, greeting.as_bytes())?;
    let found = text(&mapping)?;
    story.did(format!("stored: {greeting}"));
    story.expect(found == greeting, format!("found: {found}"));
    let unmapped = mapping.unmap();
    story.did("unmapped it");
    story.expect(unmapped.is_ok(), "munmap succeeds");
    unmapped.map_err(Error::call("munmap()", "anonymous memory"))?;
    Ok(story)
}
