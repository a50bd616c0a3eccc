//! Huge: the switch for transparent huge pages.

use nix::sys::mman::MmapAdvise;

use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::faults;
use crate::fixture::Fixture;
use crate::object::Request;
use crate::procfs;
use crate::sysctl::Sysctl;

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "huge-pages",
    summary: "Writes always, and then never, to /sys/kernel/mm/transparent_hugepage/enabled, stores to every page of \
              4 MiB of anonymous memory, counts the faults and looks for huge pages; then reads the switch.",
    run: huge_pages,
}];

const SWITCH: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
/// A huge page of x86-64.
const HUGE: usize = 2 << 20;

fn huge_pages(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    for word in ["always", "never"] {
        let changed = Sysctl::choose(SWITCH, word)?;
        // Three, so that two aligned ones lie in it.
        let mut around = Request::anonymous(libc::MAP_PRIVATE).len(3 * HUGE).map()?;
        let mut memory = around.split_off(HUGE - around.addr() % HUGE)?;
        let rest = memory.split_off(2 * HUGE)?;
        // The switch decides; this makes the kernel try hard if it is on.
        memory
            .advise(MmapAdvise::MADV_HUGEPAGE)
            .map_err(Error::call("madvise(MADV_HUGEPAGE)", "anonymous memory"))?;
        let ((), faults) = faults::count(&memory, |memory| memory.store_pages(1))?;
        evidence.note(format!("{word}.faults"), faults);
        let area = procfs::vma(memory.addr())?;
        evidence.note(
            format!("{word}.huge-kib"),
            area.map_or(0, |area| area.huge_kib),
        );
        drop(rest);
        changed.restore()?;
    }
    Ok(evidence)
}
