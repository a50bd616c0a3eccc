//! The kernel inside a compressed image.

use std::fs;

use lab::vmlinux::{decompress, extract};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

const ELF: &[u8] = b"\x7fELF and a kernel behind it";

/// A bzImage with two setup sectors and `payload` in its middle.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    const OFFSET: usize = 0x40;
    let mut image = vec![0; 3 * 512 + OFFSET];
    image[0x1f1] = 2;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    image[0x248..0x24c].copy_from_slice(&u32::try_from(OFFSET).unwrap().to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    image.extend_from_slice(payload);
    image.extend_from_slice(b"what follows the payload");
    image
}

/// Compressed bytes with their length behind them, as the kernel's build makes it.
fn payload(bytes: &[u8]) -> Vec<u8> {
    let mut payload = compress_to_vec(bytes, CompressionLevel::Uncompressed);
    payload.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    payload
}

fn complaint(image: &[u8]) -> String {
    format!("{:#}", decompress(image).unwrap_err())
}

#[test]
fn kernel_comes_out_as_it_went_in() {
    assert_eq!(decompress(&bzimage(&payload(ELF))).unwrap(), ELF);
}

#[test]
fn error_names_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let (image, to) = (dir.path().join("vmlinuz"), dir.path().join("vmlinux"));
    fs::write(&image, b"MZ").unwrap();
    let error = format!("{:#}", extract(&image, &to).unwrap_err());
    assert!(error.contains("vmlinuz: not a bzImage"), "{error}");
    assert!(!to.exists());
}

#[test]
fn other_compressions_are_named() {
    let error = complaint(&bzimage(b"\xfd7zXZ\0 and so on"));
    assert!(error.contains("[fd, 37, 7a, 58]: not zstd"), "{error}");
}

#[test]
fn damaged_payload_is_noticed() {
    let mut wrong_len = payload(ELF);
    *wrong_len.last_mut().unwrap() = 1;
    assert!(complaint(&bzimage(&wrong_len)).contains("were promised"));
    assert!(complaint(&bzimage(&payload(b"no kernel"))).contains("not an ELF file"));
}

#[test]
fn image_may_end_anywhere_without_a_panic() {
    let image = bzimage(&payload(ELF));
    let whole = image.len() - b"what follows the payload".len();
    for len in 0..whole {
        let error = complaint(&image[..len]);
        assert!(
            error.contains("cut off") || error.contains("not a bzImage"),
            "{len}: {error}"
        );
    }
}
