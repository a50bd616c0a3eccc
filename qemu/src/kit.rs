//! Kits: what only some runs need: for the guest an empty disk and programs of Debian's, for the host a debugger.
//!
//! Each is an entry of the cache beside the sysroot, not a part of it: the tree of each kernel is named after
//! the sysroot that compiled it, and would have to be compiled again for a program that compiles nothing.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::apt::{self, Apt, Superseded};
use crate::cache::{self, Entry};
use crate::command::HostCommand;
use crate::initramfs::{self, GuestFile};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::package::{self, Package, hex};
use crate::parallel;
use crate::prepare;
use crate::progress::Progress;
use crate::stop::Stop;
use crate::store::Store;

/// What a kit is made of.
#[derive(Debug)]
pub struct Contents {
    /// A word for its files.
    name: &'static str,
    /// What is in it, in words.
    pub what: &'static str,
    /// The packages.
    packages: &'static [&'static str],
    /// What they depend on and the programs never load.
    not_needed: &'static [&'static str],
    /// The programs for the guest, in `/usr/bin` of the packages.
    programs: &'static [&'static str],
    /// Whether there is a disk, too.
    has_disk: bool,
    /// Whether it is for the host: then it is the packages' files themselves.
    for_host: bool,
    /// What making it takes, in bytes.
    bytes: u64,
}

/// What some claims need.
pub const TOOLS: Contents = Contents {
    name: "kit",
    what: "the tools and the disk",
    packages: &["procps", "strace", "e2fsprogs"],
    not_needed: &[],
    programs: &["pmap", "strace"],
    has_disk: true,
    for_host: false,
    bytes: 150_000_000,
};

/// Somebody else's idea of hostile use.
pub const STRESSOR: Contents = Contents {
    name: "stressor",
    what: "stress-ng",
    packages: &["stress-ng"],
    // Drivers of graphics cards, for stressors that are not asked for.
    not_needed: &[
        "mesa-libgallium",
        "libllvm19",
        "libegl-mesa0",
        "libgl1-mesa-dri",
        "libz3-4",
    ],
    programs: &["stress-ng"],
    has_disk: false,
    for_host: false,
    bytes: 100_000_000,
};

/// What `lab debug` runs on the host.
pub const GDB: Contents = Contents {
    name: "gdb",
    what: "gdb",
    packages: &["gdb"],
    // For a system that somebody logs into, and for what Python does with the network.
    not_needed: &[
        "perl-base",
        "init-system-helpers",
        "debconf",
        "libtext-charwidth-perl",
        "libtext-wrapi18n-perl",
        "libsystemd0",
        "libcap2",
        "libproc2-0",
        "procps",
        "sensible-utils",
        "ucf",
        "libdebuginfod-common",
        "tzdata",
        "netbase",
        "readline-common",
        "media-types",
        "openssl-provider-legacy",
    ],
    programs: &[],
    has_disk: false,
    for_host: true,
    bytes: 150_000_000,
};

/// All that there are.
pub const ALL: [&Contents; 3] = [&TOOLS, &STRESSOR, &GDB];

/// What is not unpacked.
const EXCLUDED: [&str; 4] = [
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/locale",
    "./usr/lib/x86_64-linux-gnu/gconv",
];

/// The dynamic linker, as programs name it (`PT_INTERP`).
const LINKER: &str = "lib64/ld-linux-x86-64.so.2";

/// Where Debian's dynamic linker looks first.
const LIBRARIES: &str = "lib/x86_64-linux-gnu";

/// The archive of the programs.
const PROGRAMS: &str = "programs.cpio";

/// The files of the packages.
const UNPACKED: &str = "unpacked";

/// The image of the disk.
const DISK: &str = "disk.ext4";

/// The size of the disk.
const DISK_LEN: u64 = 64 << 20;

/// The same bytes at each making, and a quiet disk: nothing is left to be initialised by the guest's kernel
/// in the background (mke2fs(8)). Blocks of one page, as on a disk of a usual size.
const MKE2FS_OPTIONS: [&str; 15] = [
    "-q",
    "-F",
    "-t",
    "ext4",
    "-b",
    "4096",
    "-m",
    "0",
    "-L",
    "lab",
    "-U",
    "6d6d6170-6465-4d6f-8000-000000000001",
    "-E",
    "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,\
     hash_seed=6d6d6170-6465-4d6f-8000-000000000002",
    "--",
];

/// When the disk was made, it says: 2026-01-01, in seconds since 1970.
const MADE_AT: &str = "1767225600";

/// Changes whenever the lines of this file that shape the kit do.
const RECIPE: &str = "kit 2";

/// A kit that is there, whole.
#[derive(Clone, Debug)]
pub struct Kit {
    dir: PathBuf,
    /// Keeps other runs from removing it.
    #[expect(dead_code, reason = "held for its Drop")]
    held: Arc<Lock>,
}

/// What the archive held when it was asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Resolution {
    packages: Vec<Package>,
    /// What it was asked for.
    names: Vec<String>,
}

impl Kit {
    /// An archive of its programs and what they are linked to.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.dir.join(PROGRAMS)
    }

    /// The root directory of a kit for the host.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join(UNPACKED)
    }

    /// A program of a kit for the host, in `/usr/bin` of the packages: started by their own dynamic linker, with
    /// their own libraries.
    #[must_use]
    pub fn host_program(&self, name: &str) -> Vec<OsString> {
        let root = Unpacked(self.root());
        let mut argv = root.linker();
        argv.push(root.0.join("usr/bin").join(name).into());
        argv
    }

    /// The image of an empty disk: ext4, without partitions.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.dir.join(DISK)
    }

    /// Makes the kit, unless it is there.
    ///
    /// # Errors
    ///
    /// When the archive cannot be reached, or the disk is full; nothing half-made is left behind.
    pub fn prepare(
        contents: &Contents,
        layout: &Layout,
        mirror: Option<&str>,
        update: bool,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<Self> {
        layout.make_cache()?;
        let whole = || whole(contents, layout).map(|dir| dir.filter(|_| !update));
        if let Some(dir) = whole()? {
            return Self::hold(dir);
        }
        let store = Store::open(layout)?;
        // Another run may have made it before that, and removed its packages.
        if let Some(dir) = whole()? {
            return Self::hold(dir);
        }
        let resolution = fetch(contents, (layout, &store), mirror, update, progress, stop)?;
        let dir = resolution.entry(contents, layout);
        let what = format!("make {}", contents.what);
        cache::make(&dir, &what, progress, |dir| {
            let stage = progress.stage(&what);
            fill(contents, dir, &store, &resolution.packages, stop)?;
            stage.done();
            Ok(())
        })?;
        prepare::save(&resolution, &layout.resolution(contents.name))?;
        drop(store);
        prepare::clean_packages(layout)?;
        Self::hold(dir)
    }

    fn hold(dir: PathBuf) -> Result<Self> {
        let held = Arc::new(cache::hold(&dir)?);
        Ok(Self { dir, held })
    }
}

/// Where the kit is that this lab would use, whether or not it has been made.
#[must_use]
pub fn current(contents: &Contents, layout: &Layout) -> Option<PathBuf> {
    Resolution::load(contents, layout).map(|known| known.entry(contents, layout))
}

/// The directory of the kit, if it is there, whole.
fn whole(contents: &Contents, layout: &Layout) -> Result<Option<PathBuf>> {
    match current(contents, layout) {
        Some(dir) if cache::state(&dir)? == Entry::Whole => Ok(Some(dir)),
        _ => Ok(None),
    }
}

impl Resolution {
    fn load(contents: &Contents, layout: &Layout) -> Option<Self> {
        // A file that cannot be read or understood is made again, at the price of asking the archive.
        let file = fs::read(layout.resolution(contents.name)).ok()?;
        let known: Self = serde_json::from_slice(&file).ok()?;
        (known.names == contents.packages).then_some(known)
    }

    fn ask(contents: &Contents, apt: &Apt, stop: &Stop) -> Result<Self> {
        apt.update(stop)?;
        let mut packages = apt.resolve(contents.packages, stop)?;
        packages.retain(|package| !contents.not_needed.contains(&package.name.as_str()));
        let names = contents.packages.iter().map(|&name| name.to_owned());
        Ok(Self {
            packages,
            names: names.collect(),
        })
    }

    fn entry(&self, contents: &Contents, layout: &Layout) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update(RECIPE);
        for package in &self.packages {
            hash.update(&package.sha256);
        }
        let key = hex(&hash.finalize()[..6]);
        layout.cache.join(format!("{}-{key}", contents.name))
    }
}

/// Resolves the packages, unless that was done earlier, and downloads them.
fn fetch(
    contents: &Contents,
    (layout, store): (&Layout, &Store),
    mirror: Option<&str>,
    update: bool,
    progress: &Progress,
    stop: &Stop,
) -> Result<Resolution> {
    let _lock = Lock::take(&layout.archive_lock(), "download packages", progress)?;
    prepare::require_space(layout, contents.bytes)?;
    let open = || Apt::open(&layout.apt(), mirror, stop);
    let ask = || {
        let stage = progress.stage(format!("ask the archive for {}", contents.what));
        let resolution = Resolution::ask(contents, &open()?, stop)?;
        stage.done();
        Ok::<_, anyhow::Error>(resolution)
    };
    let download = |resolution: &Resolution| {
        let apt = || {
            let apt = open()?;
            apt.update_once(stop)?;
            Ok(apt)
        };
        package::fetch(&apt, &resolution.packages, store, progress, stop)
    };
    let known = Resolution::load(contents, layout).filter(|_| !update);
    let mut resolution = known.map_or_else(ask, Ok)?;
    match download(&resolution) {
        Err(error) if error.is::<Superseded>() => {
            progress.note("  the archive no longer has what was chosen earlier; it is asked again");
            resolution = ask()?;
            download(&resolution)?;
        }
        downloaded => downloaded?,
    }
    apt::forget(&layout.apt())?;
    Ok(resolution)
}

/// Makes the files in `dir`.
fn fill(
    contents: &Contents,
    dir: &Path,
    store: &Store,
    packages: &[Package],
    stop: &Stop,
) -> Result<()> {
    let unpacked = Unpacked(dir.join(UNPACKED));
    let root = &unpacked.0;
    fs::create_dir(root).with_context(|| format!("failed to make {}", root.display()))?;
    parallel::map(
        packages,
        |package| package.len,
        stop,
        |package, _| package.unpack(store.dir(), root, &[], &EXCLUDED, stop),
    )?;
    if contents.for_host {
        return Ok(());
    }
    let programs = unpacked.programs(contents.programs, stop)?;
    initramfs::write(&programs, &dir.join(PROGRAMS))?;
    if contents.has_disk {
        unpacked.make_disk(&dir.join(DISK), stop)?;
    }
    fs::remove_dir_all(root).with_context(|| format!("failed to remove {}", root.display()))
}

/// The packages' files, below a directory of the host.
struct Unpacked(PathBuf);

impl Unpacked {
    /// The packages' own dynamic linker, with their own libraries: nothing of the host's is mixed in.
    fn linker(&self) -> Vec<OsString> {
        let usr = self.0.join("usr");
        vec![
            usr.join(LINKER).into(),
            "--library-path".into(),
            usr.join(LIBRARIES).into(),
        ]
    }

    /// A program of the packages', run by [`Self::linker`].
    fn command(&self, purpose: &str) -> HostCommand {
        let linker = self.linker();
        HostCommand::new(purpose, &linker[0]).args(&linker[1..])
    }

    /// The programs and what they are linked to, as files of the guest.
    fn programs(&self, names: &[&str], stop: &Stop) -> Result<Vec<GuestFile>> {
        let linker = Path::new("/").join(LINKER);
        let mut files = vec![GuestFile::copy(
            self.0.join("usr").join(LINKER),
            linker,
            0o755,
        )];
        for name in names {
            let program = self.0.join("usr/bin").join(name);
            let listing = self
                .command("list the libraries of a program")
                .arg("--list")
                .arg(&program)
                .stdout(stop)?;
            // Where busybox has its own: the later file replaces it.
            files.push(GuestFile::copy(
                program,
                Path::new("/bin").join(name),
                0o755,
            ));
            for library in libraries(&listing)
                .with_context(|| format!("failed to find the libraries of {name}: {listing}"))?
            {
                let path = Path::new("/").join(LIBRARIES).join(library);
                let from = self.0.join("usr").join(LIBRARIES).join(library);
                let file = GuestFile::copy(from, path, 0o644);
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }

    /// Writes the image of an empty disk.
    fn make_disk(&self, image: &Path, stop: &Stop) -> Result<()> {
        let make = || File::create(image).and_then(|file| file.set_len(DISK_LEN));
        make().with_context(|| format!("failed to make {}", image.display()))?;
        self.command("make a file system")
            .arg(self.0.join("usr/sbin/mke2fs"))
            .args(MKE2FS_OPTIONS)
            .arg(image)
            .env("MKE2FS_CONFIG", self.0.join("etc/mke2fs.conf"))
            .env("SOURCE_DATE_EPOCH", MADE_AT)
            .run(stop, |_, _| ())
            .map(drop)
    }
}

/// The names in what `ld.so --list` says: `libc.so.6 => /path/libc.so.6 (0x7f12)`, and lines for the linker
/// itself and for what is in no file. `None` if a library is missing.
fn libraries(listing: &str) -> Option<Vec<&str>> {
    let lines = listing.lines().filter_map(|line| line.split_once(" => "));
    lines
        .map(|(name, found)| (name.trim(), found))
        .filter(|(name, _)| !name.starts_with('/'))
        .map(|(name, found)| found.starts_with('/').then_some(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_off_the_linkers_list() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                       \tlibproc2.so.0 => /a path (0)/libproc2.so.0 (0x00007f76)\n\
                       \tlibc.so.6 => /lib/libc.so.6 (0x00007f75)\n\
                       \t/lib64/ld-linux-x86-64.so.2 => /x/ld-linux-x86-64.so.2 (0x00007f77)\n";
        assert_eq!(libraries(listing).unwrap(), ["libproc2.so.0", "libc.so.6"]);
        assert_eq!(libraries("\tlibproc2.so.0 => not found\n"), None);
    }
}
