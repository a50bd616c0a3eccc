//! Memory without a file, for a parent and its child.

use super::child::{done, text};
use super::{Example, Story};
use crate::error::Result;
use crate::object::Request;
use crate::sys::Mapping;

pub(super) const EXAMPLE: Example = Example {
    name: "anonymous-ipc",
    source: "000, common combinations",
    about: "let a child tell its parent something through anonymous memory",
    right,
    as_written: Some(as_written),
};

/// What the parent finds after its child has stored "child" in this memory.
fn after_the_child(mapping: &Mapping) -> Result<String> {
    mapping.store_bytes(0, b"parent\0")?;
    done("the child", || mapping.store_bytes(0, b"child\0"))?;
    text(mapping)
}

fn right() -> Result<Story> {
    let mut story = Story::default();
    let found = after_the_child(&Request::anonymous(libc::MAP_SHARED).map()?)?;
    story.did("mapped a page MAP_SHARED | MAP_ANONYMOUS, forked, and had the child store child");
    story.expect(found == "child", format!("the parent finds: {found}"));
    story.why("fork copies the mapping, and a shared one still leads to the same page.");
    Ok(story)
}

fn as_written() -> Result<Story> {
    let mut story = Story::default();
    let found = after_the_child(&Request::anonymous(libc::MAP_PRIVATE).map()?)?;
    story.did("mapped a page MAP_PRIVATE | MAP_ANONYMOUS, forked, and had the child store child");
    story.expect(
        found == "parent",
        format!("the parent still finds: {found}"),
    );
    story.why(
        "The child's store made a copy that is the child's alone. Private anonymous memory is what malloc \
         uses; to communicate, it takes MAP_SHARED.",
    );
    Ok(story)
}
