//! Guests with disks, with Debian's tools, and in other boots than the usual one: what is really there.
//!
//! Uses the cache that `lab` itself uses, and fills it if need be.
#![expect(
    clippy::unwrap_used,
    reason = "what helps a test may panic as the test may"
)]

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use clap::Parser;
use lab::boot::{self, Boot};
use lab::cli::{Cli, Command, Exec};
use lab::disk::Disk;
use lab::job::{Program, Work};
use lab::outcome::Outcome;
use lab::plan::Plan;
use lab::progress::Progress;
use lab::report::{ProgramStatus, Report};
use lab::session::Streams;
use lab::workshop::{Built, Workshop};

/// One guest at a time: each takes two processors, and their times are compared with deadlines.
static MACHINE: Mutex<()> = Mutex::new(());

static PROGRESS: LazyLock<Progress> = LazyLock::new(|| Progress::new(true));

/// Mounts the disk, whose name is not known beforehand.
const MOUNT: &str = "for disk in /sys/block/nvme*; do \
                         mkdir -p /tmp/disk && mount -t ext4 /dev/${disk##*/} /tmp/disk; \
                     done; cd /tmp/disk && ";

/// A run of `lab exec` with these options.
struct Lab {
    exec: Exec,
    workshop: Workshop<'static>,
    built: Built,
    #[expect(dead_code, reason = "held for its Drop")]
    alone: MutexGuard<'static, ()>,
}

impl Lab {
    fn new(options: &[&str]) -> Self {
        let alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        let words = [&["lab", "exec"], options, &["--", "sh"]].concat();
        let Command::Exec(exec) = Cli::try_parse_from(words).unwrap().command else {
            unreachable!("exec was asked for");
        };
        let workshop = Workshop::open(&PROGRESS).unwrap();
        let built = workshop.build(&exec.kernel).unwrap();
        Self {
            exec,
            workshop,
            built,
            alone,
        }
    }

    /// Boots a guest that runs `script`; returns what it wrote, and its disks.
    fn sh(&self, script: &str) -> (String, Vec<Disk>) {
        self.boot(script, None)
    }

    /// The same, with `disks` instead of new ones.
    fn boot(&self, script: &str, disks: Option<Vec<Disk>>) -> (String, Vec<Disk>) {
        let Self { exec, workshop, .. } = self;
        let wanted = &exec.furnishing;
        let kit = workshop.kit_for(wanted.of_the_kit(), &exec.kernel).unwrap();
        let program = Program {
            capture: true,
            ..Program::new(["sh", "-c", script])
        };
        let mut plan = Plan::new(&self.built, Work::Programs(vec![program]));
        match disks {
            Some(disks) => plan.disks = disks,
            None => plan = plan.furnish(wanted, kit.as_ref()).unwrap(),
        }
        let disks = plan.disks.clone();
        let report = plan.boot(workshop, Streams::outputs()).unwrap();
        (output(&report), disks)
    }
}

/// What the only program wrote, which must have ended well.
fn output(report: &Report) -> String {
    assert_eq!(report.outcome, Outcome::Completed, "{}", report.console);
    assert_eq!(report.programs.len(), 1);
    let program = &report.programs[0];
    let errors = String::from_utf8_lossy(&program.stderr);
    assert_eq!(program.status, Some(ProgramStatus::Exited(0)), "{errors}");
    String::from_utf8_lossy(&program.stdout).into_owned()
}

fn kind(name: &str) -> &'static Boot {
    boot::find(name).unwrap()
}

#[test]
fn scratch_disk_is_found_by_its_serial_number_and_empty_each_time() {
    let lab = Lab::new(&["--disk"]);
    let script = "cat /sys/block/nvme*/device/serial && ".to_owned()
        + MOUNT
        + "ls && echo here > file && sync";
    for _ in 0..2 {
        let (said, _) = lab.sh(&script);
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(words, ["lab-scratch", "lost+found"]);
    }
}

#[test]
fn tools_are_debians_and_there_only_if_asked_for() {
    let script = "strace -e trace=mmap -o /tmp/trace true && grep -c mmap /tmp/trace; pmap -V";
    let (said, _) = Lab::new(&["--tools"]).sh(script);
    assert!(said.contains("procps"), "{said}");
    let (said, _) = Lab::new(&[]).sh("type strace || echo none; ls /lib64 || echo none");
    assert_eq!(said.matches("none").count(), 2, "{said}");
}

#[test]
fn boot_with_little_memory_has_as_much_as_it_says() {
    let (said, disks) = Lab::new(&["--boot", "small-memory"]).sh("grep MemTotal /proc/meminfo");
    let kib: u32 = said.split_whitespace().nth(1).unwrap().parse().unwrap();
    let most = kind("small-memory").hardware.memory_mib * 1024;
    assert!((most / 2..most).contains(&kib), "{kib} KiB");
    assert_eq!(disks.len(), 1);
}

#[test]
fn counting_boots_show_the_same_time_to_the_nanosecond() {
    let lab = Lab::new(&["--boot", "counting"]);
    // When the kernel said each of its lines, in microseconds: whatever is executed at boot, counted.
    let script = "nproc; dmesg | cut -d ] -f 1 | head -n 150";
    let ((first, _), (second, _)) = (lab.sh(script), lab.sh(script));
    assert_eq!(first.lines().next(), Some("1"));
    assert_eq!(first.lines().count(), 151, "{first}");
    assert_eq!(first, second);
}

#[test]
fn what_was_written_back_survives_the_power_cut_and_what_was_not_is_lost() {
    let lab = Lab::new(&["--boot", "power-cut"]);
    let script =
        MOUNT.to_owned() + "echo kept | dd of=kept conv=fsync && echo lost > lost && cat kept lost";
    let (said, disks) = lab.sh(&script);
    assert_eq!(said, "kept\nlost\n");
    let again = Lab::boot(
        &lab,
        &(MOUNT.to_owned() + "cat kept lost; true"),
        Some(disks),
    );
    assert_eq!(again.0, "kept\n");
}
