//! Area: the VMAs of a process, and where they lie.

use std::hint::black_box;
use std::sync::atomic::AtomicU32;

use nix::sys::mman::ProtFlags;
use nix::unistd::getpid;
use std::os::fd::AsFd;

use crate::btf::Types;
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::probe::{Access, touch};
use crate::process::output;
use crate::procfs::{self, Vma};
use crate::sys::{Mapping, PAGE_SIZE};
use crate::turn::TURN;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "neighbours",
        summary: "Maps two pages of anonymous memory side by side, then forbids stores to the second; maps the \
                  device twice side by side; and counts the areas each time, and those of the program itself.",
        run: neighbours,
    },
    Experiment {
        name: "structures",
        summary: "Looks up in the kernel's own description of its types what vm_area_struct, mm_struct and \
                  vm_operations_struct consist of.",
        run: structures,
    },
    Experiment {
        name: "free-range",
        summary: "Maps the device eight times and compares each range with the areas that were there before; \
                  then asks for more than the address space has left.",
        run: free_range,
    },
    Experiment {
        name: "layout",
        summary: "Notes the addresses of a function, of data, of zeroed data, of the heap, of the device's mapping \
                  and of the stack of this program, and where the areas of a program lie that was linked to a fixed \
                  address; and loads from an address in the kernel's half.",
        run: layout,
    },
];

fn neighbours(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let anonymous = Request::anonymous(libc::MAP_PRIVATE);
    let mut pair = reserve()?;
    for place in [PAGE_SIZE, 2 * PAGE_SIZE] {
        let placed = pair.replace_page(place, anonymous.call(), None);
        placed.map_err(Error::call("mmap(MAP_FIXED)", "memory"))?;
    }
    evidence.note("joined.areas", inside(&pair)?.len() as u64);
    evidence.note(
        "split.mprotect",
        pair.protect_part(2 * PAGE_SIZE, PAGE_SIZE, ProtFlags::PROT_READ),
    );
    let split = inside(&pair)?;
    evidence.note("split.areas", split.len() as u64);
    evidence.note("split.modes", modes(&split));

    let node = Request::shared(fixture.device.node());
    let device = fixture.device.open()?;
    let mut twice = reserve()?;
    for place in [PAGE_SIZE, 2 * PAGE_SIZE] {
        let placed = twice.replace_page(place, node.call(), Some(device.as_fd()));
        placed.map_err(Error::call("mmap(MAP_FIXED)", "the device"))?;
    }
    evidence.note("device.areas", inside(&twice)?.len() as u64);
    let program = std::env::current_exe().map_err(Error::file("find", "/proc/self/exe"))?;
    let program = program.display().to_string();
    let all = procfs::vmas(getpid())?;
    let own = all.into_iter().filter(|vma| vma.name == program);
    let own: Vec<_> = own.collect();
    evidence.note("program.areas", own.len() as u64);
    evidence.note("program.modes", modes(&own));
    Ok(evidence)
}

/// Addresses for four pages; the outer two are never used.
fn reserve() -> Result<Mapping> {
    let reserved = Request::anonymous(libc::MAP_PRIVATE).prot(ProtFlags::PROT_NONE);
    reserved.len(4 * PAGE_SIZE).map()
}

/// The areas of the inner two of four pages.
fn inside(mapping: &Mapping) -> Result<Vec<Vma>> {
    let (start, end) = (mapping.addr() + PAGE_SIZE, mapping.addr() + 3 * PAGE_SIZE);
    let mut vmas = procfs::vmas(getpid())?;
    vmas.retain(|vma| vma.start < end as u64 && vma.end > start as u64);
    Ok(vmas)
}

fn modes(vmas: &[Vma]) -> Value {
    let modes: Vec<_> = vmas.iter().map(|vma| vma.mode.clone()).collect();
    Value::Words(modes)
}

fn structures(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let types = Types::of_the_kernel()?;
    let structures = [
        ("area.members", "vm_area_struct"),
        ("space.members", "mm_struct"),
        ("operations.members", "vm_operations_struct"),
    ];
    for (label, structure) in structures {
        evidence.note(label, types.members(structure).unwrap_or_default());
    }
    Ok(evidence)
}

fn free_range(fixture: &Fixture) -> Result<Evidence> {
    const TIMES: u64 = 8;
    /// What a process has with four levels of page tables, `Documentation/arch/x86/x86_64/mm.rst`.
    const ALL_ADDRESSES: usize = (1 << 47) - PAGE_SIZE;
    let mut evidence = Evidence::new();
    let (mut free, mut whole, mut kept) = (0, 0, Vec::new());
    for _ in 0..TIMES {
        let before = procfs::vmas(getpid())?;
        let mapping = fixture.device.map_shared()?;
        let (start, end) = (
            mapping.addr() as u64,
            (mapping.addr() + mapping.len()) as u64,
        );
        free += u64::from(
            before
                .iter()
                .all(|vma| vma.end <= start || end <= vma.start),
        );
        let there = procfs::vma(mapping.addr())?;
        whole += u64::from(there.is_some_and(|vma| (vma.start, vma.end) == (start, end)));
        kept.push(mapping);
    }
    evidence.note("mapped.times", TIMES);
    evidence.note("mapped.where-nothing-was", free);
    evidence.note("mapped.in-one-piece", whole);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let everything = Request::anonymous(0).flags(flags).len(ALL_ADDRESSES);
    let refused = everything.prot(ProtFlags::PROT_NONE).try_map()?;
    evidence.note("everything.map", refused);
    Ok(evidence)
}

static DATA: AtomicU32 = AtomicU32::new(1);
static ZEROED: AtomicU32 = AtomicU32::new(0);

fn layout(fixture: &Fixture) -> Result<Evidence> {
    /// The first address of the kernel's half, `Documentation/arch/x86/x86_64/mm.rst`.
    const KERNEL_HALF: usize = 0xffff_8000_0000_0000;
    let mut evidence = Evidence::new();
    let on_stack = black_box(0_u8);
    let mapping = fixture.device.map_shared()?;
    let all = procfs::vmas(getpid())?;
    let heap = all.iter().find(|vma| vma.name == "[heap]");
    let function = layout as fn(&Fixture) -> Result<Evidence>;
    let addresses = [
        ("text", function as usize as u64),
        ("data", (&raw const DATA).addr() as u64),
        ("zeroed", (&raw const ZEROED).addr() as u64),
        ("mapping", mapping.addr() as u64),
        ("stack", (&raw const on_stack).addr() as u64),
    ];
    for (what, addr) in addresses {
        evidence.note(format!("own.{what}"), Value::Addr(addr));
    }
    // What is not there is not noted, so that no prediction about it can come true.
    if let Some(heap) = heap {
        evidence.note("own.heap", Value::Addr(heap.start));
    }
    // Busybox is linked to a fixed address, and has the same areas.
    let (end, maps) = output("/bin/busybox", &["cat", "/proc/self/maps"], TURN)?;
    evidence.note("fixed.end", end);
    note_fixed(&mut evidence, &String::from_utf8_lossy(&maps));
    evidence.note("kernel.touch", touch(KERNEL_HALF, Access::Load)?);
    Ok(evidence)
}

/// Notes where the program's first area begins, and those with this mode, if any, and this name.
fn note_fixed(evidence: &mut Evidence, maps: &str) {
    const AREAS: [(&str, &str, &str); 6] = [
        ("first", "", ""),
        ("text", "r-xp", "busybox"),
        ("data", "rw-p", "busybox"),
        ("heap", "", "[heap]"),
        ("vdso", "", "[vdso]"),
        ("stack", "", "[stack]"),
    ];
    for (what, mode, name) in AREAS {
        let fits = |line: &&str| line.contains(mode) && line.ends_with(name);
        let line = maps.lines().find(fits).unwrap_or_default();
        let start = line.split('-').next().unwrap_or_default();
        if let Ok(start) = u64::from_str_radix(start, 16) {
            evidence.note(format!("fixed.{what}"), Value::Addr(start));
        }
    }
}
