//! Access: which protection, flag and open mode communication through a mapping needs.

use nix::sys::mman::ProtFlags;

use crate::error::Result;
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{Mode, Request};
use crate::probe::{Access, touch};

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "writer-flag",
        summary: "A writer maps the device shared, and then private; each time it stores a text, and after its \
                  turn a reader with a shared mapping loads it.",
        run: writer_flag,
    },
    Experiment {
        name: "one-way-channel",
        summary: "The writer maps with PROT_WRITE only, the reader opens read-only and maps with PROT_READ only. \
                  After one text has passed, a reader of the same kind tries to store and to mprotect its mapping \
                  writable.",
        run: one_way_channel,
    },
    Experiment {
        name: "open-mode-matrix",
        summary: "Maps the device in all twelve combinations of three open modes, shared or private, and \
                  readable or readable and writable.",
        run: open_mode_matrix,
    },
];

const TEXT: &[u8] = b"ipc";

fn writer_flag(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let node = fixture.device.node();
    evidence.note("writer.bytes", TEXT);
    let variants = [
        ("shared", Request::shared(node)),
        ("private", Request::private(node)),
    ];
    for (flag, request) in variants {
        fixture.device.fill(0)?;
        let (mut writer, mut reader) = (fixture.actor("the writer")?, fixture.actor("the reader")?);
        writer.map(&request)?;
        reader.map(&Request::shared(node))?;
        writer.store(0, TEXT)?;
        evidence.note(
            format!("{flag}-writer.own"),
            writer.load(0, TEXT.len())?.bytes,
        );
        evidence.note(
            format!("{flag}-writer.reached"),
            reader.load(0, TEXT.len())?.bytes,
        );
    }
    Ok(evidence)
}

fn one_way_channel(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let node = fixture.device.node();
    fixture.device.fill(0)?;
    let (mut writer, mut reader) = (fixture.actor("the writer")?, fixture.actor("the reader")?);
    let write_only = Request::shared(node).prot(ProtFlags::PROT_WRITE);
    let read_only = Request::shared(node)
        .prot(ProtFlags::PROT_READ)
        .mode(Mode::ReadOnly);
    evidence.note("writer.map", writer.try_map(&write_only)?);
    evidence.note("reader.map", reader.try_map(&read_only)?);
    writer.store(0, TEXT)?;
    evidence.note("writer.bytes", TEXT);
    evidence.note("reader.bytes", reader.load(0, TEXT.len())?.bytes);
    let mut own = read_only.map()?;
    evidence.note("reader.store", touch(own.addr(), Access::Store(1))?);
    let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    evidence.note("reader.upgrade", own.protect(both));
    Ok(evidence)
}

fn open_mode_matrix(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let node = fixture.device.node();
    let modes = [
        ("rdonly", Mode::ReadOnly),
        ("wronly", Mode::WriteOnly),
        ("rdwr", Mode::ReadWrite),
    ];
    let flags = [
        ("shared", Request::shared(node)),
        ("private", Request::private(node)),
    ];
    let prots = [
        ("r", ProtFlags::PROT_READ),
        ("rw", ProtFlags::PROT_READ | ProtFlags::PROT_WRITE),
    ];
    for (mode_name, mode) in modes {
        for (flag_name, request) in &flags {
            for (prot_name, prot) in prots {
                let mapped = request.clone().mode(mode).prot(prot).try_map()?;
                evidence.note(format!("{mode_name}.{flag_name}-{prot_name}"), mapped);
            }
        }
    }
    Ok(evidence)
}
