//! `lab prepare`: from Debian's archive to a sysroot and a kernel tree, in the user's cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::apt::{self, Apt, Superseded};
use crate::cache::{self, Entry};
use crate::cached_kernel::{CachedKernel, Recipe};
use crate::compiler::Compiler;
use crate::failure::Failure;
use crate::host;
use crate::kernel;
use crate::kit;
use crate::layout::Layout;
use crate::lock::Lock;
use crate::package::{self, Package};
use crate::parallel;
use crate::progress::Progress;
use crate::release::{self, Release, Wanted};
use crate::stop::Stop;
use crate::store::{self, Store};
use crate::sysroot::Sysroot;

/// What the archive held when it was asked: with it, later runs need no network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resolution {
    /// The kernel.
    pub release: Release,
    /// How it is made.
    #[serde(default)]
    pub recipe: Recipe,
    /// The kernel's packages, all of one version.
    pub kernel: Vec<Package>,
    /// The toolchain and QEMU.
    pub toolchain: Vec<Package>,
    /// When the archive was asked.
    pub asked: SystemTime,
    /// What it was asked for: a change of the lists makes it ask again.
    pub lists: String,
}

/// How long an entry of the cache stays although nothing refers to it: another clone may still use it.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// A toolchain, and a kernel tree prepared by it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The toolchain and QEMU.
    pub sysroot: Sysroot,
    /// The kernel.
    pub kernel: CachedKernel,
}

/// What to prepare, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The kernel.
    pub wanted: &'a Wanted,
    /// A mirror instead of the host's own.
    pub mirror: Option<&'a str>,
    /// Whether to ask the archive again for newer packages.
    pub update: bool,
}

impl Resolution {
    /// What an earlier run has resolved, if it did: for `wanted`, or for `stock` if that is the same.
    #[must_use]
    pub fn load(layout: &Layout, wanted: &Wanted) -> Option<Self> {
        let stock = || Self::load_file(layout, &Wanted::Stock);
        Self::load_file(layout, wanted)
            .or_else(|| stock().filter(|stock| stock.release.series == wanted.name()))
    }

    fn load_file(layout: &Layout, wanted: &Wanted) -> Option<Self> {
        let path = layout.resolution(wanted.name());
        // A file that cannot be read or understood is made again, at the price of asking the archive.
        let known: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (known.lists == Sysroot::lists(known.recipe.compiler())).then_some(known)
    }

    /// What earlier runs have resolved, as far as it is kept.
    fn all_known(layout: &Layout) -> impl Iterator<Item = Self> {
        Wanted::kept().filter_map(|wanted| Self::load_file(layout, &wanted))
    }

    /// The toolchain of any earlier resolution: one is enough for all kernels that it can compile.
    fn known_toolchain(layout: &Layout, compiler: Compiler) -> Option<Vec<Package>> {
        Self::all_known(layout)
            .find(|known| known.recipe.compiler() == compiler)
            .map(|known| known.toolchain)
    }

    fn ask(
        layout: &Layout,
        request: &Request<'_>,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<Self> {
        let stage = progress.stage("ask the archive for its packages");
        let apt = Apt::open(&layout.apt(), request.mirror, stop)?;
        apt.update(stop)?;
        let release = release::choose(request.wanted, &release::offered(&apt, stop)?)?;
        let recipe = request.wanted.recipe();
        let compiler = recipe.compiler();
        let known = Self::known_toolchain(layout, compiler).filter(|_| !request.update);
        let resolution = Self {
            kernel: apt.exact(&recipe.packages(&release), stop)?,
            toolchain: known.map_or_else(|| Sysroot::resolve(&apt, compiler, stop), Ok)?,
            release,
            recipe,
            asked: SystemTime::now(),
            lists: Sysroot::lists(compiler),
        };
        stage.done();
        Ok(resolution)
    }

    /// The two cache entries that it describes.
    #[must_use]
    pub fn entries(&self, layout: &Layout) -> Prepared {
        let sysroot = Sysroot::at(layout, &self.toolchain);
        let kernel = CachedKernel::at(layout, self.recipe, &self.release, &self.kernel, &sysroot);
        Prepared { sysroot, kernel }
    }
}

impl Prepared {
    /// Whether both are there, whole.
    ///
    /// # Errors
    ///
    /// When one is there and cannot be read.
    pub fn is_whole(&self) -> Result<bool> {
        Ok(self.sysroot.state()? == Entry::Whole && self.kernel.state()? == Entry::Whole)
    }
}

/// Prepares what is not there yet.
///
/// # Errors
///
/// When the archive cannot be reached or does not offer the kernel, the disk is full, or the kernel would
/// be configured differently here; nothing half-made is left behind.
pub fn prepare(
    layout: &Layout,
    request: &Request<'_>,
    progress: &Progress,
    stop: &Stop,
) -> Result<Prepared> {
    layout.make_cache()?;
    let known = Resolution::load(layout, request.wanted).filter(|_| !request.update);
    if let Some(resolution) = &known {
        let prepared = resolution.entries(layout);
        if prepared.is_whole()? {
            return Ok(prepared);
        }
    }
    let store = Store::open(layout)?;
    let resolution = fetch(known, Part::Both, (layout, &store), request, progress, stop)?;
    if !resolution.release.is_tested() {
        progress.note(&format!(
            "  note: kernel {} has not been tested with this project (tested: {})",
            resolution.release,
            release::TESTED.join(", ")
        ));
    }
    let prepared = resolution.entries(layout);
    let (sysroot, kernel) = (&prepared.sysroot, &prepared.kernel);
    cache::make(&kernel.dir, "prepare the kernel tree", progress, |tree| {
        let toolchain = || sysroot.make(&store, &resolution.toolchain, progress, stop);
        let sources = || {
            let stage = progress.stage("unpack the kernel's packages");
            kernel.unpack(tree, &resolution.release, &resolution.kernel, &store, stop)?;
            stage.done();
            Ok(())
        };
        parallel::all(&[&toolchain, &sources], stop)?;
        kernel.compile(tree, sysroot, progress, stop)
    })?;
    sysroot.make(&store, &resolution.toolchain, progress, stop)?;
    // Not before: a choice that cannot be prepared must not replace one that could.
    save(&resolution, &layout.resolution(request.wanted.name()))?;
    drop(store);
    clean(layout, KEEP)?;
    Ok(prepared)
}

/// Removes what no resolution refers to, no run uses and nobody has used for `age`: entries of the cache,
/// and packages. Returns the removed entries.
///
/// # Errors
///
/// When something cannot be read or removed.
pub fn clean(layout: &Layout, age: Duration) -> Result<Vec<PathBuf>> {
    let known: Vec<_> = Resolution::all_known(layout).collect();
    let entries: Vec<_> = known
        .iter()
        .map(|resolution| resolution.entries(layout))
        .collect();
    let kits: Vec<_> = kit::ALL
        .iter()
        .filter_map(|contents| kit::current(contents, layout))
        .collect();
    let kept: Vec<&Path> = entries
        .iter()
        .flat_map(|prepared| [prepared.sysroot.root.as_path(), &prepared.kernel.dir])
        .chain(kits.iter().map(PathBuf::as_path))
        .collect();
    let removed = cache::prune(&layout.cache, &kept, age)?;
    clean_packages(layout)?;
    Ok(removed)
}

/// Removes what is not needed once it is unpacked. A kernel's packages are kept, since its source package holds more
/// than was unpacked.
///
/// # Errors
///
/// As [`store::clean`].
pub(crate) fn clean_packages(layout: &Layout) -> Result<()> {
    let known: Vec<_> = Resolution::all_known(layout).collect();
    let kernels = known.iter().flat_map(|resolution| &resolution.kernel);
    store::clean(layout, kernels)
}

/// Prepares the toolchain alone, for a kernel that is there already.
///
/// # Errors
///
/// As [`prepare`].
pub fn toolchain(
    layout: &Layout,
    request: &Request<'_>,
    progress: &Progress,
    stop: &Stop,
) -> Result<Sysroot> {
    layout.make_cache()?;
    let known = Resolution::load(layout, request.wanted).filter(|_| !request.update);
    if let Some(resolution) = &known {
        let sysroot = resolution.entries(layout).sysroot;
        if sysroot.state()? == Entry::Whole {
            return Ok(sysroot);
        }
    }
    let store = Store::open(layout)?;
    let part = Part::Toolchain;
    let resolution = fetch(known, part, (layout, &store), request, progress, stop)?;
    let sysroot = resolution.entries(layout).sysroot;
    sysroot.make(&store, &resolution.toolchain, progress, stop)?;
    save(&resolution, &layout.resolution(request.wanted.name()))?;
    drop(store);
    clean_packages(layout)?;
    Ok(sysroot)
}

/// Writes what was resolved to `path`: whole, or not at all.
pub(crate) fn save(resolution: &impl Serialize, path: &Path) -> Result<()> {
    let context = || format!("failed to write {}", path.display());
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(dir).with_context(context)?;
    serde_json::to_writer_pretty(&mut file, resolution).with_context(context)?;
    file.persist(path).with_context(context)?;
    Ok(())
}

/// What a toolchain takes while it is made, packages included, and afterwards, in bytes.
const TOOLCHAIN_BYTES: u64 = 1_050_000_000;

/// Checks that the disk has room for what is about to be made.
pub(crate) fn require_space(layout: &Layout, needed: u64) -> Result<()> {
    let free = host::free_bytes(&layout.cache)?;
    if free >= needed {
        return Ok(());
    }
    let megabytes = |bytes: u64| bytes / 1_000_000;
    Err(Failure::SetUpMissing {
        what: format!(
            "the disk of the cache {} has {} MB free; {} MB are needed",
            layout.cache.display(),
            megabytes(free),
            megabytes(needed)
        ),
        remedy: "make room, or set MMAPDEMO_CACHE to a directory on another disk".into(),
    }
    .into())
}

/// What is needed of a resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The kernel and the toolchain.
    Both,
    /// The toolchain.
    Toolchain,
}

/// Resolves the packages, unless `known`, and downloads those that are needed.
///
/// One run of the lab at a time: they share apt's lists, and the files that are downloaded.
fn fetch(
    known: Option<Resolution>,
    part: Part,
    (layout, store): (&Layout, &Store),
    request: &Request<'_>,
    progress: &Progress,
    stop: &Stop,
) -> Result<Resolution> {
    let _lock = Lock::take(&layout.archive_lock(), "download packages", progress)?;
    // Another run may have resolved it while this one waited.
    let known =
        known.or_else(|| Resolution::load(layout, request.wanted).filter(|_| !request.update));
    let download = |resolution: &Resolution| {
        download(resolution, part, (layout, store), request, progress, stop)
    };
    let resolution = match known {
        Some(resolution) => resolution,
        None => Resolution::ask(layout, request, progress, stop)?,
    };
    match download(&resolution) {
        Err(error) if error.is::<Superseded>() => {
            progress.note("  the archive no longer has what was chosen earlier; it is asked again");
            let request = Request {
                update: true,
                ..request.clone()
            };
            let resolution = Resolution::ask(layout, &request, progress, stop)?;
            download(&resolution)?;
            Ok(resolution)
        }
        downloaded => downloaded.map(|()| resolution),
    }
}

/// Downloads what of the resolution is needed and not there.
fn download(
    resolution: &Resolution,
    part: Part,
    (layout, store): (&Layout, &Store),
    request: &Request<'_>,
    progress: &Progress,
    stop: &Stop,
) -> Result<()> {
    let Prepared { sysroot, kernel } = resolution.entries(layout);
    let needs_kernel = part == Part::Both && kernel.state()? != Entry::Whole;
    let (mut needed, mut bytes) = (Vec::new(), 0);
    if needs_kernel {
        needed.extend(resolution.kernel.clone());
        bytes += resolution.recipe.bytes();
    }
    if sysroot.state()? != Entry::Whole {
        needed.extend(resolution.toolchain.clone());
        bytes += TOOLCHAIN_BYTES;
    }
    require_space(layout, bytes)?;
    let apt = || {
        let apt = Apt::open(&layout.apt(), request.mirror, stop)?;
        apt.update_once(stop)?;
        Ok(apt)
    };
    let release = &resolution.release;
    if needs_kernel && resolution.recipe == Recipe::Stock && !release.is_tested() {
        // A kernel that cannot load the module is not worth the large packages.
        let headers = package::named(&resolution.kernel, &release.headers())?.clone();
        package::fetch(&apt, &[headers], store, progress, stop)?;
        kernel::require_rust_in_package(release, &resolution.kernel, (layout, store), stop)?;
    }
    package::fetch(&apt, &needed, store, progress, stop)?;
    // The lists are large, and old by the time they are needed again.
    apt::forget(&layout.apt())
}
