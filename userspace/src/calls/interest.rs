//! Interest: which functions of the kernel are worth a line in a tree of calls.

/// A function is recorded if its name has one of these in it: the words of `mm/`.
const WORDS: [&str; 26] = [
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "msync",
    "vma",
    "vms_",
    "vm_area",
    "vm_insert",
    "vm_unmapped_area",
    "unmapped_area",
    "fault",
    "wp_page",
    "anonymous_page",
    "copy_mc",
    "copy_page_range",
    "insert_page",
    "remap",
    "rmap",
    "pfn",
    "folio",
    "pte",
    "pmd",
    "unmap_",
    "flush_tlb",
];

/// And it is not if it has one of these: locking, RCU and reference counts; accounting by control group and statistics;
/// hooks that nobody uses here; memory that the kernel itself maps; looking a page up; and other meanings of the words.
const NOISE: [&str; 54] = [
    "lock",
    "rcu",
    "sem_",
    "cgroup",
    "memcg",
    "lruvec",
    "stat_",
    "_stat",
    "account",
    "charge",
    "lru_",
    "_batch",
    "security",
    "apparmor",
    "tomoyo",
    "landlock",
    "bpf",
    "ima_",
    "ipe_",
    "evm_",
    "cap_",
    "perf_",
    "uprobe",
    "trace",
    "userfaultfd",
    "ksm",
    "memfd_",
    "hugetlb",
    "huge",
    "thp_",
    "damon",
    "numa",
    "mempolicy",
    "mpol",
    "vmalloc",
    "ioremap",
    "iounmap",
    "vdso",
    "kvm",
    "iomap",
    "arch_",
    "mm_cid",
    "vm_normal_page",
    "next_uptodate",
    "pte_offset",
    "folio_mapping",
    "mark_accessed",
    "follow_page",
    "pgtable_walk",
    "truncate",
    "throttle",
    "smaps",
    "pagemap",
    "irq",
];

/// What happens to interrupt a call, and everything below: soft interrupts, another process's turn.
const INTERRUPTIONS: [&str; 4] = [
    "irq_enter_rcu",
    "handle_softirqs",
    "preempt_schedule_irq",
    "schedule",
];

/// The functions of the kernel by which the driver's own are found on the stack: those that it calls, and the one that
/// a breakpoint calls.
pub const WITNESSES: [&str; 7] = [
    BREAKPOINT,
    "vm_insert_page",
    "remap_pfn_range",
    "slow_virt_to_phys",
    "__free_pages",
    "mutex_lock",
    "mutex_unlock",
];

/// What the kernel calls when a process runs into a breakpoint (`kernel/events/core.c`).
pub const BREAKPOINT: &str = "perf_bp_event";

/// Whether a function is worth a line.
#[must_use]
pub fn is_interesting(function: &str) -> bool {
    let has = |words: &[&str]| words.iter().any(|word| function.contains(word));
    has(&WORDS) && !has(&NOISE) || is_interruption(function)
}

/// Whether a call, and all that comes of it, is an interruption of the one that it seems to be made by.
#[must_use]
pub fn is_interruption(function: &str) -> bool {
    INTERRUPTIONS.contains(&function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_a_mapping_is_recorded() {
        for function in [
            "do_mmap",
            "__mmap_region",
            "vm_insert_page",
            "remap_pfn_range",
            "handle_mm_fault",
            "do_wp_page",
            "vma_alloc_folio_noprof",
            "copy_mc_to_kernel",
            "unmap_vmas",
            "copy_page_range",
            "zap_pte_range",
            "force_sig_fault",
        ] {
            assert!(is_interesting(function), "{function}");
        }
    }

    #[test]
    fn what_keeps_count_and_order_is_not() {
        for function in [
            "_raw_spin_lock",
            "__rcu_read_lock",
            "lruvec_stat_mod_folio",
            "__mem_cgroup_charge",
            "apparmor_mmap_file",
            "perf_event_mmap",
            "kmem_cache_alloc_noprof",
            "vfs_read",
        ] {
            assert!(!is_interesting(function), "{function}");
        }
    }

    #[test]
    fn interruptions_are_recorded_to_be_cut_out() {
        assert!(is_interesting("handle_softirqs") && is_interruption("handle_softirqs"));
        assert!(!is_interruption("do_mmap"));
    }
}
