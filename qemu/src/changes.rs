//! Changes of the project's sources, as they are saved.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use anyhow::{Context, Result};
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// Directories of the project that are watched with all below them, beside the driver's.
const WATCHED: [&str; 2] = ["userspace", "qemu"];

/// What of the project a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The module.
    Driver,
    /// The guest's experiments.
    Experiments,
    /// The lab itself.
    Lab,
}

/// What was saved since somebody looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// A file of each part that changed.
    pub files: Vec<(Part, PathBuf)>,
    /// When the first of them was noticed.
    pub since: Option<Instant>,
}

impl Changed {
    /// A file of this part, if one changed.
    #[must_use]
    pub fn file_of(&self, part: Part) -> Option<&Path> {
        let mut of_part = self.files.iter().filter(|(it, _)| *it == part);
        of_part.next().map(|(_, path)| path.as_path())
    }
}

/// The watch over a project. Dropping it ends it.
pub struct Changes {
    project: PathBuf,
    driver: PathBuf,
    noticed: Receiver<(Instant, notify::Result<Event>)>,
    woken: UnixStream,
    #[expect(dead_code, reason = "held for its Drop")]
    watcher: RecommendedWatcher,
}

impl Changes {
    /// Begins to watch the project, or a copy of a part of it; and of `driver`, which may be the same, its `Kbuild` and
    /// `driver/`.
    ///
    /// # Errors
    ///
    /// When the kernel watches no more files for this user (inotify(7): `max_user_watches`).
    pub fn watch(project: &Path, driver: &Path) -> Result<Self> {
        let context = || format!("failed to watch the files of {}", project.display());
        let (woken, waker) = UnixStream::pair().with_context(context)?;
        waker.set_nonblocking(true).with_context(context)?;
        woken.set_nonblocking(true).with_context(context)?;
        let (tell, noticed) = mpsc::channel();
        let mut watcher = notify::recommended_watcher(move |event| {
            // Whoever listened may be gone; and a full socket wakes as well as one byte does.
            let _ = tell.send((Instant::now(), event));
            let _ = (&waker).write(b"!");
        })
        .with_context(context)?;
        let dirs = WATCHED.map(|name| project.join(name));
        for dir in dirs.into_iter().chain([driver.join("driver")]) {
            if dir.is_dir() {
                watcher
                    .watch(&dir, RecursiveMode::Recursive)
                    .with_context(context)?;
            }
        }
        // For Kbuild and Cargo.lock; editors replace files by others, so that watching those is not enough.
        for dir in [project, driver] {
            watcher
                .watch(dir, RecursiveMode::NonRecursive)
                .with_context(context)?;
        }
        Ok(Self {
            project: project.to_owned(),
            driver: driver.to_owned(),
            noticed,
            woken,
            watcher,
        })
    }

    /// Readable when [`Self::take`] may have something.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    /// What was saved since the last call.
    ///
    /// # Errors
    ///
    /// When the watch is broken.
    pub fn take(&self) -> Result<Changed> {
        // One read suffices: a byte left over only wakes once more.
        let _ = (&self.woken).read(&mut [0; 256]);
        let mut changed = Changed::default();
        while let Ok((when, event)) = self.noticed.try_recv() {
            let event = event.context("failed to watch the project's files")?;
            for (part, path) in self.parts(&event) {
                changed.since.get_or_insert(when);
                if changed.file_of(part).is_none() {
                    changed.files.push((part, path));
                }
            }
        }
        Ok(changed)
    }

    /// The files that an event is about, as far as they count.
    fn parts(&self, event: &Event) -> Vec<(Part, PathBuf)> {
        if event.need_rescan() {
            // The kernel had more to tell than it keeps: anything may have changed.
            return [Part::Driver, Part::Experiments]
                .map(|part| (part, self.project.clone()))
                .to_vec();
        }
        if !is_complete(event.kind) {
            return Vec::new();
        }
        let files = event.paths.iter().filter_map(|path| self.part(path));
        files.collect()
    }

    /// What this file belongs to, if to anything that is built, and its path in there.
    fn part(&self, path: &Path) -> Option<(Part, PathBuf)> {
        // Of two drivers, only one is built.
        let in_one = [(&self.driver, true), (&self.project, false)].map(|(dir, is_driver)| {
            let inside = path.strip_prefix(dir).ok()?;
            let part = part_of(inside).filter(|part| (*part == Part::Driver) == is_driver)?;
            Some((part, inside.to_owned()))
        });
        in_one.into_iter().flatten().next()
    }
}

/// Whether a file is now as somebody wants it: a file that is being written is not.
fn is_complete(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) => true,
        EventKind::Modify(ModifyKind::Name(mode)) => mode != RenameMode::From,
        _ => false,
    }
}

/// What a file of the project belongs to, if it is a source of anything that is built.
fn part_of(inside: &Path) -> Option<Part> {
    let extension = inside.extension().and_then(|extension| extension.to_str());
    let is_source = matches!(extension, Some("rs" | "toml")) && !is_hidden(inside);
    match inside.components().next()?.as_os_str().to_str()? {
        "Kbuild" => Some(Part::Driver),
        "driver" if is_source => Some(Part::Driver),
        "userspace" if is_source => Some(Part::Experiments),
        "qemu" if is_source => Some(Part::Lab),
        "Cargo.toml" | "Cargo.lock" => Some(Part::Lab),
        _ => None,
    }
}

/// Whether an editor keeps it for itself.
fn is_hidden(inside: &Path) -> bool {
    let name = inside.file_name().map(|name| name.to_string_lossy());
    name.is_none_or(|name| name.starts_with(['.', '#']))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    /// After that, nothing more is to come.
    const LONG: Duration = Duration::from_secs(20);

    fn project() -> (tempfile::TempDir, Changes) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["driver/sub", "userspace/src"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let watch = Changes::watch(dir.path(), dir.path()).unwrap();
        (dir, watch)
    }

    /// The first watch that come.
    fn next(watch: &Changes) -> Changed {
        let deadline = Instant::now() + LONG;
        loop {
            let changed = watch.take().unwrap();
            if !changed.files.is_empty() {
                return changed;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no change was noticed");
            let mut fds = [PollFd::new(watch.fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_saved_is_noticed_with_its_part() {
        let (dir, watch) = project();
        fs::write(dir.path().join("driver/sub/raw.rs"), "fn main() {}").unwrap();
        let changed = next(&watch);
        assert_eq!(
            changed.file_of(Part::Driver),
            Some(Path::new("driver/sub/raw.rs"))
        );
        assert_eq!(changed.file_of(Part::Experiments), None);
    }

    #[test]
    fn a_file_that_replaces_another_is_noticed_by_its_new_name() {
        let (dir, watch) = project();
        let [new, saved] =
            ["4913", "main.rs"].map(|name| dir.path().join("userspace/src").join(name));
        fs::write(&new, "fn main() {}").unwrap();
        fs::rename(&new, &saved).unwrap();
        let changed = next(&watch);
        let path = Path::new("userspace/src/main.rs");
        assert_eq!(changed.file_of(Part::Experiments), Some(path));
    }

    #[test]
    fn of_two_drivers_the_one_counts_that_is_built() {
        let (dir, _) = project();
        let own = tempfile::tempdir().unwrap();
        fs::create_dir(own.path().join("driver")).unwrap();
        let watch = Changes::watch(dir.path(), own.path()).unwrap();
        fs::write(dir.path().join("driver/sub/raw.rs"), "fn main() {}").unwrap();
        fs::write(dir.path().join("userspace/src/main.rs"), "fn main() {}").unwrap();
        let unbuilt = next(&watch);
        let experiments = (Part::Experiments, PathBuf::from("userspace/src/main.rs"));
        assert_eq!(unbuilt.files, [experiments]);
        fs::write(own.path().join("driver/raw.rs"), "fn main() {}").unwrap();
        let built = next(&watch);
        let driver = (Part::Driver, PathBuf::from("driver/raw.rs"));
        assert_eq!(built.files, [driver]);
        fs::write(own.path().join("Kbuild"), "obj-m := x.o\n").unwrap();
        let kbuild = (Part::Driver, PathBuf::from("Kbuild"));
        assert_eq!(next(&watch).files, [kbuild]);
    }

    #[test]
    fn what_is_no_source_does_not_count() {
        let (dir, watch) = project();
        for name in [
            "driver/.raw.rs.swp",
            "driver/.#raw.rs",
            "driver/raw.rs~",
            "notes.txt",
        ] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        fs::write(dir.path().join("Cargo.lock"), "x").unwrap();
        let changed = next(&watch);
        assert_eq!(changed.files, [(Part::Lab, PathBuf::from("Cargo.lock"))]);
    }
}
