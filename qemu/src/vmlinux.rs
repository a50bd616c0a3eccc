//! The ELF `vmlinux` inside a compressed kernel image.
//!
//! QEMU can enter an ELF kernel directly; the bzImage around it would decompress itself in the guest,
//! slowly. Where the compressed kernel lies is part of the boot protocol
//! (`Documentation/arch/x86/boot.rst`: `setup_sects`, `payload_offset`, `payload_length`).

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ruzstd::decoding::StreamingDecoder;

const SECTOR_LEN: usize = 512;

/// Offsets in the image's first sectors.
mod header {
    pub(super) const SETUP_SECTS: usize = 0x1f1;
    pub(super) const MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const PAYLOAD_OFFSET: usize = 0x248;
    pub(super) const PAYLOAD_LEN: usize = 0x24c;
}

/// Since this version of the protocol the header tells where the payload is.
const FIRST_VERSION_WITH_PAYLOAD: u32 = 0x0208;

/// What `setup_sects` means when it is 0.
const DEFAULT_SETUP_SECTS: usize = 4;

const ELF_MAGIC: &[u8] = b"\x7fELF";
const ZSTD_MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";

/// Writes the `vmlinux` that is inside `bzimage` to `to`.
///
/// # Errors
///
/// When `bzimage` is not a bzImage compressed with zstd, is damaged, or a file cannot be read or written.
pub fn extract(bzimage: &Path, to: &Path) -> Result<()> {
    let image =
        fs::read(bzimage).with_context(|| format!("failed to read {}", bzimage.display()))?;
    let vmlinux = decompress(&image)
        .with_context(|| format!("failed to extract vmlinux from {}", bzimage.display()))?;
    fs::write(to, vmlinux).with_context(|| format!("failed to write {}", to.display()))
}

/// The `vmlinux` inside a bzImage.
///
/// # Errors
///
/// When the image is not one, is not compressed with zstd, or is damaged.
pub fn decompress(image: &[u8]) -> Result<Vec<u8>> {
    let payload = payload(image)?;
    // Behind the compressed bytes, the build puts their uncompressed length
    // (scripts/Makefile.lib, size_append).
    let (compressed, len) = payload
        .split_last_chunk::<4>()
        .context("the payload is shorter than its length field")?;
    let len = usize::try_from(u32::from_le_bytes(*len))?;
    ensure!(
        compressed.starts_with(ZSTD_MAGIC),
        "its payload begins with {:02x?}: not zstd, the one compression that Debian's kernels use",
        &compressed[..compressed.len().min(ZSTD_MAGIC.len())]
    );
    let mut decoder = StreamingDecoder::new(compressed).context("the payload has no zstd frame")?;
    let mut vmlinux = Vec::with_capacity(len);
    decoder
        .read_to_end(&mut vmlinux)
        .context("the payload is damaged")?;
    if vmlinux.len() != len {
        bail!(
            "the payload is damaged: {} bytes came out, {len} were promised",
            vmlinux.len()
        );
    }
    ensure!(
        vmlinux.starts_with(ELF_MAGIC),
        "what is inside is not an ELF file"
    );
    Ok(vmlinux)
}

/// The compressed kernel in an image.
fn payload(image: &[u8]) -> Result<&[u8]> {
    let magic = image.get(header::MAGIC..header::MAGIC + 4);
    ensure!(
        magic == Some(b"HdrS"),
        "not a bzImage: no `HdrS` at {:#x}",
        header::MAGIC
    );
    let version = field(image, header::VERSION)? & 0xffff;
    ensure!(
        version >= FIRST_VERSION_WITH_PAYLOAD,
        "its boot protocol {version:#06x} is too old"
    );
    let setup_sects = match image.get(header::SETUP_SECTS) {
        Some(0) | None => DEFAULT_SETUP_SECTS,
        Some(count) => usize::from(*count),
    };
    let protected_mode_code = (setup_sects + 1) * SECTOR_LEN; // the boot sector comes first
    let start = protected_mode_code + usize::try_from(field(image, header::PAYLOAD_OFFSET)?)?;
    let len = usize::try_from(field(image, header::PAYLOAD_LEN)?)?;
    image.get(start..start + len).with_context(|| {
        format!(
            "cut off: its payload ends at byte {}, the file at {}",
            start + len,
            image.len()
        )
    })
}

fn field(image: &[u8], offset: usize) -> Result<u32> {
    let bytes = image.get(offset..).and_then(|rest| rest.first_chunk::<4>());
    Ok(u32::from_le_bytes(
        *bytes.context("cut off inside its header")?,
    ))
}
