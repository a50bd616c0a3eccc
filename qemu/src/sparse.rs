//! Copies of files that are mostly empty.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// What is looked at, and left out if it is all zeros: the size of a block of most file systems.
const BLOCK_LEN: usize = 4096;

/// How much is read at once.
const CHUNK_LEN: usize = 256 * BLOCK_LEN;

/// Copies what `from` holds to the empty file `to`, and leaves holes where there is nothing but zeros.
///
/// # Errors
///
/// When one cannot be read or the other not written.
pub fn copy(from: &File, to: &File) -> io::Result<()> {
    let len = from.metadata()?.len();
    to.set_len(len)?;
    let mut chunk = vec![0; CHUNK_LEN];
    let mut at = 0;
    while at < len {
        let data = match seek(from, SeekFrom::Data(at)) {
            // Nothing but a hole follows (lseek(2)).
            Err(Errno::NXIO) => break,
            data => data?,
        };
        let end = seek(from, SeekFrom::Hole(data))?;
        at = data;
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(CHUNK_LEN);
            let chunk = &mut chunk[..left.min(CHUNK_LEN)];
            from.read_exact_at(chunk, at)?;
            for block in chunk.chunks(BLOCK_LEN) {
                if block != &[0; BLOCK_LEN][..block.len()] {
                    to.write_all_at(block, at)?;
                }
                at += block.len() as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn holes_and_zeros_take_no_room_and_all_bytes_are_there() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let len = 3 * CHUNK_LEN + 5;
        from.set_len(len as u64).unwrap();
        for at in [0, 300_000, len - 4] {
            from.write_all_at(b"here", at as u64).unwrap();
        }
        from.write_all_at(&vec![0; CHUNK_LEN], CHUNK_LEN as u64)
            .unwrap();
        copy(&from, &to).unwrap();
        let read = |file: &File| {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        assert!(read(&from) == read(&to), "the copies differ");
        assert_eq!(to.metadata().unwrap().len(), len as u64);
        let bytes = to.metadata().unwrap().blocks() * 512;
        assert!(bytes < 1 << 16, "{bytes} bytes for three words");
    }
}
