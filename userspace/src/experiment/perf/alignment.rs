//! Alignment: how many pages a buffer takes, begun at a page and within one.

use crate::error::Result;
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::faults;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::sys::{Mapping, PAGE_SIZE};

use nix::sys::mman::MmapAdvise;

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "pages-of-a-buffer",
    summary: "Stores to every byte-th 64 of a buffer in fresh anonymous memory and counts the faults, one for \
              each page that needs a translation: a buffer of one page and one of 256, begun at a page's first \
              byte and 64 bytes later. Looks at where mmap and an aligned allocation begin.",
    run: pages_of_a_buffer,
}];

/// A cache line.
const STEP: usize = 64;

/// What `posix_memalign(3)` gives, through Rust's allocator.
#[repr(align(4096))]
struct Aligned([u8; PAGE_SIZE]);

fn pages_of_a_buffer(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    for (name, nr_pages) in [("small", 1), ("large", 256)] {
        let len = nr_pages * PAGE_SIZE;
        evidence.note(format!("{name}.pages"), nr_pages as u64);
        let aligned = pages_touched(0, len)?;
        let shifted = pages_touched(STEP, len)?;
        evidence.note(format!("{name}.aligned-faults"), aligned);
        evidence.note(format!("{name}.shifted-faults"), shifted);
        evidence.note(
            format!("{name}.faults-saved"),
            shifted.saturating_sub(aligned),
        );
    }
    let mapping = Request::anonymous(libc::MAP_PRIVATE).len(1).map()?;
    evidence.note("mmap.offset-in-page", (mapping.addr() % PAGE_SIZE) as u64);
    let allocated = Box::new(Aligned([0; PAGE_SIZE]));
    let addr = (&raw const allocated.0).expose_provenance();
    evidence.note("memalign.offset-in-page", (addr % PAGE_SIZE) as u64);
    Ok(evidence)
}

/// How many pages of fresh memory a buffer of `len` bytes at `offset` takes.
fn pages_touched(offset: usize, len: usize) -> Result<u64> {
    let request = Request::anonymous(libc::MAP_PRIVATE).len(len + PAGE_SIZE);
    let mut memory = request.map()?;
    // A huge page would make one fault serve 512 pages; where there are none, this is refused.
    let _ = memory.advise(MmapAdvise::MADV_NOHUGEPAGE);
    let store = |memory: &Mapping| {
        let mut bytes = (offset..offset + len).step_by(STEP);
        bytes.try_for_each(|at| memory.store(at, 1))
    };
    Ok(faults::count(&memory, store)?.1)
}
