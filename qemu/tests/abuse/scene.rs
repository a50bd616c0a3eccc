//! A cache of its own for each test, and what must not be left behind in it or around it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lab::cache::{self, Entry};
use lab::kit;
use lab::layout::Layout;
use lab::prepare::Resolution;
use lab::release::Wanted;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

/// A claim that is judged in a moment, and takes nothing but a guest.
pub(crate) const CLAIM: &str = "api-length-page-multiple";

/// How long after the lab's death its processes may live, on a busy host.
const DEATH: Duration = Duration::from_secs(20);

/// How much longer a compiler may take, which nobody waits for.
const COMPILATION: Duration = Duration::from_secs(300);

/// One test at a time: each fills the machine.
static MACHINE: Mutex<()> = Mutex::new(());

/// A copy of the cache.
pub(crate) struct Scene {
    pub(crate) cache: PathBuf,
    content: BTreeMap<PathBuf, String>,
    mounts: String,
    dir: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    /// Fills the usual cache if need be, and copies it.
    pub(crate) fn new() -> Self {
        let alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        // Processes whose parent is killed become this one's children, so that none can hide.
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let output = lab(&["prepare"]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let output = lab(&["run", CLAIM]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let usual = Layout::find().unwrap();
        let dir = tempfile::Builder::new()
            .prefix("abuse-")
            .tempdir_in(usual.cache.parent().unwrap())
            .unwrap();
        let cache = dir.path().join("cache");
        copy(&usual, &cache);
        Self {
            content: content(&cache),
            mounts: mounts(),
            cache,
            dir,
            _alone: alone,
        }
    }

    /// A place for files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The lab, with this cache.
    pub(crate) fn lab(&self, args: &[&str]) -> Command {
        let mut command = lab(args);
        command.env("MMAPDEMO_CACHE", &self.cache);
        command
    }

    /// Finds that a run just works, without waiting for anybody.
    pub(crate) fn assert_works(&self, args: &[&str]) {
        let output = self.lab(args).output().unwrap();
        let text = said(&output);
        assert!(output.status.success(), "{text}");
        assert!(!text.contains("waiting for another run"), "{text}");
    }

    /// Finds that nothing is left of a run that is over: no process, no mount, no lock, and no entry of the
    /// cache that is there and not whole.
    pub(crate) fn assert_nothing_left(&self) {
        await_no_descendants();
        assert_eq!(mounts(), self.mounts, "a mount is left");
        for path in paths_in(&self.cache) {
            if path
                .extension()
                .is_some_and(|extension| extension == "lock")
            {
                let file = File::options().write(true).open(&path).unwrap();
                let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock);
                assert!(lock.is_ok(), "{} is still locked", path.display());
            } else if is_entry(&path) {
                let state = cache::state(&path).unwrap();
                assert_eq!(state, Entry::Whole, "{}", path.display());
            }
        }
    }

    /// Finds that each file of an entry has the content that it had at first, also if it was made anew meanwhile.
    pub(crate) fn assert_content(&self) {
        let now = content(&self.cache);
        for (path, hash) in &self.content {
            assert_eq!(now.get(path), Some(hash), "{}", path.display());
        }
        assert!(!self.content.is_empty(), "the cache is empty");
    }
}

/// Copies what a run on the stock kernel uses, and no more: other runs may be at work on the rest.
fn copy(from: &Layout, to: &Path) {
    let known = Resolution::load(from, &Wanted::Stock).unwrap();
    let entries = known.entries(from);
    let mut paths = vec![
        entries.sysroot.root,
        entries.kernel.dir,
        kit::current(&kit::TOOLS, from).unwrap(),
    ];
    for path in paths_in(&from.cache) {
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            paths.push(path);
        }
    }
    fs::create_dir(to).unwrap();
    let mut copy = Command::new("cp");
    copy.args(["-a", "--reflink=auto", "--"])
        .args(paths)
        .arg(to);
    assert!(
        copy.status().unwrap().success(),
        "the cache cannot be copied"
    );
}

/// The lab, as users run it.
fn lab(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(args).stdin(Stdio::null());
    command
}

pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// What the names of entries begin with, and what of them is being made.
fn is_entry(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let known = ["sysroot-", "linux-", "kit-", "warm-"];
    known.iter().any(|known| name.starts_with(known)) && !name.ends_with(".partial")
}

pub(crate) fn paths_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The hash of each file of each entry, but for what says when it was made.
fn content(cache: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut unread: Vec<_> = paths_in(cache)
        .into_iter()
        .filter(|path| is_entry(path))
        .collect();
    while let Some(path) = unread.pop() {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            unread.extend(paths_in(&path));
        } else if kind.is_file() && path.file_name().is_some_and(|name| name != ".seal") {
            let mut hash = Sha256::new();
            io::copy(&mut File::open(&path).unwrap(), &mut hash).unwrap();
            let inside = path.strip_prefix(cache).unwrap().to_owned();
            found.insert(inside, format!("{:x}", hash.finalize()));
        }
    }
    found
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// All processes below this one, with their command lines.
fn descendants() -> Vec<(i32, String)> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let words = stat.rsplit_once(") ").map(|(_, words)| words.split(' '));
        let mut words = words.into_iter().flatten();
        let (state, parent) = (
            words.next(),
            words.next().and_then(|word| word.parse::<i32>().ok()),
        );
        if let (Some(state), Some(parent)) = (state, parent) {
            parents.insert(pid, (parent, state == "Z"));
        }
    }
    let this = i32::try_from(std::process::id()).unwrap();
    let is_below = |pid: i32| {
        let up = |pid: &i32| parents.get(pid).map(|(parent, _)| *parent);
        std::iter::successors(up(&pid), up).any(|ancestor| ancestor == this)
    };
    let alive = parents
        .iter()
        .filter(|(pid, (_, zombie))| !zombie && is_below(**pid));
    alive
        .map(|(&pid, _)| {
            let argv = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (
                pid,
                OsString::from_vec(argv)
                    .to_string_lossy()
                    .replace('\0', " "),
            )
        })
        .collect()
}

/// Waits until there is no process below this one; reaps those that were inherited.
pub(crate) fn await_no_descendants() {
    let deadline = Instant::now() + DEATH;
    loop {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        // Only inherited ones: the test's own children have been waited for.
        while waitpid(None, Some(WaitPidFlag::WNOHANG))
            .is_ok_and(|status| status != WaitStatus::StillAlive)
        {}
        let left = descendants();
        if left.is_empty() {
            return;
        }
        // A compiler whose cargo was killed ends by itself, once its crate is done.
        let deadline = if left.iter().all(|(_, argv)| argv.contains("rustc")) {
            deadline + COMPILATION
        } else {
            deadline
        };
        assert!(Instant::now() < deadline, "left behind: {left:#?}");
        std::thread::yield_now();
    }
}
