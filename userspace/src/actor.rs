//! Actor: another process that opens, maps, loads and stores when it is asked to, one turn at a time.

mod troupe;

use std::cell::RefCell;
use std::env;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::evidence::CallEnd;
use crate::exit_code::ExitCode;
use crate::faults::Counter;
use crate::object::Request;
use crate::process::{self, End, Process};
use crate::procfs::{self, Page, Vma};
use crate::sys::Mapping;
use crate::turn::Link;

pub use troupe::Troupe;

/// The only argument of this program when it is to be one.
const ROLE: &str = "actor";

/// The environment variable with the path of a program that is an actor and nothing else, built from the same sources.
///
/// Half of what it takes to start this program is to put addresses into its tables, none of which an actor needs; and
/// the experiments start many of them. But cargo can build this program without that one, or keep an old one.
const PROGRAM: &str = "MMAPDEMO_ACTOR";

/// What an actor can be asked to do with its current mapping.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Order {
    /// Open and map; the mapping becomes the current one.
    Map(Request),
    /// Store bytes, one by one.
    Store {
        offset: usize,
        #[serde(with = "const_hex::serde::no_prefix")]
        bytes: Vec<u8>,
    },
    /// Load bytes, one by one.
    Load { offset: usize, len: usize },
    /// Store a 32-bit word with release order.
    Publish { offset: usize, word: u32 },
    /// Watch a 32-bit word with acquire order until it has this value, then load bytes. No system
    /// call lies between.
    Watch {
        offset: usize,
        word: u32,
        timeout: Duration,
        then: (usize, usize),
    },
    /// Look the current mapping up in the page table.
    Page,
    /// Say where the current mapping is.
    Addr,
    /// Look the current mapping up in smaps.
    Vma,
    /// Allocate by malloc(3), look the block up in smaps, and free it.
    Allocate(usize),
    /// Unmap the mapping that it made itself.
    Leave,
}

/// What an actor answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Answer {
    Mapped(CallEnd),
    Stored { faults: u64 },
    Loaded(Loaded),
    Watched(Option<Loaded>),
    Page(Page),
    Addr(usize),
    Vma(Option<Vma>),
    Left,
    Broke(String),
}

/// Bytes loaded, and what that cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// The bytes.
    #[serde(with = "const_hex::serde::no_prefix")]
    pub bytes: Vec<u8>,
    /// Page faults taken by the loads.
    pub faults: u64,
}

/// The other process, as its director sees it. Dropping it ends its part, and the process, unless a troupe keeps it.
#[derive(Debug)]
pub struct Actor(Rc<RefCell<Body>>);

/// The process, and the way to speak to it.
#[derive(Debug)]
struct Body {
    link: Link,
    process: Process,
    name: String,
    /// Whether an answer is still to come.
    owes: bool,
}

impl Actor {
    /// Starts an unrelated process: by `execve(2)`, nothing mapped, nothing inherited.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start(name: &str) -> Result<Self> {
        let program = env::var_os(PROGRAM).unwrap_or_else(|| process::THIS_PROGRAM.into());
        let (process, hear, say) = process::start(name, &program, &[ROLE], Stdio::inherit())?;
        Ok(Self::new(name, Link::new(name, hear, say), process))
    }

    /// Forks a child that inherits `mapping` as its current one.
    ///
    /// # Errors
    ///
    /// If the process cannot be made.
    pub fn fork(name: &str, mapping: &Mapping) -> Result<Self> {
        let (ours, theirs) = Link::pair(["the director", name])?;
        let mut theirs = Some(theirs);
        let process = Process::fork(name, || {
            let Some(link) = theirs.take() else { return 1 };
            act(link, Some(mapping)).map_or(1, |()| 0)
        })?;
        drop(theirs);
        Ok(Self::new(name, ours, process))
    }

    fn new(name: &str, link: Link, process: Process) -> Self {
        Self(Rc::new(RefCell::new(Body {
            link,
            process,
            name: name.to_owned(),
            owes: false,
        })))
    }

    /// Opens and maps; the mapping becomes its current one.
    ///
    /// # Errors
    ///
    /// If the object cannot be opened, or the process is gone. What `mmap(2)` says is the inner value.
    pub fn try_map(&mut self, request: &Request) -> Result<CallEnd> {
        match self.ask(&Order::Map(request.clone()))? {
            Answer::Mapped(end) => Ok(end),
            other => Err(self.confused(&other)),
        }
    }

    /// Opens and maps where both are taken for granted.
    ///
    /// # Errors
    ///
    /// If either call is refused.
    pub fn map(&mut self, request: &Request) -> Result<()> {
        match self.try_map(request)? {
            CallEnd::Ok => Ok(()),
            CallEnd::Refused(errno) => Err(Error::Reported {
                who: self.0.borrow().name.clone(),
                message: format!("{request:?}: {errno}"),
            }),
        }
    }

    /// Stores bytes and returns the page faults taken.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub fn store(&mut self, offset: usize, bytes: &[u8]) -> Result<u64> {
        match self.ask(&Order::Store {
            offset,
            bytes: bytes.to_vec(),
        })? {
            Answer::Stored { faults } => Ok(faults),
            other => Err(self.confused(&other)),
        }
    }

    /// Loads bytes.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub fn load(&mut self, offset: usize, len: usize) -> Result<Loaded> {
        match self.ask(&Order::Load { offset, len })? {
            Answer::Loaded(loaded) => Ok(loaded),
            other => Err(self.confused(&other)),
        }
    }

    /// Stores a 32-bit word with release order, after all that it stored before.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub fn publish(&mut self, offset: usize, word: u32) -> Result<()> {
        self.ask(&Order::Publish { offset, word }).map(drop)
    }

    /// Begins to watch a word without taking a turn; [`Actor::watched`] fetches what comes of it.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub fn watch(&mut self, watch: Watch) -> Result<()> {
        let Watch {
            offset,
            word,
            timeout,
            then,
        } = watch;
        self.0.borrow_mut().say(&Order::Watch {
            offset,
            word,
            timeout,
            then,
        })
    }

    /// What was loaded when the word appeared; `None` if it did not appear in time.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub fn watched(&mut self) -> Result<Option<Loaded>> {
        match self.0.borrow_mut().hear("what it watched for")? {
            Answer::Watched(loaded) => Ok(loaded),
            other => Err(self.confused(&other)),
        }
    }

    /// Its page table's entry for the current mapping.
    ///
    /// # Errors
    ///
    /// If the process is gone or may not look.
    pub fn page(&mut self) -> Result<Page> {
        match self.ask(&Order::Page)? {
            Answer::Page(page) => Ok(page),
            other => Err(self.confused(&other)),
        }
    }

    /// Where its current mapping is.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub fn addr(&mut self) -> Result<usize> {
        match self.ask(&Order::Addr)? {
            Answer::Addr(addr) => Ok(addr),
            other => Err(self.confused(&other)),
        }
    }

    /// The VMA of its current mapping.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub fn vma(&mut self) -> Result<Option<Vma>> {
        match self.ask(&Order::Vma)? {
            Answer::Vma(vma) => Ok(vma),
            other => Err(self.confused(&other)),
        }
    }

    /// The VMA of a block of `len` bytes that it allocates, and frees again.
    ///
    /// # Errors
    ///
    /// If the process is gone, or the block is in no VMA.
    pub fn allocate(&mut self, len: usize) -> Result<Vma> {
        match self.ask(&Order::Allocate(len))? {
            Answer::Vma(Some(vma)) => Ok(vma),
            other => Err(self.confused(&other)),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.0.borrow().process.pid()
    }

    /// Kills it by SIGKILL and waits for its end.
    ///
    /// # Errors
    ///
    /// If it cannot be killed.
    pub fn kill(self) -> Result<End> {
        self.0.borrow_mut().process.kill()
    }

    fn ask(&mut self, order: &Order) -> Result<Answer> {
        self.0.borrow_mut().ask(order)
    }

    fn confused(&self, answer: &Answer) -> Error {
        let who = self.0.borrow().name.clone();
        match answer {
            Answer::Broke(message) => Error::Reported {
                who,
                message: message.clone(),
            },
            other => Error::Reported {
                who,
                message: format!("unexpected answer {other:?}"),
            },
        }
    }
}

impl Drop for Actor {
    /// Has it give up its mapping, if a troupe keeps it; ends it if it does not.
    fn drop(&mut self) {
        let mut body = self.0.borrow_mut();
        let is_kept = Rc::strong_count(&self.0) > 1;
        if is_kept && !body.process.has_ended() && !body.leave() {
            // Nobody is left to report to.
            let _ = body.process.kill();
        }
    }
}

impl Body {
    /// Whether it gives up its mapping. One that owes an answer has not heard the question yet.
    fn leave(&mut self) -> bool {
        !self.owes && matches!(self.ask(&Order::Leave), Ok(Answer::Left))
    }

    fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
        self.link.rename(name);
    }

    fn ask(&mut self, order: &Order) -> Result<Answer> {
        self.say(order)?;
        self.hear("an answer")
    }

    fn say(&mut self, order: &Order) -> Result<()> {
        self.owes = true;
        self.link.say(order)
    }

    fn hear(&mut self, what: &str) -> Result<Answer> {
        let answer = self.link.hear(what)?;
        self.owes = false;
        Ok(answer)
    }
}

/// What to watch for.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Offset of the word.
    pub offset: usize,
    /// The value awaited.
    pub word: u32,
    /// How long to watch.
    pub timeout: Duration,
    /// Offset and length of what to load then.
    pub then: (usize, usize),
}

/// Whether this process was started to be one.
///
/// That is no matter of the command line's grammar: to describe and parse it takes a million instructions, and the
/// experiments start many actors.
#[must_use]
pub fn is_one() -> bool {
    env::args_os().skip(1).eq([ROLE])
}

/// Takes orders on standard input until it ends: the whole life of a started actor.
#[must_use]
pub fn live() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::AsExpected,
        Err(error) => {
            eprintln!("mmapdemo: {error}");
            ExitCode::LabBroke
        }
    }
}

fn serve() -> Result<()> {
    let clone = |fd: io::Result<OwnedFd>, name| fd.map_err(Error::file("duplicate", name));
    let hear = clone(io::stdin().as_fd().try_clone_to_owned(), "standard input")?;
    let say = clone(io::stdout().as_fd().try_clone_to_owned(), "standard output")?;
    act(Link::new("the director", hear, say), None)
}

fn act(mut link: Link, inherited: Option<&Mapping>) -> Result<()> {
    let mut own = None;
    let mut faults = Counter::default();
    while let Some(order) = link.hear_next()? {
        let answer = match order {
            Order::Map(request) => match request.try_map() {
                Ok(mapped) => {
                    let end = CallEnd::from(mapped.as_ref().map_err(|errno| *errno));
                    own = mapped.ok();
                    Ok(Answer::Mapped(end))
                }
                Err(error) => Err(error),
            },
            Order::Allocate(len) => {
                // By malloc(3), as the alignment is small; see `System` of the standard library.
                let block: Vec<u8> = Vec::with_capacity(len);
                let addr = std::hint::black_box(&block).as_ptr().addr();
                procfs::vma(addr).map(Answer::Vma)
            }
            Order::Leave => {
                own = None;
                Ok(Answer::Left)
            }
            order => match own.as_ref().or(inherited) {
                Some(mapping) => obey(&order, mapping, &mut faults),
                None => Ok(Answer::Broke("nothing is mapped".to_owned())),
            },
        };
        link.say(&answer.unwrap_or_else(|error| Answer::Broke(error.to_string())))?;
    }
    Ok(())
}

fn obey(order: &Order, mapping: &Mapping, faults: &mut Counter) -> Result<Answer> {
    match order {
        Order::Map(_) | Order::Allocate(_) | Order::Leave => Ok(Answer::Broke(
            "an order about no mapping is not for `obey`".to_owned(),
        )),
        Order::Store { offset, bytes } => {
            let store = |mapping: &Mapping| mapping.store_bytes(*offset, bytes);
            let ((), faults) = faults.count(mapping, store)?;
            Ok(Answer::Stored { faults })
        }
        Order::Load { offset, len } => load(mapping, faults, *offset, *len).map(Answer::Loaded),
        Order::Publish { offset, word } => {
            mapping.word(*offset)?.store(*word, Ordering::Release);
            Ok(Answer::Stored { faults: 0 })
        }
        Order::Watch {
            offset,
            word,
            timeout,
            then,
        } => {
            let deadline = Instant::now() + *timeout;
            while mapping.word(*offset)?.load(Ordering::Acquire) != *word {
                if Instant::now() > deadline {
                    return Ok(Answer::Watched(None));
                }
                std::hint::spin_loop();
            }
            load(mapping, faults, then.0, then.1).map(|loaded| Answer::Watched(Some(loaded)))
        }
        Order::Page => procfs::page(mapping.addr()).map(Answer::Page),
        Order::Addr => Ok(Answer::Addr(mapping.addr())),
        Order::Vma => procfs::vma(mapping.addr()).map(Answer::Vma),
    }
}

fn load(mapping: &Mapping, faults: &mut Counter, offset: usize, len: usize) -> Result<Loaded> {
    let (bytes, faults) = faults.count(mapping, |mapping| mapping.load_bytes(offset, len))?;
    Ok(Loaded { bytes, faults })
}
