//! Stage: where a scenario is played, and who writes down what was there after each step.

use std::collections::BTreeSet;

use nix::unistd::{Pid, getpid};

use super::recording::{Area, Finding, Page, Process, Step};
use crate::actor::Actor;
use crate::error::Result;
use crate::evidence::{Evidence, Value};
use crate::fixture::Fixture;
use crate::frame::Frame;
use crate::page_table::{Entry, PageTable};
use crate::procfs::{self, Vma};
use crate::sys::{Mapping, PAGE_SIZE};

/// Who is watched, and which pages.
#[derive(Debug)]
struct Watched {
    name: String,
    pid: Pid,
    /// `None` if the kernel's memory cannot be read here.
    table: Option<PageTable>,
    pages: Vec<(String, u64)>,
    ended: bool,
}

/// The stage.
#[derive(Debug)]
pub struct Stage<'a> {
    fixture: &'a Fixture,
    watched: Vec<Watched>,
    /// The driver's frame, if the device has a part.
    drivers: Option<u64>,
    steps: Vec<Step>,
}

/// More pages than this at once are drawn as a row, without their frames.
const FEW_PAGES: usize = 8;

/// What somebody did, in words.
#[derive(Debug, Default)]
pub struct Act {
    by: String,
    did: String,
    call: Option<String>,
    result: Option<Value>,
    facts: Evidence,
}

impl Act {
    /// `by` did this: a sentence.
    pub fn new(by: impl Into<String>, did: impl Into<String>) -> Self {
        Self {
            by: by.into(),
            did: did.into(),
            ..Self::default()
        }
    }

    /// By this call.
    #[must_use]
    pub fn call(self, call: impl Into<String>) -> Self {
        Self {
            call: Some(call.into()),
            ..self
        }
    }

    /// With this result.
    #[must_use]
    pub fn result(self, result: impl Into<Value>) -> Self {
        Self {
            result: Some(result.into()),
            ..self
        }
    }

    /// And this was seen.
    #[must_use]
    pub fn fact(mut self, label: impl Into<String>, value: impl Into<Value>) -> Self {
        self.facts.note(label, value);
        self
    }

    /// And all this.
    #[must_use]
    pub fn facts(mut self, facts: Evidence) -> Self {
        self.facts.extend(facts);
        self
    }
}

impl<'a> Stage<'a> {
    /// An empty stage.
    #[must_use]
    pub fn new(fixture: &'a Fixture) -> Self {
        Self {
            fixture,
            watched: Vec::new(),
            drivers: None,
            steps: Vec::new(),
        }
    }

    /// Shows the driver's frame from now on.
    ///
    /// # Errors
    ///
    /// If the driver does not name it.
    pub fn show_the_drivers_frame(&mut self) -> Result<()> {
        self.drivers = Some(self.fixture.device.pfn(0)?);
        Ok(())
    }

    /// Watches the first page of what an actor has mapped.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn watch_actor(&mut self, name: &str, actor: &mut Actor) -> Result<()> {
        let addr = actor.addr()? as u64;
        self.watch(name, actor.pid(), vec![(String::new(), addr)]);
        Ok(())
    }

    /// Watches all pages of what this process, which is `A` in the story, has mapped.
    pub fn watch_own(&mut self, mapping: &Mapping) {
        let pages = (0..mapping.len()).step_by(PAGE_SIZE);
        let pages = pages.map(|offset| (String::new(), (mapping.addr() + offset) as u64));
        self.watch("A", getpid(), pages.collect());
    }

    /// Watches these pages of a process, instead of those watched before, if any.
    pub fn watch(&mut self, name: &str, pid: Pid, pages: Vec<(String, u64)>) {
        // Of a process that cannot be looked into, the picture says so.
        let table = PageTable::of(pid).ok();
        let new = Watched {
            name: name.to_owned(),
            pid,
            table,
            pages,
            ended: false,
        };
        match self.watched.iter_mut().find(|old| old.name == name) {
            Some(old) => *old = new,
            None => self.watched.push(new),
        }
    }

    /// Takes a process out of the picture.
    pub fn leaves(&mut self, name: &str) {
        self.watched.retain(|watched| watched.name != name);
    }

    /// Says that a process has ended; it stays in the picture.
    pub fn ended(&mut self, name: &str) {
        for watched in &mut self.watched {
            watched.ended |= watched.name == name;
        }
    }

    /// Writes down what was done, and what is there now.
    ///
    /// # Errors
    ///
    /// If somebody who is watched has ended, or the kernel does not let us look.
    pub fn record(&mut self, act: Act) -> Result<()> {
        let processes: Vec<_> = self.watched.iter().map(look_at).collect::<Result<_>>()?;
        let frames = self.frames(&processes)?;
        self.steps.push(Step {
            boot: self.fixture.boot,
            by: act.by,
            did: act.did,
            call: act.call,
            result: act.result,
            facts: act.facts,
            processes,
            frames,
            findings: Vec::new(),
        });
        Ok(())
    }

    /// Adds to the last step what it shows, whether that was `seen`, and why it is so.
    pub fn finding(&mut self, says: &str, seen: bool, why: &str) {
        if let Some(step) = self.steps.last_mut() {
            step.findings.push(Finding {
                says: says.to_owned(),
                seen,
                why: why.to_owned(),
            });
        }
    }

    /// The frame that a page of a process led to in the last step; `None` if to none.
    #[must_use]
    pub fn pfn(&self, name: &str, page: usize) -> Option<u64> {
        let page = self.page(name, page)?;
        match page.pte {
            Some(pte) => pte.present.then_some(pte.pfn),
            None => page.pagemap.pfn,
        }
    }

    /// The entry of a page of a process in the last step; `None` if the table could not be read.
    #[must_use]
    pub fn pte(&self, name: &str, page: usize) -> Option<Entry> {
        self.page(name, page)?.pte
    }

    /// The driver's frame.
    #[must_use]
    pub fn drivers_pfn(&self) -> Option<u64> {
        self.drivers
    }

    /// What a frame held in the last step.
    #[must_use]
    pub fn frame(&self, pfn: Option<u64>) -> Option<&Frame> {
        let frames = &self.steps.last()?.frames;
        frames.iter().find(|frame| Some(frame.pfn) == pfn)
    }

    /// The VMAs of a process in the last step.
    #[must_use]
    pub fn vmas(&self, name: &str) -> &[Area] {
        self.process(name).map_or(&[], |process| &process.vmas)
    }

    /// How many of the watched pages of a process were mapped in the last step.
    #[must_use]
    pub fn nr_present(&self, name: &str) -> usize {
        let nr_pages = self.process(name).map_or(0, |process| process.pages.len());
        let mapped = |page: &usize| self.pfn(name, *page).is_some();
        (0..nr_pages).filter(mapped).count()
    }

    /// All that was recorded.
    #[must_use]
    pub fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    fn process(&self, name: &str) -> Option<&Process> {
        let processes = &self.steps.last()?.processes;
        processes.iter().find(|process| process.name == name)
    }

    fn page(&self, name: &str, page: usize) -> Option<&Page> {
        self.process(name)?.pages.get(page)
    }

    /// The frames of few pages, and the driver's.
    fn frames(&self, processes: &[Process]) -> Result<Vec<Frame>> {
        let pages: Vec<_> = processes.iter().flat_map(|it| &it.pages).collect();
        let mut pfns: BTreeSet<u64> = self.drivers.into_iter().collect();
        if pages.len() <= FEW_PAGES {
            for page in pages {
                let from_table = page.pte.filter(|pte| pte.present).map(|pte| pte.pfn);
                pfns.extend(from_table.or(page.pagemap.pfn));
            }
        }
        let look = |pfn| Frame::look(pfn, self.drivers == Some(pfn));
        pfns.into_iter().map(look).collect()
    }
}

fn look_at(watched: &Watched) -> Result<Process> {
    let Watched {
        name,
        pid,
        table,
        pages,
        ended,
    } = watched;
    let mut process = Process {
        name: name.clone(),
        pid: pid.as_raw(),
        ended: *ended,
        vmas: Vec::new(),
        pages: Vec::new(),
    };
    if *ended {
        return Ok(process);
    }
    let shows = |vma: &Vma| {
        let mut addrs = pages.iter().map(|(_, addr)| addr);
        addrs.any(|addr| vma.start <= *addr && *addr < vma.end)
    };
    let vmas = procfs::areas(*pid)?.into_iter().filter(shows);
    process.vmas = vmas.map(area).collect();
    for (label, addr) in pages {
        process.pages.push(Page {
            label: label.clone(),
            addr: *addr,
            pte: table.map(|table| table.entry(*addr)).transpose()?,
            pagemap: procfs::map_entry(*pid, *addr)?,
        });
    }
    Ok(process)
}

fn area(vma: Vma) -> Area {
    Area {
        start: vma.start,
        end: vma.end,
        mode: vma.mode,
        offset: vma.offset,
        name: vma.name,
        flags: vma.flags,
    }
}
