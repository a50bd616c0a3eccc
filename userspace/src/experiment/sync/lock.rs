//! Lock: mutexes and file locks between processes, where they work and where they do not.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};

use super::sum::{add_guarded, load_and_store, lose_some};
use crate::errand;
use crate::error::{Error, Result};
use crate::evidence::{CallEnd, Evidence, Value};
use crate::experiment::Experiment;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::process::{Process, be_quiet};
use crate::procfs;
use crate::sys::lock::{Mutex, Semaphore};
use crate::sys::{Mapping, PAGE_SIZE, futex_wait};
use crate::turn::TURN;

pub(super) const ALL: &[Experiment] = &[
    Experiment {
        name: "contended-mutex",
        summary: "A process waits for a mutex that another has and then gives back: for processes and for threads \
                  only, in a file in memory and in the device; the same with a semaphore in the device. Two processes \
                  add to a word of the device under a mutex in a file. Asks the kernel for futexes by themselves.",
        run: contended_mutex,
    },
    Experiment {
        name: "file-locks",
        summary: "Two processes add to a word of the device under fcntl's lock and under flock's. While one has the lock, \
                  others ask for it through descriptors of their own and an inherited one, and store without asking.",
        run: file_locks,
    },
];

/// Additions of each process.
const ADDITIONS: u64 = 2_000;

fn contended_mutex(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    lose_some(fixture, "unguarded", load_and_store, &mut evidence)?;
    let file = MemFile::new(PAGE_SIZE)?;
    for (kind, shared) in [("shared", true), ("default", false)] {
        for (place, path) in [("file", file.path()), ("device", fixture.device.node())] {
            let mutex = mutex(Request::shared(path).map()?, shared)?;
            let (end, free) = contend(&mutex)?;
            evidence.note(format!("{kind}-in-{place}.waiter"), end);
            evidence.note(format!("{kind}-in-{place}.free-at-last"), free);
        }
    }
    for (place, path) in [("file", file.path()), ("device", fixture.device.node())] {
        let page = Request::shared(path).map()?;
        let semaphore = Semaphore::within(page, 0).map_err(Error::call("sem_init()", place))?;
        let end = wait_and_give(
            || semaphore.wait(),
            || semaphore.post().map_err(Error::call("sem_post()", place)),
        )?;
        evidence.note(format!("semaphore-in-{place}.waiter"), end);
        let mapping = Request::shared(path).map()?;
        let word = mapping.word(0)?;
        for (scope, private) in [("shared", false), ("private", true)] {
            let other_value = !word.load(std::sync::atomic::Ordering::Relaxed);
            let waited = futex_wait(word, other_value, private);
            evidence.note(format!("futex-in-{place}.{scope}"), waited);
        }
    }
    let mutex = mutex(Request::shared(file.path()).map()?, true)?;
    let (added, total) = add_guarded(fixture, ADDITIONS, || {
        Ok(|add: &dyn Fn()| {
            let _locked = mutex
                .lock()
                .map_err(Error::call("pthread_mutex_lock()", "it"))?;
            add();
            Ok(())
        })
    })?;
    evidence.note("guarded.added", added);
    evidence.note("guarded.total", total);
    Ok(evidence)
}

fn mutex(page: Mapping, shared: bool) -> Result<Mutex> {
    let made = Mutex::new(page, shared);
    made.map_err(Error::call("pthread_mutex_init()", "a page"))
}

/// How a process ends that waits for the mutex when it is given back, and whether nobody has it then.
fn contend(mutex: &Mutex) -> Result<(Value, bool)> {
    let lock = || {
        mutex
            .lock()
            .map_err(Error::call("pthread_mutex_lock()", "it"))
    };
    let mut held = Some(lock()?);
    let end = wait_and_give(
        || mutex.lock().map(drop),
        || {
            held.take();
            Ok(())
        },
    )?;
    Ok((end, mutex.is_free()))
}

/// How a child ends that waits, in the kernel, for what is then given.
fn wait_and_give(
    wait: impl FnOnce() -> Result<(), Errno>,
    give: impl FnOnce() -> Result<()>,
) -> Result<Value> {
    /// Who still sleeps after this time was not woken, and is not going to be: nobody else gives anything.
    const PATIENCE: Duration = Duration::from_millis(100);
    let waiter = Process::fork("the waiter", || {
        i32::from(be_quiet().is_err() || wait().is_err())
    })?;
    let asleep = procfs::sleeps_in_call(waiter.pid(), libc::SYS_futex, TURN)?;
    give()?;
    if asleep
        && !waiter.ends_within(PATIENCE)?
        && procfs::sleeps_in_call(waiter.pid(), libc::SYS_futex, TURN)?
    {
        return Ok("still-waiting".into());
    }
    Ok(waiter.wait(TURN)?.into())
}

fn file_locks(fixture: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    lose_some(fixture, "unguarded", load_and_store, &mut evidence)?;
    let (added, total) = add_guarded(fixture, ADDITIONS, || {
        let file = fixture.device.open()?;
        Ok(move |add: &dyn Fn()| {
            record_lock(&file, libc::F_WRLCK, true).map_err(Error::call("fcntl()", "it"))?;
            add();
            record_lock(&file, libc::F_UNLCK, true).map_err(Error::call("fcntl()", "it"))
        })
    })?;
    evidence.note("fcntl.added", added);
    evidence.note("fcntl.total", total);
    let (added, total) = add_guarded(fixture, ADDITIONS, || {
        let mut file = Some(fixture.device.open()?);
        Ok(move |add: &dyn Fn()| {
            let Some(own) = file.take() else {
                return Ok(());
            };
            let lock = Flock::lock(own, FlockArg::LockExclusive);
            let lock = lock.map_err(|(_, errno)| Error::call("flock()", "it")(errno))?;
            add();
            let unlocked = lock.unlock();
            file = Some(unlocked.map_err(|(_, errno)| Error::call("flock()", "it")(errno))?);
            Ok(())
        })
    })?;
    evidence.note("flock.added", added);
    evidence.note("flock.total", total);
    locked_out(fixture, &mut evidence)?;
    Ok(evidence)
}

/// `fcntl(2)` with `F_SETLK` or, `wait`ing, `F_SETLKW`, of the whole file.
fn record_lock(file: &File, kind: i32, wait: bool) -> Result<(), Errno> {
    let lock = libc::flock {
        l_type: libc::c_short::try_from(kind).map_err(|_| Errno::EINVAL)?,
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let set = if wait {
        FcntlArg::F_SETLKW(&lock)
    } else {
        FcntlArg::F_SETLK(&lock)
    };
    fcntl(file.as_fd(), set).map(drop)
}

/// What others can do while this process has the lock.
fn locked_out(fixture: &Fixture, evidence: &mut Evidence) -> Result<()> {
    let device = &fixture.device;
    let own = device.open()?;
    let in_child = |what: &dyn Fn() -> Result<CallEnd>| errand::run("another process", what);
    let ask_fcntl = || Ok(record_lock(&device.open()?, libc::F_WRLCK, false).into());
    let locked = |call| Error::call(call, device.node().display().to_string());
    record_lock(&own, libc::F_WRLCK, false).map_err(locked("fcntl(F_SETLK)"))?;
    evidence.note("fcntl.asked-by-another", in_child(&ask_fcntl)?);
    drop(device.open()?);
    evidence.note("fcntl.asked-after-a-close", in_child(&ask_fcntl)?);

    device.fill(0)?;
    let held = Flock::lock(own, FlockArg::LockExclusive);
    let held = held.map_err(|(_, errno)| locked("flock()")(errno))?;
    let ask_flock = |file: File| {
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        lock.map(drop).map_err(|(_, errno)| errno).into()
    };
    evidence.note(
        "flock.asked-by-another",
        in_child(&|| Ok(ask_flock(device.open()?)))?,
    );
    let cheat = || device.map_shared()?.store(0, b'!').map(|()| CallEnd::Ok);
    evidence.note("cheat.store", in_child(&cheat)?);
    evidence.note("cheat.stored", vec![b'!']);
    evidence.note("cheat.kernel-sees", device.read(0, 1)?);
    let again = || {
        // The same open file description, by another number.
        let fd = held
            .try_clone()
            .map_err(Error::file("duplicate", device.node()))?;
        Ok(ask_flock(fd))
    };
    evidence.note("flock.asked-by-an-heir", in_child(&again)?);
    Ok(())
}
