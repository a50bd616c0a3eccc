//! Runs the programs of a job, one after another.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::Pid;

use crate::children::{Children, Wake};
use crate::early::Early;
use crate::job::{self, Event, KTAP_PORT, Program, STDERR_PORT, STDOUT_PORT};
use crate::mark;
use crate::ports::{Control, Ports};
use crate::processes;

/// Runs all of them, whatever becomes of each; the first may have been started early.
pub(crate) fn run(
    programs: &[Program],
    early: Option<(Early, Outputs)>,
    mark: &str,
    ports: &Ports,
    children: &Children,
    control: &mut Control,
) -> Result<()> {
    let (mut early, mut outputs) = match early {
        Some((early, outputs)) => (Some(early), outputs),
        None => (None, Outputs::open(ports)?),
    };
    let mark = &mark::bytes(mark);
    for (index, program) in programs.iter().enumerate() {
        let early = match early.take() {
            Some(early) => early.for_program(program, children)?,
            None => None,
        };
        let turn = match early {
            Some(early) => Turn::Early(early),
            None => Turn::New(connected(program, ports, &outputs)?),
        };
        // Not sooner: the host closes an input that has nothing in it, and its port would wait for ever.
        control.say(&Event::Started { program: index })?;
        let event = match turn.begin() {
            Ok(child) => end(index, program, &child, children, control)?,
            Err(error) => Event::NotStarted {
                program: index,
                refusal: error.into(),
            },
        };
        children.kill_leftovers(control)?;
        // Nobody else can write any more: what follows on the ports is certain to come last.
        outputs.mark(mark)?;
        if program.ktap {
            let mut port = ports.open(KTAP_PORT)?;
            port.write_all(mark)
                .context("failed to mark the end of a program's results")?;
        }
        control.say(&event)?;
    }
    Ok(())
}

/// A program whose turn it is.
enum Turn {
    Early(Early),
    New(Command),
}

impl Turn {
    /// Has it begin; the error is execve(2)'s.
    fn begin(self) -> io::Result<Child> {
        match self {
            Self::Early(early) => Ok(early.begin()),
            // The command goes, and with it this process's end of standard input.
            Self::New(mut command) => command.spawn(),
        }
    }
}

/// A program as its order has it, with all of its streams.
fn connected(program: &Program, ports: &Ports, outputs: &Outputs) -> Result<Command> {
    let mut command = command(program)?;
    command.stdin(if program.stdin {
        Stdio::from(ports.stdin()?)
    } else {
        Stdio::null()
    });
    outputs.connect(&mut command)?;
    Ok(command)
}

/// Waits for a program's end.
fn end(
    index: usize,
    program: &Program,
    child: &Child,
    children: &Children,
    control: &mut Control,
) -> Result<Event> {
    let mut wake = children.wait_for(pid(child)?, control)?;
    while let Wake::Command(job::Command::Describe) = wake {
        control.say(&Event::Described {
            processes: processes::describe(),
        })?;
        wake = children.wait_for(pid(child)?, control)?;
    }
    match wake {
        Wake::Ended(status) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Ok(Event::Exited {
                program: index,
                code,
            }),
            (None, Some(signal)) => Ok(Event::Signaled {
                program: index,
                signal,
            }),
            (None, None) => bail!(
                "failed to understand how {} ended: {status:?}",
                program.name()
            ),
        },
        Wake::PowerOff => bail!("{} asked for power-off", program.name()),
        Wake::Command(command) => bail!("the host said {command:?} while {} ran", program.name()),
    }
}

/// A child's process id, as wait(2) says it.
pub(crate) fn pid(child: &Child) -> Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.with_context(|| format!("failed to wait for process {}", child.id()))
}

/// A program as its order has it; where its streams lead is not said yet.
pub(crate) fn command(program: &Program) -> Result<Command> {
    let (name, args) = program
        .argv
        .split_first()
        .context("failed to run a program without a name")?;
    let mut command = Command::new(name);
    command
        .args(args)
        .current_dir(&program.cwd)
        .process_group(0);
    environment(&mut command);
    command.envs(program.env.iter().map(|(key, value)| (key, value)));
    Ok(command)
}

/// What every process of the guest finds in its environment; of the kernel's, nothing is passed on.
pub(crate) fn environment(command: &mut Command) {
    command.env_clear();
    command
        .env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
        .env("HOME", "/root")
        .env("USER", "root")
        .env("MMAPDEMO_ACTOR", job::ACTOR);
}

/// The ports that programs write to. They stay open here, so that no program finds the other's busy.
pub(crate) struct Outputs {
    stdout: File,
    stderr: File,
}

impl Outputs {
    pub(crate) fn open(ports: &Ports) -> Result<Self> {
        Ok(Self {
            stdout: ports.open(STDOUT_PORT)?,
            stderr: ports.open(STDERR_PORT)?,
        })
    }

    /// Has a program write there.
    pub(crate) fn connect(&self, command: &mut Command) -> Result<()> {
        let clone = |port: &File| port.try_clone().context("failed to share a port");
        command
            .stdout(clone(&self.stdout)?)
            .stderr(clone(&self.stderr)?);
        Ok(())
    }

    fn mark(&mut self, mark: &[u8]) -> Result<()> {
        for port in [&mut self.stdout, &mut self.stderr] {
            port.write_all(mark)
                .context("failed to mark the end of a program's output")?;
        }
        Ok(())
    }
}
