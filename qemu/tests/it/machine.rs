//! QEMU's command line.

use std::path::Path;

use lab::disk::{Disk, Name};
use lab::machine::{
    Accel, Birth, CONSOLE_FD, Channel, Clock, DISKS_FD, GDB_FD, Hardware, INITRAMFS_FD, MEMORY_FD,
    Machine, QemuProgram, STATE_FD,
};

fn machine(accel: Accel) -> Machine {
    Machine {
        qemu: QemuProgram {
            argv_prefix: vec!["qemu".into()],
            env: Vec::new(),
        },
        kernel: "/a path, with spaces/vmlinux".into(),
        accel,
        hardware: Hardware::USUAL,
        disks: Vec::new(),
        extra_cmdline: vec!["quiet".into()],
    }
}

fn args(machine: &Machine) -> Vec<String> {
    machine
        .args()
        .into_iter()
        .map(|arg| arg.into_string().unwrap())
        .collect()
}

const ARGS: &str = "\
-M pc
-m 512M
-nodefaults
-no-user-config
-display none
-no-reboot
-accel tcg,thread=multi
-cpu max,-erms,-fsrm,-fzrm,-fsrs,-fsrc
-smp 2
-kernel /a path, with spaces/vmlinux
-initrd /proc/self/fd/11
-append console=ttyS0 earlyprintk=serial,ttyS0 loglevel=7 oops=panic panic=-1 cryptomgr.notests \
mitigations=off nokaslr tsc=reliable no_timer_check audit=0 init_on_alloc=0 \
sysctl.kernel.hung_task_timeout_secs=10 quiet
-chardev file,id=console,path=/proc/self/fd/3
-chardev socket,id=monitor,fd=4
-chardev socket,id=control,fd=5
-chardev socket,id=stdout,fd=6
-chardev socket,id=stderr,fd=7
-chardev socket,id=ktap,fd=8
-chardev socket,id=stdin,fd=9
-chardev socket,id=terminal,fd=10
-mon chardev=monitor,mode=control
-device isa-serial,chardev=console
-device virtio-serial-pci,ioeventfd=off
-device virtconsole,nr=0,chardev=terminal
-device virtserialport,chardev=control,name=lab.control
-device virtserialport,chardev=stdout,name=lab.stdout
-device virtserialport,chardev=stderr,name=lab.stderr
-device virtserialport,chardev=ktap,name=lab.ktap
-device virtserialport,chardev=stdin,name=lab.stdin";

#[test]
fn command_line_is_this_one() {
    let expected: Vec<&str> = ARGS
        .lines()
        .flat_map(|line| {
            line.split_once(' ')
                .map_or(vec![line], |(name, value)| vec![name, value])
        })
        .collect();
    assert_eq!(args(&machine(Accel::Tcg)), expected);
}

#[test]
fn kvm_changes_the_processor_only() {
    let changed: Vec<(String, String)> = args(&machine(Accel::Tcg))
        .into_iter()
        .zip(args(&machine(Accel::Kvm)))
        .filter(|(tcg, kvm)| tcg != kvm)
        .collect();
    let pair = |tcg: &str, kvm: &str| (tcg.to_owned(), kvm.to_owned());
    assert_eq!(
        changed,
        [
            pair("tcg,thread=multi", "kvm"),
            pair("max,-erms,-fsrm,-fzrm,-fsrs,-fsrc", "host")
        ]
    );
}

/// What a machine that begins like `birth` takes, in lines.
fn lines(birth: Birth) -> Vec<String> {
    let args = machine(Accel::Tcg).args_for(birth);
    let text: Vec<String> = args
        .into_iter()
        .map(|arg| arg.into_string().unwrap())
        .collect();
    let text = text.join(" ");
    text.split(" -").map(str::to_owned).collect()
}

#[test]
fn a_restored_machine_has_the_devices_of_the_saved_one_and_writes_to_no_file() {
    let (saved, restored) = (lines(Birth::BootToSave), lines(Birth::Restore));
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        let mut these = these.to_vec();
        these.retain(|line| !those.contains(line));
        these
    };
    let object = "object memory-backend-file,id=memory,size=512M,mem-path=/proc/self/fd/12";
    assert_eq!(
        only(&saved, &restored),
        [
            format!("-{object},share=on"),
            "kernel /a path, with spaces/vmlinux".to_owned(),
            "initrd /proc/self/fd/11".to_owned(),
            format!("append {}", machine(Accel::Tcg).cmdline()),
        ]
    );
    assert_eq!(
        only(&restored, &saved),
        [
            format!("-{object},share=off,readonly=on,rom=off"),
            "incoming defer".to_owned()
        ]
    );
}

#[test]
fn disks_are_told_apart_by_their_serial_numbers() {
    let plain = machine(Accel::Tcg);
    let disk = |name| Disk::copy_of(Path::new("/dev/null"), name).unwrap();
    let two = Machine {
        disks: vec![disk(Name::Cut), disk(Name::Scratch)],
        ..plain.clone()
    };
    let added = args(&two).split_off(args(&plain).len());
    assert_eq!(
        added,
        [
            "-drive",
            "if=none,id=lab-cut,format=raw,file=/proc/self/fd/15",
            "-device",
            "nvme,drive=lab-cut,serial=lab-cut",
            "-drive",
            "if=none,id=lab-scratch,format=raw,file=/proc/self/fd/16",
            "-device",
            "nvme,drive=lab-scratch,serial=lab-scratch",
        ]
    );
}

#[test]
fn counted_instructions_take_one_thread_and_no_noise() {
    let plain = machine(Accel::Tcg);
    let exact = Machine {
        hardware: Hardware {
            clock: Clock::Instructions,
            nr_cpus: 1,
            ..Hardware::USUAL
        },
        ..plain
    };
    let args = args(&exact).join(" ");
    assert!(
        args.contains(
            " -accel tcg,thread=single -icount shift=0,sleep=off \
             -rtc base=2026-01-01T00:00:00,clock=vm -seed 1 -cpu max,-erms,-fsrm,-fzrm,-fsrs,-fsrc -smp 1 "
        ),
        "{args}"
    );
    let cmdline = exact.cmdline();
    for parameter in ["nokaslr", "norandmaps", "lpj=4600000", "tsc=reliable"] {
        assert!(
            cmdline.split(' ').any(|word| word == parameter),
            "{cmdline}"
        );
    }
}

#[test]
fn debugged_machine_listens_on_a_socket_of_its_own_and_is_otherwise_the_same() {
    let plain = machine(Accel::Tcg);
    let text = |birth| {
        let args = plain.args_for(birth).into_iter();
        let words: Vec<String> = args.map(|arg| arg.into_string().unwrap()).collect();
        words.join(" ")
    };
    let debugged = text(Birth::BootToDebug);
    let own = debugged.strip_prefix(&text(Birth::Boot)).unwrap();
    let socket = format!("socket,id=gdb,fd={GDB_FD},server=on,wait=off");
    assert_eq!(
        own,
        format!(" -chardev {socket} -gdb chardev:gdb -action shutdown=pause")
    );
}

#[test]
fn no_two_channels_share_a_descriptor() {
    let mut fds: Vec<i32> = Channel::ALL
        .iter()
        .map(|channel| channel.child_fd())
        .collect();
    fds.extend([
        CONSOLE_FD,
        INITRAMFS_FD,
        MEMORY_FD,
        STATE_FD,
        DISKS_FD,
        GDB_FD,
    ]);
    fds.sort_unstable();
    assert_eq!(fds, (3..16).collect::<Vec<_>>());
}
