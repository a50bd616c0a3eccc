//! Path: the functions of the kernel that an mmap goes through, and their order.

use std::os::fd::AsFd;

use nix::sys::mman::ProtFlags;

use crate::btf::Types;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Mode, Request, open};
use crate::sys::{Mapping, PAGE_SIZE, ioctl};
use crate::trace::Trace;
use crate::tracer::Recording;

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "path-of-mmap",
    summary: "Records which functions of the kernel an mmap of the device, of a file in memory, of /dev/zero \
                  and of anonymous memory goes through, of the device and of anonymous memory twice side by side.",
    run: path_of_mmap,
}];

/// In the order in which the kernel comes to them.
const FUNCTIONS: [&str; 9] = [
    "fget",
    "do_mmap",
    "__get_unmapped_area",
    "mmap_region",
    "vm_area_alloc",
    "vm_insert_page",
    "remap_pfn_range",
    "shmem_mmap_prepare",
    "mmap_zero_prepare",
];

fn path_of_mmap(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let before = mappings(fixture)?;
    let record = |recording: &Recording<'_>| map_everything(fixture, recording);
    let (kept, trace) = fixture.tracer()?.record(&FUNCTIONS, record)?;
    evidence.note(
        "device.mappings-added",
        mappings(fixture)?.saturating_sub(before),
    );
    drop(kept);
    for function in FUNCTIONS {
        if let Some(place) = trace.place("device-map", function) {
            let name = function.trim_start_matches('_').replace('_', "-");
            evidence.note(format!("order.{name}"), place);
        }
    }
    note_counts(&mut evidence, &trace);
    if let Some(caller) = trace.caller("device-map", "vm_insert_page") {
        evidence.note("device.inserted-by", caller);
    }
    let operations = Types::of_the_kernel()?.members("file_operations");
    evidence.note("operations.members", operations.unwrap_or_default());
    Ok(evidence)
}

fn note_counts(evidence: &mut Evidence, trace: &Trace) {
    let counts = [
        ("device.areas-made", "device-map", "vm_area_alloc"),
        ("device.next-areas-made", "device-next", "vm_area_alloc"),
        ("device.inserted", "device-map", "vm_insert_page"),
        ("device.remapped", "device-map", "remap_pfn_range"),
        ("anonymous.areas-made", "anonymous-map", "vm_area_alloc"),
        (
            "anonymous.next-areas-made",
            "anonymous-next",
            "vm_area_alloc",
        ),
        ("file.areas-made", "file-map", "vm_area_alloc"),
        ("file.prepared", "file-map", "shmem_mmap_prepare"),
        ("zero.prepared", "zero-map", "mmap_zero_prepare"),
    ];
    for (label, step, function) in counts {
        evidence.note(label, trace.count(step, function));
    }
}

/// Everything that is mapped meanwhile, so that it is unmapped only when nothing is recorded any more.
fn map_everything(fixture: &Fixture, recording: &Recording<'_>) -> Result<Vec<Mapping>> {
    let device = fixture.device.open()?;
    let zero = open("/dev/zero".as_ref(), Mode::ReadWrite)?;
    let file = MemFile::new(PAGE_SIZE)?;
    let shared = Request::shared("").call();
    let private = Request::private("").call();
    let anonymous = Request::anonymous(libc::MAP_PRIVATE).call();
    let mut places = reserve()?;
    let mut other_places = reserve()?;
    let refused = |what: &'static str| Error::call("mmap()", what);
    let step = |name: &str, make: &mut dyn FnMut() -> Result<()>| recording.step(name, make);
    let (mut mapped, mut others) = (None, None);
    step("device-map", &mut || {
        let made = places.replace_page(PAGE_SIZE, shared, Some(device.as_fd()));
        made.map(drop).map_err(refused("the device"))
    })?;
    step("device-next", &mut || {
        let made = places.replace_page(2 * PAGE_SIZE, shared, Some(device.as_fd()));
        made.map(drop).map_err(refused("the device"))
    })?;
    step("anonymous-map", &mut || {
        let made = other_places.replace_page(PAGE_SIZE, anonymous, None);
        made.map(drop).map_err(refused("memory"))
    })?;
    step("anonymous-next", &mut || {
        let made = other_places.replace_page(2 * PAGE_SIZE, anonymous, None);
        made.map(drop).map_err(refused("memory"))
    })?;
    step("file-map", &mut || {
        let made = Mapping::new(shared, Some(file.file().as_fd()));
        made.map(|it| mapped = Some(it)).map_err(refused("a file"))
    })?;
    step("zero-map", &mut || {
        let made = Mapping::new(private, Some(zero.as_fd()));
        made.map(|it| others = Some(it))
            .map_err(refused("/dev/zero"))
    })?;
    let kept = [mapped, others].into_iter().flatten();
    Ok(kept.chain([places, other_places]).collect())
}

/// Addresses for four pages that nothing else is mapped beside.
fn reserve() -> Result<Mapping> {
    let reserved = Request::anonymous(libc::MAP_PRIVATE).prot(ProtFlags::PROT_NONE);
    reserved.len(4 * PAGE_SIZE).map()
}

/// How many VMAs the driver says there are.
fn mappings(fixture: &Fixture) -> Result<u64> {
    let device = fixture.device.open()?;
    let info = ioctl::info(device.as_fd()).map_err(Error::call("INFO", "the device"))?;
    Ok(info.mappings)
}
