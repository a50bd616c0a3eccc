//! Path: the functions of the kernel that a page fault goes through.

use std::os::fd::AsFd;

use nix::sys::mman::ProtFlags;

use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::probe::{Access, touch};
use crate::sys::{Mapping, PAGE_SIZE};
use crate::trace::Trace;
use crate::tracer::{PAGE_FAULT, Recording};

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "path-of-a-fault",
    summary: "Records the functions of the kernel while a file and the device are mapped and touched, while a store to \
              a private mapping of the device copies its page, and while accesses fail: a store to a mapping that \
              is read-only, and a load where nothing is mapped.",
    run: path_of_a_fault,
}];

const HANDLE: &str = "handle_mm_fault";
const FUNCTIONS: [&str; 5] = [
    HANDLE,
    "remap_pfn_range",
    "vm_insert_page",
    "filemap_fault",
    "shmem_fault",
];

/// What is touched, one each for a step.
struct Targets {
    file: Mapping,
    device: Mapping,
    private: Mapping,
    readonly: Mapping,
    /// Where nothing is mapped.
    nothing: usize,
}

fn path_of_a_fault(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let record = |recording: &Recording<'_>| touch_everything(fixture, recording);
    let (targets, trace) = fixture.tracer()?.record(&FUNCTIONS, record)?;
    for object in ["file", "device"] {
        let step = format!("{object}-map");
        evidence.note(
            format!("{object}.remapped"),
            trace.count(&step, "remap_pfn_range"),
        );
        evidence.note(
            format!("{object}.inserted"),
            trace.count(&step, "vm_insert_page"),
        );
    }
    let fetched =
        trace.count("file-touch", "shmem_fault") + trace.count("file-touch", "filemap_fault");
    evidence.note("file.fetched", fetched);
    let steps = [
        ("file", "file-touch", targets.file.addr()),
        ("device", "device-touch", targets.device.addr()),
        ("private", "private-store", targets.private.addr()),
        ("readonly", "readonly-store", targets.readonly.addr()),
        ("nothing", "nothing-load", targets.nothing),
    ];
    for (label, step, addr) in steps {
        let count = |what| trace.count_with(step, what, "address", addr as u64);
        evidence.note(format!("{label}.faults"), count(PAGE_FAULT));
        evidence.note(format!("{label}.handled"), count(HANDLE));
    }
    evidence.note("private.fault-first", fault_comes_first(&trace, &targets));
    Ok(evidence)
}

/// Whether the fault of the private page was seen before it was handled.
fn fault_comes_first(trace: &Trace, targets: &Targets) -> bool {
    let calls = trace.step("private-store").iter();
    let addr = Some(targets.private.addr() as u64);
    let at = |call: &&crate::trace::Call| call.number("address") == addr;
    let first = calls.filter(at).map(|call| call.name.as_str()).next();
    first == Some(PAGE_FAULT)
}

fn touch_everything(fixture: &Fixture, recording: &Recording<'_>) -> Result<Targets> {
    let device = fixture.device.open()?;
    let sparse = MemFile::new(PAGE_SIZE)?;
    let call = Request::shared("").call();
    let refused = |what: &'static str| Error::call("mmap()", what);
    let file = recording.step("file-map", || {
        Mapping::new(call, Some(sparse.file().as_fd())).map_err(refused("a file"))
    })?;
    recording.step("file-touch", || file.load(0).map(drop))?;
    let mapped = recording.step("device-map", || {
        Mapping::new(call, Some(device.as_fd())).map_err(refused("the device"))
    })?;
    recording.step("device-touch", || {
        mapped.load(0)?;
        mapped.store(0, 1)
    })?;
    let private = Request::private(fixture.device.node()).map()?;
    recording.step("private-store", || private.store(0, 1))?;
    let readonly = Request::shared(fixture.device.node())
        .prot(ProtFlags::PROT_READ)
        .map()?;
    let store = || touch(readonly.addr(), Access::Store(1)).map(drop);
    recording.step("readonly-store", store)?;
    let gone = Request::anonymous(libc::MAP_PRIVATE)
        .len(16 * PAGE_SIZE)
        .map()?;
    let nothing = gone.addr();
    gone.unmap()
        .map_err(Error::call("munmap()", "a reserved range"))?;
    recording.step("nothing-load", || touch(nothing, Access::Load).map(drop))?;
    Ok(Targets {
        file,
        device: mapped,
        private,
        readonly,
        nothing,
    })
}
