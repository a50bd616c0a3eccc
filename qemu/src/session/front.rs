//! The lab's side of a guest's standard streams: two outputs, one input, perhaps a terminal.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};

use super::Streams;
use super::awaited::Awaited;
use crate::input::{self, InputPump, Manner};
use crate::job::{Command, Order, Program, Work};
use crate::machine::Channel;
use crate::output::{Closed, OutputPump, OutputState};
use crate::terminal::{self, RawTerminal, SizeChanges};
use crate::vm::Vm;

/// The pumps, and what they need.
pub(super) struct Front {
    outputs: Vec<OutputPump>,
    stdin: Option<OwnedFd>,
    input: Option<InputPump>,
    terminal: Option<RawTerminal>,
    sizes: Option<SizeChanges>,
    woken: UnixStream,
    leave: UnixStream,
    leaver: UnixStream,
    waiting: Awaited,
}

impl Front {
    /// Starts to carry the outputs. The input waits for the program that reads it.
    pub(super) fn new(vm: &Vm, order: &Order, streams: Streams) -> Result<Self> {
        let Streams {
            stdin,
            stdout,
            stderr,
            waiting,
        } = streams;
        let waiting = Awaited::new(waiting);
        let (stdout, stderr) = (waiting.around(stdout), waiting.around(stderr));
        let (woken, waker) = UnixStream::pair().context("failed to make a wake-up channel")?;
        let (leave, leaver) = UnixStream::pair().context("failed to make a wake-up channel")?;
        for end in [&woken, &waker, &leaver] {
            end.set_nonblocking(true)
                .context("failed to make a wake-up channel")?;
        }
        let start = |channel, sink, capture| {
            OutputPump::start(vm.channel(channel), sink, &order.mark, capture, &waker)
        };
        let outputs = match &order.job.work {
            Work::Shell(_) => vec![start(Channel::Terminal, stdout, Vec::new())?],
            Work::Programs(programs) => {
                let capture: Vec<bool> = programs.iter().map(|program| program.capture).collect();
                vec![
                    start(Channel::Stdout, stdout, capture.clone())?,
                    start(Channel::Stderr, stderr, capture)?,
                ]
            }
        };
        let (input, terminal, sizes) = (None, None, None);
        Ok(Self {
            outputs,
            stdin,
            input,
            terminal,
            sizes,
            woken,
            leave,
            leaver,
            waiting,
        })
    }

    /// Nobody waits for the boot any more.
    pub(super) fn begun(&self) {
        self.waiting.is_over();
    }

    /// Whether anybody sees how many results have come.
    pub(super) fn shows_results(&self) -> bool {
        self.waiting.is_shown()
    }

    /// So many of the planned results have come.
    pub(super) fn show_results(&self, done: usize, planned: usize) {
        self.waiting.advances(done, planned);
    }

    /// A program begins: if it is the one that reads the input, it gets it; otherwise it is awaited until it says
    /// something, or for as long as it gives results.
    pub(super) fn started(&mut self, vm: &Vm, work: &Work, index: usize) -> Result<()> {
        let program = match work {
            Work::Programs(programs) => programs.get(index),
            Work::Shell(_) => None,
        };
        match program.filter(|program| !program.stdin) {
            Some(program) => {
                let name = format!("run {}", program.name());
                self.waiting.becomes(&name, program.ktap);
            }
            None => self.begun(),
        }
        match work {
            Work::Programs(programs)
                if programs.get(index).is_some_and(|program| program.stdin) =>
            {
                let target = vm.channel(Channel::Stdin);
                if let Some(source) = self.stdin.take() {
                    return self.carry(source, target, Manner::Plain);
                }
                input::end(target);
                Ok(())
            }
            Work::Shell(_) => self.connect_terminal(vm),
            Work::Programs(_) => Ok(()),
        }
    }

    fn connect_terminal(&mut self, vm: &Vm) -> Result<()> {
        let Some(source) = self.stdin.take() else {
            return Ok(());
        };
        self.terminal = RawTerminal::enter(&source)?;
        self.sizes = Some(SizeChanges::listen().context("failed to listen to SIGWINCH")?);
        self.carry(source, vm.channel(Channel::Terminal), Manner::Terminal)
    }

    fn carry(&mut self, source: OwnedFd, target: &UnixStream, manner: Manner) -> Result<()> {
        let leave = self
            .leaver
            .try_clone()
            .context("failed to make a wake-up channel")?;
        self.input = Some(InputPump::start(source, target, manner, leave)?);
        Ok(())
    }

    /// Readable when something here may have changed; [`Front::rest`] makes it quiet again.
    pub(super) fn woken(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    /// Forgets what woke us.
    pub(super) fn rest(&self) {
        // One read suffices: a byte left over only wakes once more.
        let _ = (&self.woken).read(&mut [0; 256]);
    }

    /// Readable when the person at the terminal wants to leave, whatever the guest does.
    pub(super) fn leave(&self) -> BorrowedFd<'_> {
        self.leave.as_fd()
    }

    /// Readable when the terminal has a new size, if there is a terminal.
    pub(super) fn resized(&self) -> Option<BorrowedFd<'_>> {
        self.sizes.as_ref().map(|sizes| sizes.changed.as_fd())
    }

    /// The command that tells the guest of the new size.
    pub(super) fn resize(&self) -> Option<Command> {
        let sizes = self.sizes.as_ref()?;
        // One read suffices: a byte left over only tells the same size once more.
        let _ = (&sizes.changed).read(&mut [0; 256]);
        self.terminal
            .as_ref()
            .map(|terminal| Command::Resize(terminal::size_of(terminal)))
    }

    /// Whether the reader of an output keeps the guest waiting.
    pub(super) fn writing(&self) -> bool {
        self.states().any(|state| state.writing)
    }

    /// Why an output can be written no more, if there is such a one.
    pub(super) fn closed(&self) -> Option<Closed> {
        self.states().find_map(|state| state.closed)
    }

    /// Whether nothing more will come out.
    pub(super) fn ended(&self) -> bool {
        self.states().all(|state| state.ended)
    }

    /// Whether the outputs of this many programs have arrived in full.
    pub(super) fn has_marks(&self, nr_programs: usize) -> bool {
        self.states().all(|state| state.nr_marks >= nr_programs)
    }

    /// What was captured of each program: standard output and standard error.
    pub(super) fn captured(&self, programs: &[Program]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let of = |output: usize, program| {
            self.outputs
                .get(output)
                .map_or_else(Vec::new, |pump| pump.captured(program))
        };
        (0..programs.len())
            .map(|program| (of(0, program), of(1, program)))
            .collect()
    }

    fn states(&self) -> impl Iterator<Item = OutputState> + '_ {
        self.outputs.iter().map(OutputPump::state)
    }
}
