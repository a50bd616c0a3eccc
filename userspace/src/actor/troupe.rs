//! Troupe: actors that have played a part, and wait for another.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::{Actor, Body};
use crate::error::Result;

/// The actors of a run. Dropping it ends those who wait.
///
/// To start a process and to see it end takes a million instructions, more than most parts, and the processor is
/// emulated. An actor that has unmapped what it was told to map will do for another part: a process that is unrelated to
/// whoever asks for one. Its heap and its layout have a past.
#[derive(Debug, Default)]
pub struct Troupe(RefCell<Vec<Rc<RefCell<Body>>>>);

impl Troupe {
    /// An unrelated process that has nothing mapped of what it was told to map: one that waits, or a new one.
    ///
    /// # Errors
    ///
    /// If there is none, and none can be started.
    pub fn cast(&self, name: &str) -> Result<Actor> {
        self.cast_or(name, || Actor::start(name))
    }

    fn cast_or(&self, name: &str, start: impl FnOnce() -> Result<Actor>) -> Result<Actor> {
        let mut members = self.0.borrow_mut();
        let is_idle = |member: &Rc<RefCell<Body>>| Rc::strong_count(member) == 1;
        let is_alive = |member: &Rc<RefCell<Body>>| {
            matches!(
                member.borrow().process.ends_within(Duration::ZERO),
                Ok(false)
            )
        };
        members.retain(|member| !is_idle(member) || is_alive(member));
        if let Some(idle) = members.iter().find(|member| is_idle(member)) {
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
    use nix::errno::Errno;
    use nix::sys::signal::{Signal, kill};

    use super::super::{Watch, act};
    use super::*;
    use crate::object::{MemFile, Request};
    use crate::process::Process;
    use crate::sys::PAGE_SIZE;
    use crate::turn::{Link, TURN};

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
        // Not even mapped any more: it was spinning.
        assert_eq!(kill(before[1], None), Err(Errno::ESRCH));
        assert!(!before.contains(&cast(&troupe, "C").pid()));
    }

    #[test]
    fn who_died_while_waiting_is_not_cast_again() {
        let troupe = Troupe::default();
        let pid = cast(&troupe, "A").pid();
        kill(pid, Signal::SIGKILL).unwrap();
        let ended = troupe.0.borrow()[0].borrow().process.ends_within(TURN);
        assert!(ended.unwrap());
        let mut b = cast(&troupe, "B");
        assert_ne!(b.pid(), pid);
        assert!(
            b.addr()
                .unwrap_err()
                .to_string()
                .contains("nothing is mapped")
        );
    }
}
