//! Runs the programs of a job, one after another.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::Pid;

use super::children::{Children, Wake};
use super::ports::{Control, Ports};
use crate::job::{self, Event, KTAP_PORT, Program, STDERR_PORT, STDOUT_PORT};
use crate::mark;

/// Runs all of them, whatever becomes of each.
pub(super) fn run(
    programs: &[Program],
    mark: &str,
    ports: &Ports,
    children: &Children,
    control: &mut Control,
) -> Result<()> {
    let mut outputs = Outputs {
        stdout: ports.open(STDOUT_PORT)?,
        stderr: ports.open(STDERR_PORT)?,
    };
    let mark = &mark::bytes(mark);
    for (index, program) in programs.iter().enumerate() {
        let event = run_one(index, program, ports, &outputs, children, control)?;
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

fn run_one(
    index: usize,
    program: &Program,
    ports: &Ports,
    outputs: &Outputs,
    children: &Children,
    control: &mut Control,
) -> Result<Event> {
    let mut command = command(program)?;
    command.stdin(if program.stdin {
        Stdio::from(ports.stdin()?)
    } else {
        Stdio::null()
    });
    command
        .stdout(outputs.stdout.try_clone()?)
        .stderr(outputs.stderr.try_clone()?);
    control.say(&Event::Started { program: index })?;
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            return Ok(Event::NotStarted {
                program: index,
                refusal: error.into(),
            });
        }
    };
    drop(command); // and with it this process's end of standard input
    match children.wait_for(pid(&child)?, control)? {
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
pub(super) fn pid(child: &Child) -> Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.with_context(|| format!("failed to wait for process {}", child.id()))
}

/// A program as its order has it; where its streams lead is not said yet.
pub(super) fn command(program: &Program) -> Result<Command> {
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
pub(super) fn environment(command: &mut Command) {
    command.env_clear();
    command
        .env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
        .env("HOME", "/root")
        .env("USER", "root")
        .env("MMAPDEMO_ACTOR", job::ACTOR);
}

/// The ports that programs write to. They stay open here, so that no program finds the other's busy.
struct Outputs {
    stdout: File,
    stderr: File,
}

impl Outputs {
    fn mark(&mut self, mark: &[u8]) -> Result<()> {
        for port in [&mut self.stdout, &mut self.stderr] {
            port.write_all(mark)
                .context("failed to mark the end of a program's output")?;
        }
        Ok(())
    }
}
