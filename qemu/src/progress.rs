//! What the lab is doing, how far it is and how long it took: bars on a terminal, lines elsewhere.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::command::Stream;

/// How often the spinner of a running stage turns.
const TICK: Duration = Duration::from_millis(120);

/// The stages of one run of the lab. Everything goes to standard error.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    bars: Option<MultiProgress>,
    quiet: bool,
    timings: Mutex<Vec<Timing>>,
}

/// When one stage ran.
#[derive(Clone, Debug)]
struct Timing {
    name: String,
    from: Duration,
    took: Duration,
}

/// A line of a terminal that shows that something is awaited; dropping it removes the line.
#[derive(Debug)]
pub struct Waiting {
    bars: MultiProgress,
    bar: ProgressBar,
}

impl Waiting {
    /// From now on something else is awaited.
    pub fn becomes(&self, name: &str) {
        self.bar.set_prefix(name.to_owned());
        self.bar.set_message("");
    }

    /// Says how much of it has come.
    pub fn advance(&self, done: usize, total: usize) {
        self.bar.set_message(format!("{done} of {total}"));
    }

    /// Removes the line for a while.
    #[must_use]
    pub fn pause(self) -> Paused {
        let (name, message) = (self.bar.prefix(), self.bar.message());
        Paused {
            bars: self.bars.clone(),
            elapsed: self.bar.elapsed(),
            name,
            message,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What a [`Waiting`] was before it was removed.
#[derive(Debug)]
pub struct Paused {
    bars: MultiProgress,
    elapsed: Duration,
    name: String,
    message: String,
}

impl Paused {
    /// Shows it again.
    #[must_use]
    pub fn resume(self) -> Waiting {
        let bar = spinner(&self.bars, &self.name).with_elapsed(self.elapsed);
        bar.set_message(self.message);
        Waiting {
            bars: self.bars,
            bar,
        }
    }
}

/// A stage that is running; dropping it ends it.
#[derive(Debug)]
pub struct Stage<'a> {
    progress: &'a Progress,
    name: String,
    started: Instant,
    bar: Option<ProgressBar>,
    done: bool,
}

impl Progress {
    /// Bars when standard error is a terminal, lines when it is not, nothing when `quiet`.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        Self::with_bars(quiet, std::io::stderr().is_terminal())
    }

    /// Lines, also on a terminal: other lines come between.
    #[must_use]
    pub fn verbose() -> Self {
        Self::with_bars(false, false)
    }

    pub(crate) fn with_bars(quiet: bool, bars: bool) -> Self {
        let bars = (!quiet && bars).then(MultiProgress::new);
        Self {
            started: Instant::now(),
            bars,
            quiet,
            timings: Mutex::default(),
        }
    }

    /// Begins a stage; `name` is an imperative sentence, such as "unpack the toolchain".
    pub fn stage(&self, name: impl Into<String>) -> Stage<'_> {
        let name = name.into();
        if self.bars.is_none() {
            self.note(&format!("  {name} ..."));
        }
        let bar = self.bar(&name);
        Stage {
            progress: self,
            name,
            started: Instant::now(),
            bar,
            done: false,
        }
    }

    /// Shows that `name` is awaited, on a terminal: elsewhere a note was enough.
    #[must_use]
    pub fn waiting(&self, name: &str) -> Option<Waiting> {
        let bars = self.bars.clone()?;
        let bar = spinner(&bars, name);
        Some(Waiting { bars, bar })
    }

    fn bar(&self, name: &str) -> Option<ProgressBar> {
        self.bars.as_ref().map(|bars| spinner(bars, name))
    }

    /// Says something that is not a stage, above the bars.
    pub fn note(&self, text: &str) {
        if self.quiet {
            return;
        }
        match &self.bars {
            // A terminal that is gone cannot be told so.
            Some(bars) => drop(bars.println(text)),
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    /// Records a duration that was measured elsewhere, such as a phase inside the guest.
    pub fn record(&self, name: &str, from: Instant, took: Duration) {
        let from = from.saturating_duration_since(self.started);
        if let Ok(mut timings) = self.timings.lock() {
            timings.push(Timing {
                name: name.to_owned(),
                from,
                took,
            });
        }
    }

    /// The table behind `--timings`: each stage with its begin and its duration, in seconds.
    #[must_use]
    pub fn timings(&self) -> String {
        let mut timings = self
            .timings
            .lock()
            .map(|timings| timings.clone())
            .unwrap_or_default();
        timings.sort_by_key(|timing| timing.from);
        let mut table = format!(
            "{:<48} {:>8} {:>8}\n",
            "stage (stages may overlap)", "from/s", "took/s"
        );
        for Timing { name, from, took } in timings {
            let _ = writeln!(
                table,
                "{name:<48} {:>8.2} {:>8.2}",
                from.as_secs_f64(),
                took.as_secs_f64()
            );
        }
        let _ = writeln!(
            table,
            "{:<48} {:>8} {:>8.2}",
            "total",
            "",
            self.started.elapsed().as_secs_f64()
        );
        table
    }
}

impl Stage<'_> {
    /// Says how far the stage is: `done` of `total`.
    pub fn advance(&self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            if bar.length() != Some(total) {
                bar.set_length(total);
                bar.set_style(style(
                    "{spinner} {prefix:<44} {elapsed:>4} [{bar:20}] {percent:>3}% {wide_msg}",
                ));
            }
            bar.set_position(done);
        }
    }

    /// What takes the lines that Kbuild prints: one that names a step, such as `  CC      fork.o`, advances the stage,
    /// which has about `total` of them.
    pub fn kbuild_steps(&self, total: u64) -> impl FnMut(Stream, &str) {
        let mut done = 0;
        move |_, line| {
            if line.starts_with("  ") {
                done += 1;
                self.advance(done.min(total), total);
                self.message(line.split_whitespace().last().unwrap_or_default());
            }
        }
    }

    /// Says what the stage is at.
    pub fn message(&self, text: impl Into<String>) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.into());
        }
    }

    /// Ends the stage as done; a stage that is dropped without this one has failed and says nothing.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.done {
            self.progress.note(&format!(
                "  {:<46} {:>6.1} s",
                self.name,
                took.as_secs_f64()
            ));
            self.progress.record(&self.name, self.started, took);
        }
    }
}

fn spinner(bars: &MultiProgress, name: &str) -> ProgressBar {
    let bar = bars.add(ProgressBar::new_spinner());
    bar.set_style(style("{spinner} {prefix:<44} {elapsed:>4} {wide_msg}"));
    bar.set_prefix(name.to_owned());
    bar.enable_steady_tick(TICK);
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
