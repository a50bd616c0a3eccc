//! Dev zero: shared anonymous memory, the device that is its namesake, and how the two differ.

use std::os::unix::fs::MetadataExt;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode as Permissions;

use crate::actor::Actor;
use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::{CallEnd, Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{Mode, Request, open};
use crate::procfs::{self, Vma};
use crate::sys::Mapping;
use crate::tracer::Recording;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "dev-zero-name",
        summary: "Maps shared anonymous memory and compares the file behind it with the device /dev/zero; then does \
                  it again in a child that has changed its root to where there is no /dev. Records whether the \
                  kernel opens anything for it, and what it does to open the device.",
        run: dev_zero_name,
    },
    Experiment {
        name: "dev-zero-mappings",
        summary: "Maps /dev/zero shared twice, stores by one and looks by the other, forks, and has the child store. \
                  The same with our device. Then stores to a private mapping of /dev/zero.",
        run: dev_zero_mappings,
    },
];

const NODE: &str = "/dev/zero";

fn area(mapping: &Mapping) -> Result<Vma> {
    procfs::vma(mapping.addr())?.ok_or_else(|| Error::Garbled {
        what: "/proc/self/smaps".to_owned(),
        detail: "no area of a mapping".to_owned(),
    })
}

fn words(text: &str) -> Value {
    Value::Words(text.split_whitespace().map(str::to_owned).collect())
}

/// As `/proc/PID/maps` has it.
fn device_of(meta: &std::fs::Metadata) -> String {
    let (major, minor) = (
        nix::sys::stat::major(meta.dev()),
        nix::sys::stat::minor(meta.dev()),
    );
    format!("{major:02x}:{minor:02x}")
}

fn dev_zero_name(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let node = std::fs::metadata(NODE).map_err(Error::file("look at", NODE))?;
    evidence.note("node.device", device_of(&node).as_str());
    evidence.note("node.inode", node.ino());
    let shared = Request::anonymous(libc::MAP_SHARED);
    let (first, second) = (shared.map()?, shared.map()?);
    for (name, mapping) in [("first", &first), ("second", &second)] {
        let area = area(mapping)?;
        evidence.note(format!("{name}.device"), area.device.as_str());
        evidence.note(format!("{name}.inode"), area.inode);
        evidence.note(format!("{name}.name"), words(&area.name));
    }
    let (opened, mapped) = errand::run("a child without /dev", || {
        nix::unistd::chroot("/proc").map_err(Error::call("chroot()", "/proc"))?;
        let opened = nix::fcntl::open(NODE, OFlag::O_RDWR, Permissions::empty());
        Ok((CallEnd::from(opened), CallEnd::from(shared.try_map()?)))
    })?;
    evidence.note("rootless.open", opened);
    evidence.note("rootless.map", mapped);
    note_path(&mut evidence, fixture, &shared)?;
    Ok(evidence)
}

/// Records whether a mapping makes a file on tmpfs or opens a device, and the same of an open of the device.
fn note_path(evidence: &mut Evidence, fixture: &Fixture, shared: &Request) -> Result<()> {
    const FUNCTIONS: [(&str, &str); 3] = [
        ("zero-setup", "shmem_zero_setup"),
        ("opens", "vfs_open"),
        ("device-opens", "chrdev_open"),
    ];
    let record = |recording: &Recording<'_>| {
        let mapped = recording.step("map", || shared.map())?;
        let opened = recording.step("open", || open(NODE.as_ref(), Mode::ReadWrite))?;
        Ok((mapped, opened))
    };
    let functions = FUNCTIONS.map(|(_, function)| function);
    let (_kept, trace) = fixture.tracer()?.record(&functions, record)?;
    for step in ["map", "open"] {
        for (label, function) in FUNCTIONS {
            evidence.note(format!("{step}.{label}"), trace.count(step, function));
        }
    }
    Ok(())
}

fn dev_zero_mappings(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    fixture.device.fill(0)?;
    evidence.note("zero.byte", vec![0]);
    evidence.note("first.stored", &b"1"[..]);
    evidence.note("child.stored", &b"c"[..]);
    let zero = std::path::Path::new(NODE);
    for (name, path) in [("zero", zero), ("device", fixture.device.node())] {
        let request = Request::shared(path);
        let (first, second) = (request.map()?, request.map()?);
        evidence.note(format!("{name}.first-inode"), area(&first)?.inode);
        evidence.note(format!("{name}.second-inode"), area(&second)?.inode);
        first.store(0, b'1')?;
        evidence.note(format!("{name}.second-sees"), second.load_bytes(0, 1)?);
        let mut child = Actor::fork("the child", &first)?;
        child.store(0, b"c")?;
        evidence.note(format!("{name}.parent-sees"), first.load_bytes(0, 1)?);
    }
    let private = Request::private(zero).map()?;
    private.store(0, b'p')?;
    let area = area(&private)?;
    evidence.note("private.name", words(&area.name));
    evidence.note("private.anonymous-kib", area.anonymous_kib);
    let page = procfs::page(private.addr())?;
    evidence.note("private.page-of-a-file", page.file);
    let again = Request::private(zero).map()?;
    evidence.note("private.again", again.load_bytes(0, 1)?);
    Ok(evidence)
}
