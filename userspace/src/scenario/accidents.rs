//! Accidents: a mutex that aborts its program.

use std::fs;
use std::path::Path;

use nix::unistd::{Pid, getpid};

use super::stage::{Act, Stage};
use super::{MAIN, Scenario, USUAL};
use crate::error::{Error, Result};
use crate::evidence::Value;
use crate::fixture::Fixture;
use crate::object::{MemFile, Request};
use crate::process::{Process, be_quiet};
use crate::procfs;
use crate::sys::lock::{Locked, Mutex};
use crate::sys::{PAGE_SIZE, futex_wait};
use crate::turn::TURN;

pub(super) const ALL: &[Scenario] = &[Scenario {
    name: "mutex",
    title: "The mutex that aborts",
    question: "PTHREAD_PROCESS_SHARED makes a mutex work between processes. In any shared memory?",
    claims: &["sync-mutex-protects"],
    needs: USUAL,
    boots: MAIN,
    play: mutex,
}];

fn mutex(fixture: &Fixture, stage: &mut Stage<'_>) -> Result<()> {
    let file = MemFile::new(PAGE_SIZE)?;
    fixture.device.fill(0)?;
    contend(
        stage,
        "a file",
        file.path(),
        "exited-0",
        (
            "B slept in the kernel until A gave the mutex back, and has it then.",
            "Who waits gives the kernel the address; the kernel finds the file's page behind it, and so do both processes.",
        ),
    )?;
    stage.show_the_drivers_frame()?;
    contend(
        stage,
        "the device",
        fixture.device.node(),
        "SIGABRT",
        ("B does not get to sleep: the C library aborts it.", ""),
    )?;
    let page = Request::shared(fixture.device.node()).map()?;
    let word = page.word(0)?;
    let other = !word.load(std::sync::atomic::Ordering::Relaxed);
    let end = futex_wait(word, other, false);
    stage.watch("A", getpid(), vec![(String::new(), page.addr() as u64)]);
    let act = Act::new("A", "asks the kernel to wait at a word of the device");
    stage.record(act.call("futex(word, FUTEX_WAIT, ...)").result(end))?;
    stage.finding(
        "EFAULT: the kernel cannot wait there, and glibc takes that for a bug of the program.",
        end == Err(nix::errno::Errno::EFAULT),
        "A shared futex is named after the file's inode or the anonymous page behind it. The driver's page has neither.",
    );
    Ok(())
}

/// A has the mutex, B asks for it, A gives it back; `ends` is how B is to end.
fn contend(
    stage: &mut Stage<'_>,
    place: &str,
    path: &Path,
    ends: &str,
    (says, why): (&str, &str),
) -> Result<()> {
    let request = Request::shared(path);
    let page = request.map()?;
    let addr = page.addr() as u64;
    let mutex = Mutex::new(page, true).map_err(Error::call("pthread_mutex_init()", place))?;
    let mut held = Some(lock(&mutex)?);
    stage.watch("A", getpid(), vec![("mutex".to_owned(), addr)]);
    let act = Act::new(
        "A",
        format!("makes a mutex for processes in {place} and locks it"),
    );
    stage.record(act.call("pthread_mutex_lock(&mutex)"))?;
    let b = Process::fork("B", || {
        i32::from(be_quiet().is_err() || mutex.lock().is_err())
    })?;
    let asleep = procfs::sleeps_in_call(b.pid(), libc::SYS_futex, TURN)?;
    if asleep {
        stage.watch("B", b.pid(), vec![("mutex".to_owned(), addr)]);
        let act = Act::new("B", "is a child of A, and wants the mutex");
        stage.record(
            act.call("pthread_mutex_lock(&mutex)")
                .fact("b.sleeps-in-futex", asleep),
        )?;
        stage.finding("B sleeps in the kernel.", in_futex(b.pid()), "");
    }
    let before = b.pid();
    give_back(&mut held);
    let end = Value::from(b.wait(TURN)?);
    stage.watch("B", before, Vec::new());
    stage.ended("B");
    let (by, did) = if asleep {
        ("A", "gives the mutex back")
    } else {
        ("B", "is a child of A, and wants the mutex")
    };
    stage.record(
        Act::new(by, did)
            .fact("b.sleeps-in-futex", asleep)
            .fact("b.end", end.clone()),
    )?;
    stage.finding(
        says,
        end == Value::Text(ends.to_owned()) && asleep == (ends == "exited-0"),
        why,
    );
    Ok(())
}

fn lock(mutex: &Mutex) -> Result<Locked<'_>> {
    mutex
        .lock()
        .map_err(Error::call("pthread_mutex_lock()", "it"))
}

fn give_back(held: &mut Option<Locked<'_>>) {
    held.take();
}

/// Whether the process is in futex(2) right now, see `proc_pid_syscall(5)`.
fn in_futex(pid: Pid) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    text.split_whitespace().next() == Some(libc::SYS_futex.to_string().as_str())
}
