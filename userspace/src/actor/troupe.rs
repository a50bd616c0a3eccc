//! Troupe: actors that have played a part, and wait for another.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Actor, Body};
use crate::error::Result;

/// The actors of a run. Dropping it ends those who wait.
///
/// To start a process and to see it end takes a million instructions, more than most parts, and the processor is
/// emulated. An actor that has nothing mapped any more is what it was when it was started: a process that is unrelated
/// to whoever asks for one.
#[derive(Debug, Default)]
pub struct Troupe(RefCell<Vec<Rc<RefCell<Body>>>>);

impl Troupe {
    /// An unrelated process that has nothing mapped: one that waits, or a new one.
    ///
    /// # Errors
    ///
    /// If there is none, and none can be started.
    pub fn cast(&self, name: &str) -> Result<Actor> {
        self.cast_or(name, || Actor::start(name))
    }

    fn cast_or(&self, name: &str, start: impl FnOnce() -> Result<Actor>) -> Result<Actor> {
        let mut members = self.0.borrow_mut();
        members.retain(|member| Rc::strong_count(member) > 1 || member.borrow().is_worth_keeping());
        let idle =
            |member: &&Rc<RefCell<Body>>| Rc::strong_count(member) == 1 && member.borrow().waits();
        if let Some(idle) = members.iter().find(idle) {
            idle.borrow_mut().rename(name);
            return Ok(Actor(Rc::clone(idle)));
        }
        let actor = start()?;
        members.push(Rc::clone(&actor.0));
        Ok(actor)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Watch, act};
    use super::*;
    use crate::object::{MemFile, Request};
    use crate::process::Process;
    use crate::sys::PAGE_SIZE;
    use crate::turn::Link;

    /// A process of this program, which has no command line to make it an actor.
    fn forked(name: &str) -> Result<Actor> {
        let (ours, theirs) = Link::pair(["the director", name])?;
        let mut theirs = Some(theirs);
        let process = Process::fork(name, || {
            let acted = theirs.take().map(|link| act(link, None));
            i32::from(!matches!(acted, Some(Ok(()))))
        })?;
        Ok(Actor::new(name, ours, process))
    }

    fn cast(troupe: &Troupe, name: &str) -> Actor {
        troupe.cast_or(name, || forked(name)).unwrap()
    }

    #[test]
    fn who_has_left_the_stage_is_cast_again_with_nothing_mapped() {
        let (troupe, file) = (Troupe::default(), MemFile::new(PAGE_SIZE).unwrap());
        let (mut a, b) = (cast(&troupe, "A"), cast(&troupe, "B"));
        a.map(&Request::shared(file.path())).unwrap();
        let of_a = a.pid();
        assert_ne!(of_a, b.pid());
        drop(a);
        let mut c = cast(&troupe, "C");
        assert_eq!(c.pid(), of_a);
        let error = c.addr().unwrap_err().to_string();
        assert!(
            error.contains('C') && error.contains("nothing is mapped"),
            "{error}"
        );
    }

    #[test]
    fn who_was_killed_or_still_owes_an_answer_is_not_cast_again() {
        let (troupe, file) = (Troupe::default(), MemFile::new(PAGE_SIZE).unwrap());
        let (a, mut b) = (cast(&troupe, "A"), cast(&troupe, "B"));
        b.map(&Request::shared(file.path())).unwrap();
        b.watch(Watch {
            offset: 0,
            word: 1,
            timeout: Duration::from_secs(60),
            then: (0, 1),
        })
        .unwrap();
        let before = [a.pid(), b.pid()];
        a.kill().unwrap();
        drop(b);
        assert!(!before.contains(&cast(&troupe, "C").pid()));
    }
}
