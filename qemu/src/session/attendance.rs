//! A debugger's attendance at a run: who waits for whom, and what its end means.

use std::os::fd::BorrowedFd;

use anyhow::{Result, bail};

use crate::debugger::{self, Begin, Begun, Gdb};
use crate::job::Section;

/// Where it stands.
pub(super) struct Attendance {
    /// What begins it, until it has begun.
    begin: Option<Begin>,
    gdb: Option<Gdb>,
    /// Whether the guest's work waits for a debugger to hold the guest.
    work_waits: bool,
    /// gdb's end, until it is known whether it has let the guest go.
    ended: Option<Ended>,
    /// Whether nobody looks any more at a guest that has ended.
    left: bool,
}

/// gdb's end.
struct Ended {
    how: String,
    /// Whether a person has typed there, who does not see that the lab is back.
    at_terminal: bool,
}

impl Attendance {
    pub(super) fn new(begin: Begin) -> Self {
        Self {
            begin: Some(begin),
            gdb: None,
            work_waits: false,
            ended: None,
            left: false,
        }
    }

    /// The guest waits, and its module is there. Returns whether it is to go on at once.
    pub(super) fn begin(&mut self, sections: &[Section]) -> Result<bool> {
        let Some(begin) = self.begin.take() else {
            return Ok(true);
        };
        match begin(sections)? {
            Begun::Here(gdb) => {
                self.gdb = Some(gdb);
                self.work_waits = true;
            }
            Begun::Elsewhere => self.work_waits = true,
            Begun::AtLeisure => {}
        }
        Ok(!self.work_waits)
    }

    /// A debugger holds the guest, or has held it. Returns whether the guest waited for that, and is to go on when
    /// it is let.
    pub(super) fn held(&mut self) -> bool {
        std::mem::take(&mut self.work_waits)
    }

    /// Readable once gdb has ended, if it runs.
    pub(super) fn ended(&self) -> Option<BorrowedFd<'_>> {
        self.gdb.as_ref().map(Gdb::exited)
    }

    /// Returns whether gdb has ended since the last look. It should have let the guest go, which QEMU knows.
    pub(super) fn end(&mut self) -> Result<bool> {
        let Some(gdb) = &mut self.gdb else {
            return Ok(false);
        };
        let Some(status) = gdb.ended()? else {
            return Ok(false);
        };
        gdb.note(status);
        let at_terminal = gdb.has_terminal();
        // The terminal is the lab's again.
        self.gdb = None;
        let how = debugger::describe(status);
        if self.work_waits {
            bail!("gdb {how} before it had attached to the guest; nothing has run there");
        }
        self.ended = Some(Ended { how, at_terminal });
        Ok(true)
    }

    /// What QEMU answers: whether the guest runs.
    pub(super) fn answered(&mut self, running: bool) -> Result<()> {
        match self.ended.take() {
            Some(Ended { how, .. }) if !running => {
                bail!("gdb {how} and left the guest stopped, so it was ended there")
            }
            Some(Ended {
                at_terminal: true, ..
            }) => {
                eprintln!("  gdb has ended, and the guest goes on; Ctrl-C ends it");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The guest is gone, and gdb has ended, or is to end now.
    pub(super) fn finish(&mut self, now: bool) -> Result<()> {
        match self.gdb.take() {
            Some(mut gdb) if !now => gdb.wait(),
            _ => Ok(()),
        }
    }

    /// The guest has ended, and stays only for gdb. Returns, once, whether nobody looks at it any more.
    pub(super) fn leave(&mut self) -> bool {
        self.gdb.is_none() && !std::mem::replace(&mut self.left, true)
    }

    /// Whether an answer to that is waited for.
    pub(super) fn asks(&self) -> bool {
        self.ended.is_some()
    }
}
