//! A boot ROM that does nothing but count, to measure an accelerator by.

/// What QEMU maps at the top of the first mebibyte, so that its end is the reset vector.
const ROM_LEN: usize = 64 * 1024;

/// Where a processor begins: 16 bytes before the end, in a code segment that begins where the ROM does.
const RESET_VECTOR: usize = 0xfff0;

/// The value that the ROM writes to its exit port.
const EXIT_VALUE: u8 = 0x2a;

/// The port of QEMU's `isa-debug-exit` device.
pub const EXIT_PORT: u8 = 0xf4;

/// QEMU's exit status once the ROM has run to its end, as `isa-debug-exit` makes it of the value.
pub const EXIT_STATUS: i32 = (EXIT_VALUE as i32) << 1 | 1;

/// How often the ROM goes round. TCG needs about 0.1 s for it.
const ITERATIONS: u32 = 20_000_000;

/// The ROM: 16-bit code at its beginning, and a jump there at the reset vector.
#[must_use]
pub fn image() -> Vec<u8> {
    let [i0, i1, i2, i3] = ITERATIONS.to_le_bytes();
    #[rustfmt::skip]
    let code = [
        0x66, 0xb9, i0, i1, i2, i3, //       mov  ecx, ITERATIONS
        0x66, 0x49,                 // loop: dec  ecx
        0x75, 0xfc,                 //       jnz  loop
        0xb0, EXIT_VALUE,           //       mov  al, EXIT_VALUE
        0xe6, EXIT_PORT,            //       out  EXIT_PORT, al
        0xf4,                       //       hlt
    ];
    // A near jump to offset 0, counted from the instruction behind it; the segment is as long as the ROM.
    let jump = [0xe9, 0x0d, 0x00];
    let mut rom = vec![0; ROM_LEN];
    rom[..code.len()].copy_from_slice(&code);
    rom[RESET_VECTOR..RESET_VECTOR + jump.len()].copy_from_slice(&jump);
    rom
}
