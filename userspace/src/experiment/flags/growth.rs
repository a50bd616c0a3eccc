//! Growth: areas that grow downwards when what lies below them is touched.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::{CallEnd, Evidence, Touch};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::probe::{self, Access, touch};
use crate::procfs;
use crate::sys::{Mapping, PAGE_SIZE};
use crate::turn::Link;

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "grows-down",
    summary: "Puts a page with MAP_GROWSDOWN above a hole, below which other memory lies, and touches the hole one \
              byte below the page, 40 pages below it, and where 256 pages are left to the other memory, and \
              where 255 are; the same under a stack limit, and without the flag. Then tries the flag on shared \
              memory, a file and the device.",
    run: grows_down,
}];

/// Pages of the hole; the page that grows lies right above it.
const HOLE: usize = 600;

/// A page with other memory a hole below it.
struct Stack {
    page: Mapping,
    /// Makes the hole end.
    _below: Mapping,
}

impl Stack {
    fn new(flags: i32) -> Result<Self> {
        let memory = Request::anonymous(libc::MAP_PRIVATE);
        let mut below = memory.clone().len((HOLE + 2) * PAGE_SIZE).map()?;
        let mut hole = below.split_off(PAGE_SIZE)?;
        let mut page = hole.split_off(HOLE * PAGE_SIZE)?;
        let request = memory.flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags);
        page.replace_page(0, request.call(), None)
            .map_err(Error::call("mmap(MAP_FIXED)", "a reserved page"))?;
        hole.unmap().map_err(Error::call("munmap()", "a hole"))?;
        Ok(Self {
            page,
            _below: below,
        })
    }

    /// Touches below the page, in a child of its own.
    fn touch(&self, below: usize) -> Result<Touch> {
        touch(self.page.addr() - below, Access::Load)
    }

    /// Touches below the page, one after the other in one child, and says how many pages the area then has.
    fn grow(&self, below: &[usize]) -> Result<Vec<u64>> {
        let (mut ours, mut theirs) = Link::pair(["the director", "the probe"])?;
        let addr = self.page.addr();
        let touched = probe::attempt("it had touched all", |sacrifice| {
            let len = |below: &usize| -> Result<u64> {
                let _ = sacrifice.peek(addr - below);
                let vma = procfs::vma(addr)?;
                Ok(vma.map_or(0, |vma| vma.end - vma.start) / PAGE_SIZE as u64)
            };
            let lens: Result<Vec<_>> = below.iter().map(len).collect();
            match lens.map(|lens| theirs.say(&lens)) {
                Ok(Ok(())) => sacrifice.load(addr),
                _ => 1,
            }
        })?;
        drop(theirs);
        match touched {
            Touch::Completed(_) => ours.hear("the lengths"),
            Touch::Faulted(fault) => Err(Error::Garbled {
                what: "growth".to_owned(),
                detail: format!("{fault:?}"),
            }),
        }
    }
}

fn grows_down(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let stack = Stack::new(libc::MAP_GROWSDOWN)?;
    let lens = stack.grow(&[0, 1, 40 * PAGE_SIZE])?;
    for (name, len) in ["untouched", "next", "jump"].into_iter().zip(lens) {
        evidence.note(format!("{name}.pages"), len);
    }
    // stack_guard_gap is 256 pages, mm/mmap.c.
    evidence.note("gap-kept.touch", stack.touch((HOLE - 256) * PAGE_SIZE)?);
    evidence.note("gap-hurt.touch", stack.touch((HOLE - 255) * PAGE_SIZE)?);
    evidence.note("limited.touch", limited(&stack)?);
    evidence.note("plain.touch", Stack::new(0)?.touch(1)?);
    let file = MemFile::new(PAGE_SIZE)?;
    for (name, request) in [
        ("shared", Request::anonymous(libc::MAP_SHARED)),
        ("file", Request::private(file.path())),
        ("device", Request::shared(fixture.device.node())),
        ("private-device", Request::private(fixture.device.node())),
    ] {
        let flags = request.flags | libc::MAP_GROWSDOWN;
        let mapped = CallEnd::from(request.flags(flags).try_map()?);
        evidence.note(format!("{name}.call"), mapped);
    }
    Ok(evidence)
}

/// The touch of 40 pages below, where a stack may have 16.
fn limited(stack: &Stack) -> Result<Touch> {
    const LIMIT: u64 = 16 * PAGE_SIZE as u64;
    errand::run("the limited", || {
        let refused = |call| Error::call(call, "RLIMIT_STACK");
        let (_, hard) = getrlimit(Resource::RLIMIT_STACK).map_err(refused("getrlimit()"))?;
        setrlimit(Resource::RLIMIT_STACK, LIMIT, hard).map_err(refused("setrlimit()"))?;
        stack.touch(40 * PAGE_SIZE)
    })
}
