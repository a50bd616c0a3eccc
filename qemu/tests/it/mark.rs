//! Marks in streams.

use lab::mark::{Piece, Splitter, bytes, random_name};

/// Splits a stream that arrives in chunks of `len`; joins what is between two marks.
fn split(name: &str, stream: &[u8], len: usize) -> Vec<Vec<u8>> {
    let mut splitter = Splitter::new(name);
    let mut pieces: Vec<Piece> = stream
        .chunks(len)
        .flat_map(|chunk| splitter.push(chunk))
        .collect();
    pieces.extend(splitter.finish());
    let mut parts = vec![Vec::new()];
    for piece in pieces {
        match piece {
            Piece::Mark => parts.push(Vec::new()),
            Piece::Bytes(bytes) => parts.last_mut().unwrap().extend(bytes),
        }
    }
    parts
}

#[test]
fn every_byte_and_every_mark_arrives_however_the_stream_is_cut() {
    let name = "abcabd";
    let mark = bytes(name);
    // The beginning of a mark before a mark, a mark that is not one, and two marks in a row.
    let parts: [&[u8]; 4] = [b"one\xff\xffabcab", b"\xffabcabc", b"", b"\xffabc"];
    let stream = parts.join(&mark[..]);
    for len in 1..=stream.len() {
        assert_eq!(split(name, &stream, len), parts, "in chunks of {len}");
    }
}

#[test]
fn text_is_not_held_back() {
    let mut splitter = Splitter::new("abc");
    assert_eq!(
        splitter.push("größer\n".as_bytes()),
        [Piece::Bytes("größer\n".into())]
    );
}

#[test]
fn names_differ() {
    assert_ne!(random_name().unwrap(), random_name().unwrap());
}
