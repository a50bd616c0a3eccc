//! Placement: lengths that lie, and a flag that bites.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::stage::{Act, Stage};
use super::{MAIN, Scenario, USUAL, observe};
use crate::error::{Error, Result};
use crate::evidence::{CallEnd, Value};
use crate::fixture::Fixture;
use crate::need::Need;
use crate::object::Request;
use crate::sys::{Mapping, PAGE_SIZE};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "fixed-bites",
        title: "Lengths lie, MAP_FIXED bites",
        question: "A asks for one byte, and gives one byte back. And it wants a mapping at an address of its choice, \
                   where it has something already. What is left of that?",
        claims: &[
            "api-length-page-multiple",
            "flags-fixed-fails-if-occupied",
            "flags-fixed-overlap-replaced",
            "api-munmap-length-must-match",
        ],
        needs: USUAL,
        boots: MAIN,
        play: fixed_bites,
    },
    Scenario {
        name: "no-flush",
        title: "mmap does not flush",
        question: "Mapping again and again makes the CPUs flush their TLBs, the books say. Which calls interrupt the other CPU?",
        claims: &["perf-frequent-mmap-flushes-tlb"],
        needs: &[
            Need::Device,
            Need::Pagemap,
            Need::Root,
            Need::Btf,
            Need::TwoCpus,
        ],
        boots: MAIN,
        play: no_flush,
    },
];

fn fixed_bites(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    fixture.device.fill(0x64)?;
    stage.show_the_drivers_frame()?;
    let one_byte = Request::shared(fixture.device.node()).len(1);
    let mapping = one_byte.map()?;
    stage.watch_own(&mapping);
    mapping.store(PAGE_SIZE - 1, 0x21)?;
    let act = Act::new(
        "A",
        "maps one byte of the device and stores to the last byte of the page",
    );
    stage.record(
        act.call(one_byte.call().to_string())
            .fact("the-driver.sees", fixture.device.read(PAGE_SIZE - 1, 1)?),
    )?;
    let vma = stage.vmas("A").first().map(|vma| vma.end - vma.start);
    stage.finding(
        "A VMA of 4096 bytes, and all of them can be used.",
        vma == Some(PAGE_SIZE as u64),
        "The smallest thing that a page table knows is a page. A length that is no multiple is rounded up.",
    );
    drop(mapping);

    let memory = Request::anonymous(libc::MAP_PRIVATE).len(3 * PAGE_SIZE);
    let mut pages = memory.map()?;
    pages.store_pages(0x61)?;
    stage.watch_own(&pages);
    let act = Act::new("A", "maps three pages of memory and fills them with 0x61");
    stage.record(act.call(memory.call().to_string()))?;
    let middle = stage.pfn("A", 1);
    overwrite(fixture, stage, &mut pages)?;
    stage.finding(
        "What was there is gone, without a word: the middle page is the device's now.",
        stage.pfn("A", 1) == stage.drivers_pfn() && stage.pfn("A", 1) != middle,
        "MAP_FIXED unmaps whatever is in the way. That A had stored something there makes no difference.",
    );
    let last = pages.split_off(2 * PAGE_SIZE)?;
    let end = last.unmap_part(0, 1);
    let act = Act::new("A", "unmaps one byte, the first of the third page");
    stage.record(act.call("munmap(addr + 8192, 1)").result(end))?;
    stage.finding(
        "The whole page is gone.",
        end == Ok(()) && stage.pfn("A", 2).is_none(),
        "munmap rounds its length up as well, and need not be given what mmap was given.",
    );
    Ok(())
}

/// Maps the device over the second page, politely and otherwise.
fn overwrite(fixture: &Fixture, stage: &mut Stage<'_>, pages: &mut Mapping) -> Result<()> {
    let device = fixture.device.open()?;
    let fd = Some(device.as_fd());
    let request = Request::shared(fixture.device.node());
    let polite = request
        .clone()
        .flags(libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE);
    let placed = Mapping::placed(pages.addr() + PAGE_SIZE, polite.call(), fd);
    let end = CallEnd::from(placed);
    let act = Act::new(
        "A",
        "asks for the device at the second page, if nothing is there",
    );
    stage.record(act.call(polite.call().to_string()).result(end.clone()))?;
    let refused = CallEnd::from(Err::<(), _>(Errno::EEXIST));
    stage.finding(
        "Refused with EEXIST, nothing has changed.",
        end == refused,
        "",
    );
    let call = request
        .clone()
        .flags(libc::MAP_SHARED | libc::MAP_FIXED)
        .call();
    let end = pages.replace_page(PAGE_SIZE, call, fd);
    let act = Act::new("A", "asks for the device at the second page, by MAP_FIXED");
    stage.record(act.call(call.to_string()).result(end.map(drop)))?;
    end.map(drop)
        .map_err(Error::call("mmap(MAP_FIXED)", "the device"))
}

fn no_flush(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    let seen = observe(fixture, "shootdowns", "")?;
    let count = |label: &str| match seen.get(label) {
        Some(Value::Count(count)) => Some(count),
        _ => None,
    };
    let rounds = count("rounds.number").unwrap_or(0);
    for (label, did, many, why) in [
        (
            "mmap",
            "maps the device",
            false,
            "A translation that is new cannot be in any TLB.",
        ),
        (
            "first-load",
            "loads from each mapping for the first time",
            false,
            "",
        ),
        (
            "mprotect",
            "makes each mapping read-only",
            true,
            "The other CPU may have the old translation, which allows more.",
        ),
        ("munmap", "unmaps each", true, ""),
        (
            "copy-on-write",
            "stores to private mappings",
            true,
            "The other CPU may still read the page that was shared.",
        ),
    ] {
        let label = format!("{label}.shootdowns");
        let Some(interrupts) = count(&label) else {
            continue;
        };
        let did = format!("{did}, {rounds} times, while a thread of it runs on another CPU");
        stage.record(Act::new("A", did).fact(label, interrupts))?;
        let (says, seen) = if many {
            (
                "The other CPU is interrupted about every time.",
                interrupts >= rounds / 2,
            )
        } else {
            ("The other CPU is left alone.", interrupts < rounds / 2)
        };
        stage.finding(says, seen, why);
    }
    Ok(())
}
