//! What is mapped where, as the kernel tells it.

use super::{Example, Story};
use crate::error::Result;
use crate::object::{MemFile, Request};
use crate::procfs;
use crate::sys::PAGE_SIZE;

pub(super) const EXAMPLE: Example = Example {
    name: "maps",
    source: "000, tools",
    about: "show what /proc/PID/maps and pmap -x say of a mapping",
    right,
    as_written: None,
};

const NR_PAGES: usize = 4;

fn right() -> Result<Story> {
    let mut story = Story::default();
    let file = MemFile::filled(NR_PAGES * PAGE_SIZE)?;
    let shared = Request::shared(file.path())
        .len(NR_PAGES * PAGE_SIZE)
        .map()?;
    let private = Request::anonymous(libc::MAP_PRIVATE)
        .len(NR_PAGES * PAGE_SIZE)
        .map()?;
    shared.store(0, 1)?;
    story.did(
        "mapped 4 pages of a file shared and stored a byte; mapped 4 pages of anonymous memory",
    );
    for (mapping, mode, rss) in [(&shared, "rw-s", 4), (&private, "rw-p", 0)] {
        let Some(vma) = procfs::vma(mapping.addr())? else {
            story.expect(false, "/proc/self/maps has a line about it");
            continue;
        };
        let (start, end, rss_kib) = (vma.start, vma.end, vma.rss_kib);
        let kib = (end - start) / 1024;
        let seen = vma.mode == mode && kib >= 16 && rss_kib >= rss;
        let line = format!(
            "{start:x}-{end:x} {} {kib} KiB, {rss_kib} KiB of it present {}",
            vma.mode, vma.name
        );
        story.expect(seen, line);
    }
    story.why(
        "/proc/PID/maps lists VMAs, one a line, neighbours that are alike as one; pmap -x PID adds from smaps how \
         much of each is present. strace -e mmap shows the calls, and needs a program to run or -p PID.",
    );
    Ok(story)
}
