//! Disk: faults on a file that has to be read first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::btf::Types;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{Mode, Request, open};
use crate::procfs;
use crate::sys::PAGE_SIZE;
use crate::tracer::Recording;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "cold-page",
        summary: "Records the functions of the kernel while a page of a file on a disk is loaded that is in no \
                  memory, and while another mapping loads it once it is.",
        run: cold_page,
    },
    Experiment {
        name: "second-reader",
        summary: "Two processes map a file of which nothing is in memory; one loads a page, then the other. Counts \
                  for each the faults, those that waited for the disk, and the sectors read.",
        run: second_reader,
    },
];

const LEN: usize = 4 * PAGE_SIZE;

/// A file on the disk of which nothing is in memory; removed when dropped.
struct ColdFile {
    path: PathBuf,
}

impl ColdFile {
    fn new(disk: &Disk, name: &str) -> Result<Self> {
        let cold = Self {
            path: disk.dir.join(name),
        };
        let path = cold.path();
        fs::write(path, vec![7; LEN]).map_err(Error::file("write", path))?;
        let file: File = open(path, Mode::ReadWrite)?;
        file.sync_all().map_err(Error::file("sync", path))?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
            .map_err(Error::call("posix_fadvise(DONTNEED)", name))?;
        Ok(cold)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ColdFile {
    fn drop(&mut self) {
        // What is left is a file on a disk that nobody keeps.
        let _ = fs::remove_file(&self.path);
    }
}

fn cold_page(fixture: &Fixture) -> Result<Evidence> {
    const FUNCTIONS: [(&str, &str); 6] = [
        ("filemap-fault", "filemap_fault"),
        ("swap-cache", "swap_cache_get_folio"),
        ("swap-fault", "do_swap_page"),
        ("shmem-fault", "shmem_fault"),
        ("ext4-readahead", "ext4_readahead"),
        ("submit-bio", "submit_bio"),
    ];
    let mut evidence = Evidence::new();
    let file = ColdFile::new(fixture.disk()?, "cold-page")?;
    let (first, second) = (
        Request::shared(file.path()).map()?,
        Request::shared(file.path()).map()?,
    );
    let record = |recording: &Recording<'_>| {
        recording.step("cold", || first.load(0).map(drop))?;
        recording.step("warm", || second.load(0).map(drop))
    };
    let functions = FUNCTIONS.map(|(_, function)| function);
    let ((), trace) = fixture.tracer()?.record(&functions, record)?;
    for step in ["cold", "warm"] {
        for (label, function) in FUNCTIONS {
            evidence.note(format!("{step}.{label}"), trace.count(step, function));
        }
    }
    let operations = Types::of_the_kernel()?.members("vm_operations_struct");
    evidence.note("operations.members", operations.unwrap_or_default());
    Ok(evidence)
}

fn second_reader(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let disk = fixture.disk()?;
    let file = ColdFile::new(disk, "second-reader")?;
    let readers = ["first", "second"].map(|name| (name, fixture.actor(name)));
    for (name, reader) in readers {
        let mut reader = reader?;
        reader.map(&Request::shared(file.path()))?;
        let (faults, sectors) = (procfs::major_faults(reader.pid())?, disk.sectors()?);
        let loaded = reader.load(0, 1)?;
        let waited = procfs::major_faults(reader.pid())? - faults;
        evidence.note(format!("{name}.byte"), loaded.bytes);
        evidence.note(format!("{name}.faults"), loaded.faults);
        evidence.note(format!("{name}.disk-faults"), waited);
        evidence.note(
            format!("{name}.sectors"),
            disk.sectors()?.since(sectors).read,
        );
    }
    Ok(evidence)
}
