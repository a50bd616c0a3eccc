//! Worker: a process that does one operation after another, and judges what the kernel answers.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::kmod::{DeleteModuleFlags, delete_module};
use nix::sys::mman::ProtFlags;
use nix::unistd::pipe2;

use super::board::{Board, End};
use super::module::{self, Params};
use super::operation::{
    Draw, LANE_LEN, NR_AREAS, NR_CHILDREN, NR_FILES, NR_PINS, Operation, Where,
};
use crate::device::DEFAULT_NODES;
use crate::error::Error;
use crate::object::Request;
use crate::process::{self, Process};
use crate::sys::argument::Place;
use crate::sys::pinned::Pinned;
use crate::sys::touch::Toucher;
use crate::sys::{Mapping, PAGE_SIZE};

mod areas;
mod files;
mod lanes;

/// Time for a child to touch what it has inherited, on a busy host.
const PATIENCE: Duration = Duration::from_secs(120);

/// Memory for arguments: so much of it is accessible, and nothing behind that.
const ACCESSIBLE: usize = 256 * PAGE_SIZE;
/// No argument is longer: more than any call copies.
const LONGEST: usize = (1 << 31) + PAGE_SIZE;

/// Who waits for another's attempt to load or unload the module is woken by any work for the process, such as that of
/// `io_uring(7)` (kernel/module/main.c, 7.3: `delete_module()` takes a mutex, and `idempotent_init_module()` waits, both of
/// them interruptibly).
const WOKEN: Errno = Errno::EINTR;

/// While the module comes and goes, all is given back after so many steps.
const STEPS_IN_A_RACE: u64 = 24;

/// Why a worker stops.
#[derive(Debug)]
pub enum Trouble {
    /// The kernel did what the driver's documentation does not allow.
    Violation(String),
    /// The stress itself broke.
    Lab(Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(what) => f.write_str(what),
            Self::Lab(error) => write!(f, "the stress itself broke: {error}"),
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Lab(error)
    }
}

/// A broken rule.
fn violation<T>(what: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Violation(what.into()))
}

/// Compares what a call returned with what it may return.
#[expect(
    clippy::needless_pass_by_value,
    reason = "most have no further use for it"
)]
fn judge<T>(result: Result<T, Errno>, may_succeed: bool, errnos: &[Errno]) -> Result<End, Trouble> {
    match result {
        Ok(_) if may_succeed => Ok(End::Done),
        Ok(_) => violation(format!(
            "was done, and was to be refused by one of {errnos:?}"
        )),
        Err(errno) if errnos.contains(&errno) => Ok(End::Refused(errno)),
        Err(errno) => violation(format!(
            "was refused by {errno:?}; to be allowed were {}{errnos:?}",
            if may_succeed { "success and " } else { "" }
        )),
    }
}

/// What a call said, without what it returned.
fn seen<T>(result: &Result<T, Errno>) -> Result<(), Errno> {
    result.as_ref().map(drop).map_err(|errno| *errno)
}

/// What a round is like for its workers.
#[derive(Debug)]
pub struct Round<'a> {
    /// Where they note what they do.
    pub board: &'a Board,
    /// The length of the buffer.
    pub nr_pages: usize,
    /// Whether the module comes and goes meanwhile.
    pub racing: bool,
    /// How many steps each of them takes.
    pub nr_steps: u64,
    /// When they stop in any case.
    pub deadline: Instant,
}

/// An open file of a node.
#[expect(clippy::struct_excessive_bools, reason = "facts, each by itself")]
struct Opened {
    fd: OwnedFd,
    node: usize,
    readable: bool,
    writable: bool,
    appends: bool,
    /// `O_PATH`: it is there, and nothing can be done with it.
    path_only: bool,
}

/// A page of an area, as far as it is known.
#[derive(Clone, Copy)]
struct Page {
    prot: ProtFlags,
    /// It may have been given back.
    gone: bool,
    /// It may not be there for reasons of its own, as a guard page.
    odd: bool,
    /// Where a byte is that only this process can have written, and its value.
    mine: Option<(usize, u8)>,
}

/// A mapping of a node.
#[expect(clippy::struct_excessive_bools, reason = "facts, each by itself")]
struct Area {
    mapping: Mapping,
    node: usize,
    /// Which page of the buffer the first is.
    pgoff: usize,
    shared: bool,
    /// Whether its file was open for writing.
    writable: bool,
    pages: Vec<Page>,
    /// Whether it may consist of several VMAs.
    pieces: bool,
    /// Whether children may be without it.
    dont_fork: bool,
}

/// The node by `vm_insert_page()`, and the one by `remap_pfn_range()`.
const INSERT: usize = 0;
const PFN: usize = 1;

impl Area {
    /// Whether nothing forbids to access its page of this number, or takes it away.
    fn allows(&self, page: usize, prot: ProtFlags) -> bool {
        self.pages
            .get(page)
            .is_some_and(|page| page.prot.contains(prot) && !page.gone && !page.odd)
    }

    /// Whether its page of this number is the first of the buffer, with the lanes in it.
    fn shows_lanes(&self, page: usize) -> bool {
        self.shared && self.pgoff + page == 0
    }
}

/// The process.
pub struct Worker<'a> {
    round: &'a Round<'a>,
    draw: Draw,
    toucher: Toucher,
    memory: Mapping,
    pipe: (OwnedFd, OwnedFd),
    module: File,
    files: [Option<Opened>; NR_FILES],
    areas: [Option<Area>; NR_AREAS],
    children: [Option<Process>; NR_CHILDREN],
    pins: [Option<Pinned>; NR_PINS],
    /// The value of all bytes of the worker's lane.
    lane: u8,
}

impl<'a> Worker<'a> {
    /// A worker that has nothing yet.
    ///
    /// # Errors
    ///
    /// If there is no memory, or the module's file is not there.
    pub fn new(round: &'a Round<'a>, draw: Draw) -> Result<Self, Error> {
        let memory = Request::anonymous(libc::MAP_PRIVATE | libc::MAP_NORESERVE)
            .prot(ProtFlags::PROT_NONE)
            .len(ACCESSIBLE + LONGEST);
        let mut memory = memory.map()?;
        let accessible = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let what = "memory for arguments";
        memory
            .protect_part(0, ACCESSIBLE, accessible)
            .map_err(Error::call("mprotect()", what))?;
        let pipe = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK);
        Ok(Self {
            round,
            draw,
            toucher: Toucher::install().map_err(Error::call("sigaction()", "SIGSEGV, SIGBUS"))?,
            memory,
            pipe: pipe.map_err(Error::call("pipe2()", "a pipe for pages"))?,
            module: module::open()?,
            files: Default::default(),
            areas: Default::default(),
            children: Default::default(),
            pins: Default::default(),
            lane: 0,
        })
    }

    /// Does all steps of the round.
    ///
    /// # Errors
    ///
    /// What was not to be, with the operation.
    pub fn run(&mut self) -> Result<(), Trouble> {
        for step in 0..self.round.nr_steps {
            if self.round.board.over()? || Instant::now() > self.round.deadline {
                break;
            }
            self.draw.step = step;
            self.round.board.begin(self.draw.worker, step)?;
            let operation = Operation::draw(self.draw, self.round.nr_pages);
            let end = self.act(operation).map_err(|trouble| match trouble {
                Trouble::Violation(what) => Trouble::Violation(format!("{operation:?} {what}")),
                lab @ Trouble::Lab(_) => lab,
            })?;
            self.round.board.count(operation.kind(), end)?;
            if self.round.racing {
                self.let_go_in_a_race(step)?;
            }
        }
        self.let_go()
    }

    /// Goes on doing so for as long as the module comes and goes.
    ///
    /// # Errors
    ///
    /// As [`Worker::run`].
    pub fn run_until_over(&mut self) -> Result<(), Trouble> {
        while !self.round.board.over()? && Instant::now() <= self.round.deadline {
            self.run()?;
        }
        Ok(())
    }

    /// The module can only go when nobody has it: not for ever, that is.
    fn let_go_in_a_race(&mut self, step: u64) -> Result<(), Trouble> {
        if step % STEPS_IN_A_RACE == 0 || self.round.board.pause()? {
            self.let_go()?;
            while self.round.board.pause()? && !self.round.board.over()? {
                std::thread::yield_now();
            }
            self.get_hold(step)?;
        }
        Ok(())
    }

    /// Opens and maps a node, if there is one at the moment.
    fn get_hold(&mut self, step: u64) -> Result<(), Trouble> {
        let nodes = DEFAULT_NODES.len() as u64;
        let node = usize::try_from(step / STEPS_IN_A_RACE % nodes).unwrap_or(0);
        self.open(0, node, libc::O_RDWR)?;
        if self.files[0].is_some() {
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let call = super::operation::call(self.end(), prot, libc::MAP_SHARED, 0);
            self.map(0, 0, call)?;
            self.round.board.count_use()?;
        }
        Ok(())
    }

    /// Gives all back, and waits for all children.
    fn let_go(&mut self) -> Result<(), Trouble> {
        for child in 0..NR_CHILDREN {
            self.reap(child, false)?;
        }
        for pin in 0..NR_PINS {
            self.unpin(pin)?;
        }
        if !self.round.racing {
            self.check_lane()?;
        }
        self.areas = Default::default();
        self.files = Default::default();
        Ok(())
    }

    fn act(&mut self, operation: Operation) -> Result<End, Trouble> {
        match operation {
            Operation::Open { file, node, flags } => self.open(file, node, flags),
            Operation::Close { file } => {
                Ok(self.files[file].take().map_or(End::Idle, |_| End::Done))
            }
            Operation::Map {
                area,
                file,
                len,
                prot,
                flags,
                offset,
            } => {
                let call = super::operation::call(len, prot, flags, offset);
                self.map(area, file, call)
            }
            Operation::Unmap { area, page, part } => self.unmap(area, page, part),
            Operation::Load { area, page, offset } => self.load(area, page, offset),
            Operation::Store {
                area,
                page,
                offset,
                value,
            } => self.store(area, page, offset, value),
            Operation::Resize { area, len } => self.resize(area, len),
            Operation::Move { area } => self.move_elsewhere(area),
            Operation::Advise {
                area,
                page,
                nr_pages,
                advice,
            } => self.advise(area, page, nr_pages, advice),
            Operation::Protect {
                area,
                page,
                nr_pages,
                prot,
            } => self.protect(area, page, nr_pages, prot),
            Operation::Lock { area, lock } => self.lock(area, lock),
            Operation::Sync { area, flags } => self.sync(area, flags),
            Operation::Read {
                file,
                at,
                len,
                offset,
            } => self.read(file, at, len, offset),
            Operation::Write {
                file,
                at,
                len,
                offset,
                value,
            } => self.write(file, at, len, offset, value),
            Operation::Seek {
                file,
                offset,
                whence,
            } => self.seek(file, offset, whence),
            Operation::Ioctl {
                file,
                request,
                at,
                numbers,
            } => self.ioctl(file, request, at, numbers),
            Operation::Other { file, call, number } => self.other(file, call, number),
            Operation::WriteLane { by, value } => self.write_lane(by, value),
            Operation::ReadLane { by } => self.read_lane(by),
            Operation::Increment { by } => self.increment(by),
            Operation::Fork { child, nr_touches } => self.fork(child, nr_touches),
            Operation::Reap { child, kill } => self.reap(child, kill),
            Operation::Pin { pin, area } => self.pin(pin, area),
            Operation::Unpin { pin } => self.unpin(pin),
            Operation::Splice { area } => self.splice(area),
            Operation::Look { area, file } => self.look(area, file),
            Operation::Rmmod => self.rmmod(),
            Operation::Insmod => self.insmod(),
        }
    }

    /// In a race, there is one who loads and unloads, and it is nobody of these.
    fn rmmod(&mut self) -> Result<End, Trouble> {
        if self.round.racing {
            return Ok(End::Idle);
        }
        let removed = delete_module(module::NAME, DeleteModuleFlags::O_NONBLOCK);
        judge(removed, false, &[Errno::EAGAIN, WOKEN])
    }

    fn insmod(&mut self) -> Result<End, Trouble> {
        if self.round.racing {
            return Ok(End::Idle);
        }
        let loaded = module::load(&self.module, Params::Pages(2));
        judge(loaded, false, &[Errno::EEXIST, WOKEN])
    }

    fn fork(&mut self, child: usize, nr_touches: usize) -> Result<End, Trouble> {
        if self.children[child].is_some() {
            return Ok(End::Idle);
        }
        let draw = self.draw;
        let forked = Process::fork("a child of a worker", || {
            match self.touch_at_random(nr_touches) {
                Ok(()) => 0,
                Err(trouble) => {
                    eprintln!("stress: a child that {draw:?} has forked: {trouble}");
                    1
                }
            }
        });
        self.children[child] = Some(forked?);
        Ok(End::Done)
    }

    /// What a child does with what it has inherited.
    fn touch_at_random(&mut self, nr_touches: usize) -> Result<(), Trouble> {
        let mut rng = self.draw.rng();
        for area in &mut self.areas {
            // There is nothing of it here, and something else may come to be there.
            std::mem::forget(area.take_if(|area| area.dont_fork));
        }
        for _ in 0..nr_touches {
            let (area, page) = (rng.usize(..NR_AREAS), rng.usize(..self.round.nr_pages));
            let (offset, value) = (rng.usize(..PAGE_SIZE), rng.u8(..));
            match rng.u32(..8) {
                0 => drop(self.areas[area].take()),
                1 => drop(self.move_elsewhere(area)?),
                2..5 => drop(self.store(area, page, offset, value)?),
                _ => drop(self.load(area, page, offset)?),
            }
        }
        Ok(())
    }

    fn reap(&mut self, child: usize, kill: bool) -> Result<End, Trouble> {
        let Some(mut process) = self.children[child].take() else {
            return Ok(End::Idle);
        };
        let ended = if kill {
            process.kill()?
        } else {
            process.wait(PATIENCE)?
        };
        match ended {
            process::End::Exited(0) => Ok(End::Done),
            process::End::Killed(signal) if kill => Ok(End::Signal(signal)),
            other => violation(format!("a child ended by {other:?}")),
        }
    }

    /// The place of an argument, and how many bytes are accessible there, if that is known.
    fn place(&self, at: Where) -> Option<(Place<'_>, Option<usize>)> {
        let within = |offset| Place::In(&self.memory, offset);
        match at {
            Where::Good => Some((within(0), Some(ACCESSIBLE))),
            Where::Edge(len) => Some((within(ACCESSIBLE - len), Some(len))),
            Where::Nowhere => Some((within(ACCESSIBLE), Some(0))),
            Where::Kernel(addr) => Some((Place::Kernel(addr), Some(0))),
            Where::Area(area) => {
                let area = self.areas[area].as_ref()?;
                let last = area.pages.len() - 1;
                (!area.shows_lanes(last))
                    .then(|| (Place::In(&area.mapping, last * PAGE_SIZE), None))
            }
        }
    }

    /// An argument never begins before its place's end, and is never longer than what is behind that.
    fn clip(at: Where, len: usize) -> usize {
        match at {
            Where::Area(_) => len.min(PAGE_SIZE),
            _ => len.min(LONGEST),
        }
    }

    fn fd(&self, file: usize) -> Option<(&Opened, BorrowedFd<'_>)> {
        let opened = self.files[file].as_ref()?;
        Some((opened, opened.fd.as_fd()))
    }

    /// Where the bytes of the worker's own lane begin in the buffer.
    fn lane_offset(&self) -> usize {
        self.draw.worker * LANE_LEN
    }

    /// The length of the buffer in bytes.
    fn end(&self) -> usize {
        self.round.nr_pages * PAGE_SIZE
    }
}

/// The status flags of a file, to find that it is still there.
fn is_open(fd: BorrowedFd<'_>) -> bool {
    fcntl(fd, FcntlArg::F_GETFL).is_ok()
}
