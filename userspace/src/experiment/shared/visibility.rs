//! Visibility: who sees a store to a shared page, and when.

use crate::actor::Watch;
use crate::error::Result;
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::sys::PAGE_SIZE;
use crate::turn::TURN;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "store-then-watch",
        summary: "Two unrelated processes map the object shared, each by its own open. One watches a word; the \
                  other stores 64 bytes and then the word. The watcher loads the bytes without a system call. \
                  Once on the device, once on a file in memory.",
        run: store_then_watch,
    },
    Experiment {
        name: "kernel-reads-stores",
        summary: "Stores bytes at 1000 scattered offsets of a shared mapping and has the kernel read each back \
                  with pread into unrelated memory, without msync.",
        run: kernel_reads_stores,
    },
    Experiment {
        name: "kernel-writes",
        summary: "A process watches a word of its shared mapping while the kernel changes bytes and the word by \
                  pwrite through another descriptor; it then loads the bytes and counts its page faults.",
        run: kernel_writes,
    },
];

/// The word that says that the bytes before it are complete.
const FLAG: usize = 256;
const READY: u32 = 1;
const BYTES: u8 = 64;

fn store_then_watch(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let pair = one_stores_one_watches(fixture, &Request::shared(fixture.device.node()))?;
    evidence.note("writer.bytes", pair.0);
    evidence.note("reader.bytes", pair.1);
    let file = MemFile::new(PAGE_SIZE)?;
    let pair = one_stores_one_watches(fixture, &Request::shared(file.path()))?;
    evidence.note("file-writer.bytes", pair.0);
    evidence.note("file-reader.bytes", pair.1);
    Ok(evidence)
}

/// Returns what was stored and what was seen; nothing if the word did not appear in time.
fn one_stores_one_watches(fixture: &Fixture, request: &Request) -> Result<(Vec<u8>, Vec<u8>)> {
    let stored: Vec<u8> = (1..=BYTES).map(|index| index * 3).collect();
    let (mut writer, mut reader) = (fixture.actor("the writer")?, fixture.actor("the reader")?);
    writer.map(request)?;
    reader.map(request)?;
    reader.watch(Watch {
        offset: FLAG,
        word: READY,
        timeout: TURN / 2,
        then: (0, BYTES.into()),
    })?;
    writer.store(0, &stored)?;
    writer.publish(FLAG, READY)?;
    let seen = reader
        .watched()?
        .map(|loaded| loaded.bytes)
        .unwrap_or_default();
    Ok((stored, seen))
}

fn kernel_reads_stores(fixture: &Fixture) -> Result<Evidence> {
    const ROUNDS: u16 = 1000;
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let mapping = fixture.device.map_shared()?;
    let file = fixture.device.open()?;
    let mut wrong = 0;
    for round in 0..ROUNDS {
        // 1021 is prime, so the offsets visit the page in a scattered order.
        let offset = usize::from(round) * 1021 % (PAGE_SIZE - 3);
        let [low, high] = round.to_ne_bytes();
        let bytes = [low, high, !low];
        mapping.store_bytes(offset, &bytes)?;
        let mut kernel = [0; 3];
        let read = std::os::unix::fs::FileExt::read_exact_at(&file, &mut kernel, offset as u64);
        read.map_err(crate::error::Error::file("read", fixture.device.node()))?;
        wrong += u64::from(kernel != bytes);
    }
    mapping.store_bytes(0, b"user")?;
    evidence.note("rounds.count", u64::from(ROUNDS));
    evidence.note("kernel.missed", wrong);
    evidence.note("user.stored", &b"user"[..]);
    evidence.note("kernel.read", fixture.device.read(0, 4)?);
    Ok(evidence)
}

fn kernel_writes(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    let mut observer = fixture.actor("the observer")?;
    observer.map(&Request::shared(fixture.device.node()))?;
    evidence.note("before.seen", observer.load(0, 6)?.bytes);
    let timeout = TURN / 2;
    observer.watch(Watch {
        offset: FLAG,
        word: READY,
        timeout,
        then: (0, 6),
    })?;
    fixture.device.write(0, b"kernel")?;
    fixture.device.write(FLAG, &READY.to_ne_bytes())?;
    let loaded = observer.watched()?;
    evidence.note("kernel.wrote", &b"kernel"[..]);
    evidence.note(
        "observer.seen",
        loaded.as_ref().map(|l| l.bytes.clone()).unwrap_or_default(),
    );
    evidence.note("observer.faults", loaded.map_or(u64::MAX, |l| l.faults));
    Ok(evidence)
}
