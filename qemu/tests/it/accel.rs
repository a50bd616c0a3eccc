//! The choice of an accelerator.

use lab::accel::{Choice, Kvm, Probe, Wish, can_virtualise, decide};
use lab::failure::Failure;
use lab::machine::Accel;
use lab::rom;

const GOOD: Kvm = Kvm {
    refused: None,
    has_cpu_flag: true,
};
const NESTED: Kvm = Kvm {
    refused: None,
    has_cpu_flag: false,
};

fn absent() -> Kvm {
    Kvm {
        refused: Some("No such file or directory (os error 2)".into()),
        has_cpu_flag: true,
    }
}

fn chosen(wish: Wish, kvm: &Kvm, probe: Option<&Probe>) -> Option<Choice> {
    decide(wish, kvm, probe).unwrap()
}

#[test]
fn kvm_is_chosen_only_after_the_rom_ran_in_time() {
    assert_eq!(chosen(Wish::Auto, &GOOD, None), None);
    for (probe, accel) in [
        (Probe::Done(12), Accel::Kvm),
        (Probe::TooSlow, Accel::Tcg),
        (
            Probe::Failed("QEMU gave up with status 1.".into()),
            Accel::Tcg,
        ),
    ] {
        assert_eq!(
            chosen(Wish::Auto, &GOOD, Some(&probe)).unwrap().accel,
            accel,
            "{probe:?}"
        );
    }
}

#[test]
fn device_without_processor_flag_is_not_even_tried() {
    let choice = chosen(Wish::Auto, &NESTED, None).unwrap();
    assert_eq!(choice.accel, Accel::Tcg);
    assert!(
        choice.to_string().contains("neither vmx nor svm"),
        "{choice}"
    );
}

#[test]
fn missing_device_is_the_reason_given() {
    let choice = chosen(Wish::Auto, &absent(), None).unwrap();
    assert_eq!(
        choice.to_string(),
        "TCG: /dev/kvm: No such file or directory (os error 2)"
    );
}

#[test]
fn wish_is_granted_where_it_can_be() {
    for kvm in [GOOD, NESTED, absent()] {
        assert_eq!(
            chosen(Wish::Only(Accel::Tcg), &kvm, None).unwrap().accel,
            Accel::Tcg
        );
    }
    for kvm in [GOOD, NESTED] {
        assert_eq!(
            chosen(Wish::Only(Accel::Kvm), &kvm, None).unwrap().accel,
            Accel::Kvm
        );
    }
    let error = decide(Wish::Only(Accel::Kvm), &absent(), None).unwrap_err();
    assert!(
        matches!(error.downcast_ref(), Some(Failure::SetUpMissing { .. })),
        "{error}"
    );
}

#[test]
fn only_a_flag_of_the_processor_counts() {
    assert!(can_virtualise("model name\t: x\nflags\t\t: fpu vmx de\n"));
    assert!(can_virtualise("flags\t\t: fpu de svm\n"));
    assert!(!can_virtualise(
        "model name\t: vmx svm\nflags\t\t: fpu svm_lock vmxx\n"
    ));
    assert!(!can_virtualise(""));
}

/// Walks through the ROM as a processor would.
#[test]
fn rom_counts_and_leaves() {
    let rom = rom::image();
    assert_eq!(rom.len(), 0x1_0000);
    let jump = 0xfff0;
    assert_eq!(rom[jump], 0xe9, "a near jump at the reset vector");
    let distance = u16::from_le_bytes([rom[jump + 1], rom[jump + 2]]);
    let target = u16::try_from(jump + 3).unwrap().wrapping_add(distance);
    assert_eq!(target, 0, "to the beginning");
    assert_eq!(rom[..2], [0x66, 0xb9], "mov ecx, imm32");
    assert_eq!(rom[6..8], [0x66, 0x49], "dec ecx");
    assert_eq!(rom[8], 0x75, "jnz");
    assert_eq!(
        10 + i32::from(i8::from_le_bytes([rom[9]])),
        6,
        "back to the dec"
    );
    assert_eq!(rom[10], 0xb0, "mov al, imm8");
    assert_eq!(rom[12..14], [0xe6, rom::EXIT_PORT], "out port, al");
    assert_eq!(rom::EXIT_STATUS, i32::from(rom[11]) * 2 + 1);
}
