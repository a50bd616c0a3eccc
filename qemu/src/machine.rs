//! The machine: QEMU's arguments, each with its reason.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::RawFd;
use std::path::PathBuf;

use crate::disk::Disk;
use crate::job::{CONTROL_PORT, KTAP_PORT, STDERR_PORT, STDIN_PORT, STDOUT_PORT};

/// How QEMU is called: it may come from a sysroot, with its own dynamic linker and libraries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuProgram {
    /// Everything before the machine's arguments; the program comes first.
    pub argv_prefix: Vec<OsString>,
    /// Variables to add to QEMU's environment.
    pub env: Vec<(OsString, OsString)>,
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// QEMU's own translator.
    Tcg,
    /// The host's processor.
    Kvm,
}

impl Accel {
    /// What QEMU calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcg => "TCG",
            Self::Kvm => "KVM",
        })
    }
}

/// The descriptor under which QEMU finds the pipe for the kernel's log, the first that is not a standard
/// stream.
pub const CONSOLE_FD: RawFd = 3;

/// The descriptor under which QEMU finds the initramfs: a file that has no name, so that none is left
/// behind, whatever becomes of the lab. The channels come before it.
pub const INITRAMFS_FD: RawFd = FIRST_CHANNEL_FD + Channel::Terminal as RawFd + 1;

const FIRST_CHANNEL_FD: RawFd = CONSOLE_FD + 1;

/// The descriptor under which QEMU finds the file that is the guest's memory, if that is to be saved or was.
pub const MEMORY_FD: RawFd = INITRAMFS_FD + 1;

/// The descriptor under which QEMU finds the file with the state of everything else.
pub const STATE_FD: RawFd = MEMORY_FD + 1;

/// The descriptor under which QEMU finds the socket that it listens on for a debugger.
pub const GDB_FD: RawFd = STATE_FD + 1;

/// The descriptor under which QEMU finds the first disk; those of the others follow.
pub const DISKS_FD: RawFd = GDB_FD + 1;

/// What the guest's clocks follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The host's time.
    Host,
    /// The instructions of the only processor, one a nanosecond: the same program takes the same time in
    /// each run, and a clock in the guest counts exactly what was executed between two looks at it
    /// (`docs/devel/tcg-icount.rst` of QEMU).
    Instructions,
}

/// What machines differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// Size of the memory, in MiB.
    pub memory_mib: u32,
    /// Number of processors.
    pub nr_cpus: u32,
    /// What the clocks follow.
    pub clock: Clock,
}

impl Hardware {
    /// Enough memory for the experiments, and little to set up at boot; two processors, so that races can
    /// happen.
    pub const USUAL: Self = Self {
        memory_mib: 512,
        nr_cpus: 2,
        clock: Clock::Host,
    };
}

/// How a machine begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// It boots.
    Boot,
    /// It boots, and a debugger may attach.
    BootToDebug,
    /// It boots, and its memory is a file, so that it can be saved without copying that.
    BootToSave,
    /// It goes on where a machine was saved, and changes nothing of the file that is that one's memory.
    Restore,
}

/// Everything about the guest that its software does not decide.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The emulator.
    pub qemu: QemuProgram,
    /// An uncompressed `vmlinux`.
    pub kernel: PathBuf,
    /// What executes the guest's instructions.
    pub accel: Accel,
    /// Memory, processors, clock.
    pub hardware: Hardware,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Kernel parameters beside those of [`Machine::cmdline`].
    pub extra_cmdline: Vec<String>,
}

/// The two-way channels between lab and guest, in the order in which they get descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// QEMU's monitor: when it started, why it ended.
    Monitor,
    /// Events and commands.
    Control,
    /// Standard output of the programs.
    Stdout,
    /// Standard error of the programs.
    Stderr,
    /// Test results.
    Ktap,
    /// Standard input of a program.
    Stdin,
    /// The shell's terminal.
    Terminal,
}

impl Channel {
    /// All channels.
    pub const ALL: [Self; 7] = [
        Self::Monitor,
        Self::Control,
        Self::Stdout,
        Self::Stderr,
        Self::Ktap,
        Self::Stdin,
        Self::Terminal,
    ];

    /// The descriptor under which QEMU finds the channel.
    #[must_use]
    pub fn child_fd(self) -> RawFd {
        FIRST_CHANNEL_FD + self as RawFd
    }

    /// The name of its QEMU character device.
    fn id(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Terminal => "terminal",
            Self::Control => "control",
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Ktap => "ktap",
        }
    }

    /// The name by which the guest finds the channel, if it is a virtio-serial port.
    fn port(self) -> Option<&'static str> {
        match self {
            Self::Monitor | Self::Terminal => None,
            Self::Control => Some(CONTROL_PORT),
            Self::Stdin => Some(STDIN_PORT),
            Self::Stdout => Some(STDOUT_PORT),
            Self::Stderr => Some(STDERR_PORT),
            Self::Ktap => Some(KTAP_PORT),
        }
    }
}

/// Everything that TCG can do, so that programs built for a newer processor run too; but for the promise that
/// `rep movsb`, `rep stosb` and `rep cmpsb` are fast, in general or if they are short. TCG does them byte by byte, and
/// Linux, which then clears and copies pages by them, takes two to five times as long for that.
const TCG_CPU: &str = "max,-erms,-fsrm,-fzrm,-fsrs,-fsrc";

impl Machine {
    /// QEMU's arguments for booting this machine with the initramfs under [`INITRAMFS_FD`].
    #[must_use]
    pub fn args(&self) -> Vec<OsString> {
        self.args_for(Birth::Boot)
    }

    /// QEMU's arguments for a machine that begins like that. A restored one takes the same as the one that
    /// was saved, but for what only boots read.
    #[must_use]
    pub fn args_for(&self, birth: Birth) -> Vec<OsString> {
        let mut args = Args::default();
        self.memory(birth, &mut args);
        self.board(&mut args);
        self.processors(&mut args);
        self.software(birth, &mut args);
        channels(&mut args);
        self.disks(&mut args);
        if birth == Birth::BootToDebug {
            debugger(&mut args);
        }
        args.0
    }

    /// A PC without the devices, the configuration files and the window that QEMU would add by itself.
    fn board(&self, args: &mut Args) {
        args.option("-m", &format!("{}M", self.hardware.memory_mib));
        args.flag("-nodefaults");
        args.flag("-no-user-config");
        args.option("-display", "none");
        // A panic reboots at once (`panic=-1`), and this turns a reboot into QEMU's end.
        args.flag("-no-reboot");
    }

    fn memory(&self, birth: Birth, args: &mut Args) {
        // Not microvm: it is no faster here, and QEMU 7.2's hangs with ACPI on.
        let board = "pc";
        let access = match birth {
            Birth::Boot | Birth::BootToDebug => return args.option("-M", board),
            // What the guest writes is in the file: `x-ignore-shared` then has nothing of it to save.
            Birth::BootToSave => "share=on",
            // A page that the guest writes becomes its own copy; others may read the file meanwhile.
            Birth::Restore => "share=off,readonly=on,rom=off",
        };
        let size = self.hardware.memory_mib;
        let file = format!("size={size}M,mem-path=/proc/self/fd/{MEMORY_FD},{access}");
        args.option("-object", &format!("memory-backend-file,id=memory,{file}"));
        args.option("-M", &format!("{board},memory-backend=memory"));
        if birth == Birth::Restore {
            // From where, the monitor is told.
            args.option("-incoming", "defer");
        }
    }

    fn processors(&self, args: &mut Args) {
        match (self.accel, self.hardware.clock) {
            // One host thread for each processor: with a single one, spinning for another processor
            // starves it, and races never show.
            (Accel::Tcg, Clock::Host) => args.option("-accel", "tcg,thread=multi"),
            // Instructions can be counted in one order only.
            (Accel::Tcg, Clock::Instructions) => args.option("-accel", "tcg,thread=single"),
            (Accel::Kvm, _) => args.option("-accel", "kvm"),
        }
        if self.hardware.clock == Clock::Instructions {
            // `sleep=off`: a processor that waits finds its next timer expired at once.
            args.option("-icount", "shift=0,sleep=off");
            args.option("-rtc", "base=2026-01-01T00:00:00,clock=vm");
            // What the guest gets as random numbers is part of what it executes.
            args.option("-seed", "1");
        }
        match self.accel {
            Accel::Tcg => args.option("-cpu", TCG_CPU),
            Accel::Kvm => args.option("-cpu", "host"),
        }
        args.option("-smp", &self.hardware.nr_cpus.to_string());
    }

    /// The ELF `vmlinux` enters by PVH (`Documentation/arch/x86/boot.rst` leads there): no decompression
    /// in the guest, which is most of a second under TCG.
    ///
    /// A machine that was saved has all of this in its memory; to read 60 MB again would take a quarter of the restore.
    fn software(&self, birth: Birth, args: &mut Args) {
        if birth == Birth::Restore {
            return;
        }
        args.path("-kernel", &self.kernel);
        args.option("-initrd", &format!("/proc/self/fd/{INITRAMFS_FD}"));
        args.option("-append", &self.cmdline());
    }

    /// Stock kernels have the driver of these disks built in, unlike that of virtio's.
    fn disks(&self, args: &mut Args) {
        for (disk, fd) in self.disks.iter().zip(DISKS_FD..) {
            let serial = disk.name.serial();
            args.option(
                "-drive",
                &format!("if=none,id={serial},format=raw,file=/proc/self/fd/{fd}"),
            );
            args.option("-device", &format!("nvme,drive={serial},serial={serial}"));
        }
    }

    /// The kernel's command line.
    #[must_use]
    pub fn cmdline(&self) -> String {
        let parameters = [
            "console=ttyS0",
            // A death before the serial driver is up would say nothing.
            "earlyprintk=serial,ttyS0",
            // Not `quiet`: it hides what WARN() prints. The whole boot log costs no measurable time.
            "loglevel=7",
            // An oops ends the guest as a panic does, and at once: otherwise it hangs until a deadline.
            "oops=panic",
            "panic=-1",
            // Debian enables the crypto self-tests: 0.8 s under TCG.
            "cryptomgr.notests",
            // Nothing here is secret, and flushes are slow under TCG.
            "mitigations=off",
            // Addresses are the same in each run, and in a debugger.
            "nokaslr",
            // Calibration loops that a virtual clock makes slow or noisy.
            "tsc=reliable",
            "no_timer_check",
            "audit=0",
            // Debian zeroes every page it hands out, which would hide a driver that forgets to.
            "init_on_alloc=0",
            // A task that blocks for ever is reported, with its stack, before the deadlines pass.
            "sysctl.kernel.hung_task_timeout_secs=10",
        ];
        let exact: &[&str] = match self.hardware.clock {
            Clock::Host => &[],
            // The same addresses, and the same time in each delay loop; measuring the latter would need
            // another clock.
            Clock::Instructions => &["norandmaps", "lpj=4600000"],
        };
        let extra = self.extra_cmdline.iter().map(String::as_str);
        parameters
            .into_iter()
            .chain(exact.iter().copied())
            .chain(extra)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// Everything is inherited: no name that somebody else could guess or take, no limit on the length of a
/// path, and both ends close by themselves when either process ends.
fn channels(args: &mut Args) {
    // A pipe, which holds thousands of log lines. The serial port hands over byte by byte, of which a
    // socket holds fewer than 300; and while it is full, the guest's driver waits 10 ms for each byte,
    // then loses it (`wait_for_lsr()`, drivers/tty/serial/8250/8250_port.c).
    let console = format!("file,id=console,path=/proc/self/fd/{CONSOLE_FD}");
    args.option("-chardev", &console);
    for channel in Channel::ALL {
        let (id, fd) = (channel.id(), channel.child_fd());
        args.option("-chardev", &format!("socket,id={id},fd={fd}"));
    }
    args.option("-mon", "chardev=monitor,mode=control");
    args.option("-device", "isa-serial,chardev=console");
    // Without ioeventfd QEMU takes each buffer before the guest's next instruction, so that the last
    // words before a panic are not lost.
    args.option("-device", "virtio-serial-pci,ioeventfd=off");
    // Port 0 is kept for a console by the virtio specification (5.3.5): it becomes hvc0.
    args.option("-device", "virtconsole,nr=0,chardev=terminal");
    for channel in Channel::ALL {
        if let Some(port) = channel.port() {
            args.option(
                "-device",
                &format!("virtserialport,chardev={},name={port}", channel.id()),
            );
        }
    }
}

/// The guest runs until somebody attaches. QEMU is given a socket that listens already: no port that another
/// run, or somebody else on this host, could take or find.
fn debugger(args: &mut Args) {
    let socket = format!("socket,id=gdb,fd={GDB_FD},server=on,wait=off");
    args.option("-chardev", &socket);
    args.option("-gdb", "chardev:gdb");
    // A guest that has ended, be it by a panic, stays for gdb to look at, until the lab tells QEMU to quit.
    args.option("-action", "shutdown=pause");
}

/// A command line that is being written.
#[derive(Default)]
struct Args(Vec<OsString>);

impl Args {
    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn option(&mut self, name: &str, value: &str) {
        self.0.extend([name.into(), value.into()]);
    }

    fn path(&mut self, name: &str, value: &std::path::Path) {
        self.0.extend([name.into(), value.into()]);
    }
}
