//! `lab bench`: how long a warm start takes, which is what it is for.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::watch::Rounds;
use crate::changes::{Changed, Part};
use crate::cli::warm::Bench;
use crate::cli::{AccelChoice, Extras, GuestArgs, KernelArgs, Run};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::job::Work;
use crate::module::Manner;
use crate::outcome::Outcome;
use crate::patch::Sources;
use crate::phase::Phase;
use crate::plan::Plan;
use crate::session::Streams;
use crate::warm::Start;
use crate::workshop::{Built, Workshop};

/// What is judged after each edit: claims about the device.
const CLAIMS: [&str; 10] = [
    "private-writes-invisible-to-others",
    "private-no-copy-at-mmap",
    "private-first-write-copies-page",
    "private-initial-content-readable-by-all",
    "private-is-snapshot",
    "shared-writes-visible-across-processes",
    "shared-same-physical-page",
    "shared-user-store-visible-to-kernel",
    "shared-many-processes-map-at-once",
    "shared-fork-inherits",
];

/// The file that is edited, and the line.
const EDITED: (&str, &str) = ("driver/mmapdemo.rs", "Kernel memory to read");

/// How long a machine that waits may rehearse.
const REHEARSAL: Duration = Duration::from_secs(60);

/// `lab bench`.
///
/// # Errors
///
/// When something cannot be built or started.
pub fn bench(workshop: &Workshop<'_>, args: &Bench) -> Result<ExitCode> {
    let kernel = super::of_the_clone(workshop, &args.kernel);
    let built = workshop.build(&kernel)?;
    println!("load average before: {}", load()?);
    let before = ProcessorTime::now()?;
    let edits = edits(workshop, &built, &kernel, args.edits)?;
    print_times(
        "edit -> verdict of 10 claims, in the lab",
        &edits,
        args.edits,
    );
    let restores = restores(workshop, &built, args)?;
    print_times("restore -> insmod's result", &restores, args.restores);
    println!("load average after: {}", load()?);
    if let Some(percent) = ProcessorTime::now()?.granted_since(&before) {
        println!("processor time: this host got {percent}% of what it asked for");
    }
    let all = edits.len() == args.edits && restores.len() == args.restores;
    Ok(if all {
        ExitCode::AsExpected
    } else {
        ExitCode::NotAsExpected
    })
}

/// The times of the edits after which all was as expected.
fn edits(
    workshop: &Workshop<'_>,
    built: &Built,
    kernel: &KernelArgs,
    nr_edits: usize,
) -> Result<Vec<Duration>> {
    let project = workshop.layout.project.join("target/lab/bench");
    Sources::read(&workshop.layout.project)?.write(&project)?;
    let mut there = workshop.again()?;
    there.layout.project = project;
    there.manner = Manner::Incremental;
    let guest = GuestArgs {
        accel: AccelChoice::Auto,
        insmod_args: Vec::new(),
        timeout: Some(60),
    };
    let run = Run {
        claims: CLAIMS.map(str::to_owned).to_vec(),
        warm: true,
        may_skip: Some(Vec::new()),
        ..Run::all(kernel.clone(), guest)
    };
    let mut rounds = Rounds::new(built.target.clone(), built.programs.clone(), run);
    let mut times = Vec::new();
    // The first is for the snapshot, and for what is not in the page cache.
    for number in 0..=nr_edits {
        let since = edit(&there.layout.project, number)?;
        let changed = Changed {
            files: vec![(Part::Driver, EDITED.0.into())],
            since: Some(since),
        };
        let code = rounds.round(&there, &changed, silence())?;
        if number > 0 && code == ExitCode::AsExpected {
            times.push(since.elapsed());
        }
        rounds.restore_another(&there)?;
        // A person takes longer to edit a line.
        if !rounds.wait_for_rehearsal(REHEARSAL)? {
            println!("a machine that has not rehearsed");
        }
    }
    Ok(times)
}

/// Changes one line of the driver, and returns when that was.
fn edit(project: &Path, number: usize) -> Result<Instant> {
    let (file, line) = EDITED;
    let path = project.join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read {file}"))?;
    let Some((before, after)) = text.split_once(line) else {
        bail!("failed to edit {file}: it has no line with {line:?}");
    };
    let after = after.split_once('"').map_or(after, |(_, after)| after);
    let now = Instant::now();
    fs::write(&path, format!("{before}{line} ({number})\"{after}"))
        .with_context(|| format!("failed to write {}", path.display()))?;
    Ok(now)
}

/// The times of the restores after which all was well.
fn restores(workshop: &Workshop<'_>, built: &Built, args: &Bench) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..args.restores {
        let began = Instant::now();
        let (target, programs) = (&built.target, &built.programs);
        let extras = (None, Extras::default());
        let start = Start::warm(workshop, target, programs, AccelChoice::Auto, extras)?;
        if let Start::Instead(why) = start {
            println!("not restored: {why}");
            continue;
        }
        let restored = began.elapsed();
        let plan = Plan {
            start,
            ..Plan::new(built, Work::Programs(Vec::new()))
        };
        let report = plan.boot(workshop, silence())?;
        match report.outcome {
            Outcome::Completed => {}
            Outcome::Interrupted => {
                return Err(Failure::Interrupted("measuring restores".into()).into());
            }
            outcome => {
                println!("a restore that is not good: {outcome}");
                continue;
            }
        }
        let until_loaded = [Phase::Restore, Phase::HandOver, Phase::Load];
        let timings = report.timings.iter();
        let of_those = timings.filter(|timing| until_loaded.contains(&timing.phase));
        times.push(restored + of_those.map(|timing| timing.elapsed).sum());
    }
    Ok(times)
}

fn silence() -> Streams {
    Streams {
        stdin: None,
        stdout: Box::new(io::sink()),
        stderr: Box::new(io::sink()),
        waiting: None,
    }
}

fn print_times(what: &str, times: &[Duration], wanted: usize) {
    let mut sorted: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    sorted.sort_by(f64::total_cmp);
    let good = times.len();
    match (sorted.first(), sorted.get(good / 2), sorted.last()) {
        (Some(least), Some(median), Some(most)) => println!(
            "{what}: median {median:.2} s ({least:.2} to {most:.2}), {good} of {wanted} good"
        ),
        _ => println!("{what}: none of {wanted} good"),
    }
}

fn load() -> Result<String> {
    Ok(read("/proc/loadavg")?.trim_end().to_owned())
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {path}"))
}

/// What all processors have done since the host's boot, in ticks.
#[derive(Debug, PartialEq, Eq)]
struct ProcessorTime {
    /// Something was running.
    used: u64,
    /// Something was to run, and the host's own host had given the processor to somebody else.
    stolen: u64,
}

impl ProcessorTime {
    fn now() -> Result<Self> {
        let path = "/proc/stat";
        Self::parse(&read(path)?).with_context(|| format!("failed to parse {path}"))
    }

    /// Of the first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; `proc_stat(5)`.
    fn parse(stat: &str) -> Option<Self> {
        let numbers = stat.lines().next()?.strip_prefix("cpu ")?;
        let numbers = numbers.split_whitespace().map(|number| number.parse().ok());
        match numbers.take(8).collect::<Option<Vec<u64>>>()?[..] {
            [user, nice, system, _, _, irq, softirq, stolen] => Some(Self {
                used: user + nice + system + irq + softirq,
                stolen,
            }),
            _ => None,
        }
    }

    /// How much of the time in which something was to run it did run, in percent: on a host that has to share, times
    /// are longer by that.
    fn granted_since(&self, before: &Self) -> Option<u64> {
        let used = self.used.checked_sub(before.used)?;
        let stolen = self.stolen.checked_sub(before.stolen)?;
        (used * 100).checked_div(used + stolen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_was_stolen_was_asked_for_and_not_got() {
        let stat = |user, stolen| format!("cpu  {user} 1 10 1000 20 2 3 {stolen} 0 0\ncpu0 1 1\n");
        let before = ProcessorTime::parse(&stat(100, 50)).unwrap();
        assert_eq!(
            before,
            ProcessorTime {
                used: 116,
                stolen: 50
            }
        );
        let after = ProcessorTime::parse(&stat(400, 150)).unwrap();
        assert_eq!(after.granted_since(&before), Some(75));
        assert_eq!(before.granted_since(&before), None);
        assert_eq!(ProcessorTime::parse("cpu  1 2 3\n"), None);
    }
}
