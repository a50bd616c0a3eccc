//! Protection: what the PROT bits allow, and how mprotect changes them.

use std::fs;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::mman::ProtFlags;

use super::note_map;
use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Touch};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::map_call::MapCall;
use crate::object::{Mode, Request};
use crate::probe::{Access, Call, RETURN_42, call, touch};
use crate::procfs;
use crate::sys::{self, Mapping, PAGE_SIZE};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "mprotect-steps",
        summary: "Gives mprotect an odd address, no length, and one byte of the device's page; then forbids all, \
                  and allows all again. Touches the page after each step.",
        run: mprotect_steps,
    },
    Experiment {
        name: "mprotect-refusals",
        summary: "Asks mprotect to make writable what was opened read-only, shared and private; to change a page \
                  that is not mapped; a sealed one; and to add PROT_EXEC in a process that has given that up.",
        run: mprotect_refusals,
    },
    Experiment {
        name: "protection-matrix",
        summary: "Maps the device with each of the eight combinations of PROT_READ, PROT_WRITE and PROT_EXEC, and \
                  loads, stores and calls a function there. Looks whether the CPU has protection keys.",
        run: protection_matrix,
    },
    Experiment {
        name: "bare-numbers",
        summary: "Calls mmap with numbers in place of the constants and looks up in smaps what the kernel made of \
                  them; notes the constants of the C library.",
        run: bare_numbers,
    },
    Experiment {
        name: "own-segments",
        summary: "Looks up the areas that hold a function, a constant, a static variable, a small allocation and a \
                  local variable of this very program.",
        run: own_segments,
    },
];

const READ: ProtFlags = ProtFlags::PROT_READ;
const WRITE: ProtFlags = ProtFlags::PROT_WRITE;
const EXEC: ProtFlags = ProtFlags::PROT_EXEC;
const NONE: ProtFlags = ProtFlags::PROT_NONE;
const LAST: usize = PAGE_SIZE - 1;

fn mprotect_steps(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let mut mapping = fixture.device.map_shared()?;
    let last = mapping.addr() + LAST;
    let mut step = |who: &str, offset, len, prot| -> Result<()> {
        evidence.note(
            format!("{who}.mprotect"),
            mapping.protect_part(offset, len, prot),
        );
        let mode = procfs::vma(last)?.map_or_else(String::new, |vma| vma.mode);
        evidence.note(format!("{who}.mode"), mode.as_str());
        evidence.note(format!("{who}.load"), touch(last, Access::Load)?);
        evidence.note(format!("{who}.store"), touch(last, Access::Store(1))?);
        Ok(())
    };
    step("uneven", 1, 1, NONE)?;
    step("no-length", 0, 0, NONE)?;
    step("one-byte", 0, 1, READ)?;
    step("none", 0, PAGE_SIZE, NONE)?;
    step("all", 0, PAGE_SIZE, READ | WRITE)?;
    Ok(evidence)
}

fn mprotect_refusals(fixture: &Fixture) -> Result<Evidence> {
    let node = fixture.device.node();
    errand::run("who changes protections", || {
        let mut evidence = Evidence::new();
        let map = |request: Request| request.mode(Mode::ReadOnly).prot(READ).map();
        let mut shared = map(Request::shared(node))?;
        evidence.note("shared.mprotect", shared.protect(READ | WRITE));
        let mut private = map(Request::private(node))?;
        evidence.note("private.mprotect", private.protect(READ | WRITE));

        let mut mapping = Request::anonymous(libc::MAP_PRIVATE)
            .len(2 * PAGE_SIZE)
            .map()?;
        let change = |addr, len| call(addr, len, Call::Protect(READ));
        evidence.note("mapped.mprotect", change(mapping.addr(), 2 * PAGE_SIZE)?);
        let hole = mapping.split_off(PAGE_SIZE)?;
        let free = hole.addr();
        hole.unmap()
            .map_err(Error::call("munmap()", "one of two pages"))?;
        evidence.note("unmapped.mprotect", change(free, PAGE_SIZE)?);
        evidence.note(
            "half-unmapped.mprotect",
            change(mapping.addr(), 2 * PAGE_SIZE)?,
        );

        evidence.note("sealed.mseal", private.seal());
        evidence.note("sealed.mprotect", private.protect(READ));
        evidence.note("before.mprotect", mapping.protect(READ | EXEC));
        mapping
            .protect(READ)
            .and_then(|()| sys::deny_write_execute())
            .map_err(Error::call("prctl(PR_SET_MDWE)", "a child"))?;
        evidence.note("given-up.mprotect", mapping.protect(READ | EXEC));
        Ok(evidence)
    })
}

fn protection_matrix(fixture: &Fixture) -> Result<Evidence> {
    /// Behind the code, which must stay as it is.
    const BEHIND: usize = 100;
    let mut evidence = Evidence::new();
    fixture.device.write(0, &RETURN_42)?;
    let prots = [
        ("none", NONE),
        ("r", READ),
        ("w", WRITE),
        ("x", EXEC),
        ("rw", READ | WRITE),
        ("rx", READ | EXEC),
        ("wx", WRITE | EXEC),
        ("rwx", READ | WRITE | EXEC),
    ];
    for (who, prot) in prots {
        let mapping = Request::shared(fixture.device.node()).prot(prot).map()?;
        let addr = mapping.addr();
        let mode = procfs::vma(addr)?.map_or_else(String::new, |vma| vma.mode);
        evidence.note(format!("{who}.mode"), mode.as_str());
        let load = touch(addr, Access::Load)?;
        if who == "x" {
            let readable = matches!(load, Touch::Completed(_));
            evidence.note("x.readable", readable);
        }
        evidence.note(format!("{who}.load"), load);
        evidence.note(
            format!("{who}.store"),
            touch(addr + BEHIND, Access::Store(7))?,
        );
        evidence.note(format!("{who}.call"), touch(addr, Access::Call)?);
    }
    evidence.note("keyless.cpu", !has_protection_keys()?);
    Ok(evidence)
}

/// Whether the kernel has turned the CPU's protection keys on, see pkeys(7).
fn has_protection_keys() -> Result<bool> {
    let path = "/proc/cpuinfo";
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    Ok(text.split_whitespace().any(|word| word == "ospke"))
}

fn bare_numbers(_fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let constants = [
        ("prot-none", libc::PROT_NONE),
        ("prot-read", libc::PROT_READ),
        ("prot-write", libc::PROT_WRITE),
        ("prot-exec", libc::PROT_EXEC),
        ("map-shared", libc::MAP_SHARED),
        ("map-private", libc::MAP_PRIVATE),
        ("map-fixed", libc::MAP_FIXED),
        ("map-anonymous", libc::MAP_ANONYMOUS),
        ("map-locked", libc::MAP_LOCKED),
    ];
    for (name, value) in constants {
        evidence.note(format!("libc.{name}"), u64::from(value.unsigned_abs()));
    }
    let numbers = |prot, flags| MapCall {
        len: PAGE_SIZE,
        prot: ProtFlags::from_bits_retain(prot),
        flags,
        offset: 0,
    };
    for prot in [0, 1, 2, 4] {
        note_mode(&mut evidence, &format!("prot-{prot}"), numbers(prot, 0x22))?;
    }
    note_mode(&mut evidence, "flags-0x21", numbers(1, 0x21))?;
    note_mode(&mut evidence, "flags-0x2022", numbers(1, 0x2022))?;
    let without_file = Mapping::new(numbers(1, 0x02), None);
    note_map(&mut evidence, "flags-0x02", without_file);
    // No process can have this address: a wish for it is passed over, an order cannot be obeyed.
    let kernel_half = 1 << 63;
    for flags in [0x22, 0x32] {
        let mapped = Mapping::placed(kernel_half, numbers(1, flags), None);
        note_map(&mut evidence, &format!("kernel-{flags:#x}"), mapped);
    }
    Ok(evidence)
}

fn note_mode(evidence: &mut Evidence, who: &str, call: MapCall) -> Result<()> {
    let mapped = Mapping::new(call, None).map_err(Error::call("mmap()", who))?;
    if let Some(vma) = procfs::vma(mapped.addr())? {
        evidence.note(format!("{who}.mode"), vma.mode.as_str());
        evidence.note(
            format!("{who}.locked"),
            vma.flags.iter().any(|flag| flag == "lo"),
        );
    }
    Ok(())
}

fn own_segments(_fixture: &Fixture) -> Result<Evidence> {
    static CONSTANT: [u8; 16] = [7; 16];
    static VARIABLE: AtomicU32 = AtomicU32::new(1);
    let mut evidence = Evidence::new();
    VARIABLE.fetch_add(1, Ordering::Relaxed);
    let (allocated, local) = (Box::new(black_box(1_u8)), black_box(2_u8));
    let function: fn(&Fixture) -> Result<Evidence> = own_segments;
    let places = [
        ("function", (function as *const ()).expose_provenance()),
        (
            "constant",
            (&raw const *black_box(&CONSTANT)).expose_provenance(),
        ),
        ("static", (&raw const VARIABLE).expose_provenance()),
        ("allocation", (&raw const *allocated).expose_provenance()),
        ("local", (&raw const local).expose_provenance()),
    ];
    for (who, addr) in places {
        if let Some(vma) = procfs::vma(addr)? {
            evidence.note(format!("{who}.mode"), vma.mode.as_str());
            evidence.note(format!("{who}.area"), vma.name.as_str());
        }
    }
    Ok(evidence)
}
