//! Path: one mmap and one touch, as the kernel's functions see them.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::mman::ProtFlags;
use nix::unistd::getpid;

use super::stage::{Act, Stage};
use super::{MAIN, Scenario};
use crate::error::{Error, Result};
use crate::evidence::CallEnd;
use crate::fixture::Fixture;
use crate::map_call::MapCall;
use crate::need::Need;
use crate::object::{MemFile, Request};
use crate::sys::{Mapping, PAGE_SIZE, mmap_returns};

pub(super) const ALL: &[Scenario] = &[Scenario {
    name: "path-of-mmap",
    title: "One mmap, function by function",
    question: "When is the page table filled: when mmap is called, or when the page is touched? And by whom?",
    claims: &[
        "fault-remap-pfn-range-for-files",
        "kernel-order-fd-after-vma",
        "fault-first-access-page-fault",
        "kernel-mmap-creates-new-vma",
    ],
    needs: &[
        Need::Device,
        Need::Pagemap,
        Need::Root,
        Need::Btf,
        Need::Ftrace,
    ],
    boots: MAIN,
    play: path_of_mmap,
}];

/// Those that are worth seeing, if this kernel lets them be traced.
const FUNCTIONS: [&str; 13] = [
    "fget",
    "do_mmap",
    "mmap_region",
    "vm_area_alloc",
    "vm_insert_page",
    "remap_pfn_range",
    "handle_mm_fault",
    "shmem_fault",
    "filemap_map_pages",
    "filemap_fault",
    "do_wp_page",
    "wp_page_copy",
    "swap_cache_get_folio",
];

/// Does something, and returns with it the functions that it went through.
fn traced<T>(fixture: &Fixture, work: impl FnOnce() -> Result<T>) -> Result<(T, Vec<String>)> {
    let tracer = fixture.tracer()?;
    let known: Vec<_> = FUNCTIONS
        .into_iter()
        .filter(|name| tracer.knows(name))
        .collect();
    let (done, trace) = tracer.record(&known, |recording| recording.step("it", work))?;
    Ok((done, trace.names("it")))
}

fn path_of_mmap(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    stage.show_the_drivers_frame()?;
    let device = fixture.device.open()?;
    let sparse = MemFile::new(PAGE_SIZE)?;
    let call = Request::shared("").call();
    let has = |names: &[String], name: &str| names.iter().any(|known| known == name);

    // The program's own code is paged in, too; not while somebody looks.
    drop(map(call, &device)?);
    let (mapped, names) = traced(fixture, || map(call, &device))?;
    stage.watch_own(&mapped);
    let act = Act::new("A", "maps the device, shared");
    stage.record(
        act.call(call.to_string())
            .fact("kernel.functions", names.clone()),
    )?;
    let place = |name: &str| names.iter().position(|known| known == name);
    stage.finding(
        "First the descriptor is looked up, then the VMA is made; and the driver puts its page into the table at once.",
        place("fget").is_some() && place("fget") < place("vm_area_alloc") && has(&names, "vm_insert_page") && stage.nr_present("A") == 1,
        "A driver may do that. It is this one's vm_insert_page().",
    );
    let (_, names) = traced(fixture, || mapped.load(0))?;
    stage.record(Act::new("A", "loads a byte of it").fact("kernel.functions", names.clone()))?;
    stage.finding(
        "The kernel is not involved.",
        names.is_empty(),
        "The processor finds the page by itself.",
    );

    let (file, names) = traced(fixture, || map(call, sparse.file()))?;
    stage.watch_own(&file);
    let act = Act::new("A", "maps a file in memory, shared");
    stage.record(
        act.call(call.to_string())
            .fact("kernel.functions", names.clone()),
    )?;
    stage.finding(
        "A VMA, and no page: nobody has filled the table.",
        stage.nr_present("A") == 0
            && !has(&names, "remap_pfn_range")
            && !has(&names, "vm_insert_page"),
        "This is what mmap of a file does. remap_pfn_range() is for drivers.",
    );
    let (_, names) = traced(fixture, || file.load(0))?;
    stage.record(Act::new("A", "loads a byte of it").fact("kernel.functions", names.clone()))?;
    stage.finding(
        "A page fault, which asks the file for the page: now the entry is there.",
        stage.nr_present("A") == 1 && has(&names, "handle_mm_fault") && has(&names, "shmem_fault"),
        "",
    );

    let private = Request::private(fixture.device.node()).map()?;
    let ((), names) = traced(fixture, || private.store(0, 1))?;
    stage.watch("A", getpid(), vec![(String::new(), private.addr() as u64)]);
    let act = Act::new("A", "maps the device private, too, and stores to it");
    stage.record(act.fact("kernel.functions", names.clone()))?;
    stage.finding(
        "A page fault that asks nobody: the kernel itself copies the page.",
        has(&names, "handle_mm_fault")
            && !has(&names, "shmem_fault")
            && stage.pfn("A", 0) != stage.drivers_pfn(),
        "",
    );
    let wrong = MapCall {
        len: 0,
        prot: ProtFlags::PROT_READ,
        ..call
    };
    let (_, errno) = mmap_returns(wrong, -1);
    let end = CallEnd::from(Err::<(), _>(Errno::from_raw(errno)));
    let act = Act::new(
        "A",
        "gives mmap two wrong arguments: a length of 0 and no descriptor",
    );
    stage.record(
        act.call(wrong.to_string().replace("fd", "-1"))
            .result(end.clone()),
    )?;
    stage.finding(
        "EBADF, not EINVAL: the descriptor comes first.",
        end == CallEnd::Refused("EBADF".to_owned()),
        "The same order can be told without any tracing.",
    );
    Ok(())
}

fn map(call: MapCall, file: &std::fs::File) -> Result<Mapping> {
    Mapping::new(call, Some(file.as_fd())).map_err(Error::call("mmap()", "a file"))
}
