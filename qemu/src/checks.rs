//! Checks: what a kernel checks while it runs, as far as it matters to whoever boots it.

use crate::config::Config;
use crate::machine::Hardware;
use crate::phase::Deadlines;

/// What a kernel that checks every access takes longer than one that does not: 5 to 6 times, by QEMU's translator.
const SLOWDOWN: u32 = 6;

/// The shadow of the memory, who has allocated each page, and what was freed and is kept back take their part.
const MEMORY_FACTOR: u32 = 2;

/// What a kernel that checks every access is told.
const CMDLINE: [&str; 4] = [
    // Remember who has allocated a page, and fill free ones with a pattern that is looked for again.
    "page_owner=on",
    "page_poison=1",
    // Tests read in the log what has been made to fail; they do thousands of times.
    "log_buf_len=4M",
    // What takes seconds elsewhere takes a minute here.
    "sysctl.kernel.hung_task_timeout_secs=60",
];

/// What a kernel is told that searches for objects to which nothing points: to hand out and take back each of them by itself.
/// Otherwise it takes them from arrays of pointers (`struct slab_sheaf` in `mm/slub.c`, 7.3), in which the pointer stays
/// until another object is put in its place; and kmemleak looks through these arrays, so that what is forgotten counts as
/// known. A cache with any flag of debugging has none (`calculate_sheaf_capacity()`), and checks of consistency take least.
const SEARCHED: &str = "slab_debug=F";

/// Compiled-in checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// Whether it checks every access to memory (`CONFIG_KASAN`): nothing about it is fast.
    pub accesses: bool,
    /// Whether it can search for objects to which nothing points, and find them (`CONFIG_DEBUG_KMEMLEAK`, and
    /// `CONFIG_SLUB_DEBUG`, without which it would take some for known: see `SEARCHED`).
    pub finds_leaks: bool,
    /// Whether calls in it can be made to fail (`CONFIG_FAULT_INJECTION`, `CONFIG_FAILSLAB` and others).
    pub injects_faults: bool,
}

impl Checks {
    /// Those of the kernel with this `.config`.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let all = |options: &[&str]| options.iter().all(|it| config.get(it) == Some("y"));
        Self {
            accesses: all(&["CONFIG_KASAN"]),
            finds_leaks: all(&["CONFIG_DEBUG_KMEMLEAK", "CONFIG_SLUB_DEBUG"]),
            injects_faults: all(&[
                "CONFIG_FAULT_INJECTION_DEBUG_FS",
                "CONFIG_FAILSLAB",
                "CONFIG_FAIL_PAGE_ALLOC",
                "CONFIG_FAULT_INJECTION_USERCOPY",
                "CONFIG_GUP_TEST",
            ]),
        }
    }

    /// How many times as long as usual everything may take.
    #[must_use]
    pub fn slowdown(self) -> u32 {
        if self.accesses { SLOWDOWN } else { 1 }
    }

    /// The machine that does what `hardware` does with another kernel.
    #[must_use]
    pub fn enlarge(self, hardware: Hardware) -> Hardware {
        let factor = if self.accesses { MEMORY_FACTOR } else { 1 };
        Hardware {
            memory_mib: hardware.memory_mib * factor,
            ..hardware
        }
    }

    /// The deadlines of the lab's own phases; how long programs may take is for others to say.
    #[must_use]
    pub fn deadlines(self) -> Deadlines {
        let usual = Deadlines::default();
        let slowdown = self.slowdown();
        Deadlines {
            boot: usual.boot * slowdown,
            load: usual.load * slowdown,
            unload: usual.unload * slowdown,
            drain: usual.drain * slowdown,
            power_off: usual.power_off * slowdown,
            ..usual
        }
    }

    /// Kernel parameters beside the usual ones.
    #[must_use]
    pub fn cmdline(self) -> Vec<String> {
        let of_accesses = if self.accesses { &CMDLINE[..] } else { &[] };
        let of_leaks = self.finds_leaks.then_some(SEARCHED);
        let all = of_accesses.iter().copied().chain(of_leaks);
        all.map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_checks_nothing_gets_the_usual_machine() {
        let none = Checks::of(&Config::parse("CONFIG_RUST=y\n# CONFIG_KASAN is not set\n"));
        assert_eq!(none, Checks::default());
        assert_eq!(none.enlarge(Hardware::USUAL), Hardware::USUAL);
        assert_eq!(none.deadlines(), Deadlines::default());
        assert!(none.cmdline().is_empty());
    }

    #[test]
    fn a_kernel_that_checks_accesses_gets_more_of_everything() {
        let checks = Checks::of(&Config::parse("CONFIG_KASAN=y\nCONFIG_FAILSLAB=y\n"));
        assert!(checks.accesses && !checks.injects_faults && !checks.finds_leaks);
        assert!(checks.enlarge(Hardware::USUAL).memory_mib >= 1024);
        assert!(checks.deadlines().unload > Deadlines::default().unload);
    }

    #[test]
    fn pointers_to_forgotten_objects_are_not_kept_where_they_are_searched_for() {
        let checks = Checks::of(&Config::parse(
            "CONFIG_DEBUG_KMEMLEAK=y\nCONFIG_SLUB_DEBUG=y\n",
        ));
        assert_eq!(checks.cmdline(), ["slab_debug=F"]);
        let blind = Checks::of(&Config::parse("CONFIG_DEBUG_KMEMLEAK=y\n"));
        assert!(!blind.finds_leaks && blind.cmdline().is_empty());
    }
}
