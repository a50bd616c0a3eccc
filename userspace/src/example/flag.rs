//! A flag that another process sees.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::child::done;
use super::{Example, Story};
use crate::error::Result;
use crate::object::Request;
use crate::process::Process;
use crate::sys::Mapping;
use crate::turn::TURN;

pub(super) const EXAMPLE: Example = Example {
    name: "flag",
    source: "000, common problems 3",
    about: "raise a flag, atomically, for another process",
    right,
    as_written: Some(as_written),
};

const FLAG: usize = 0;
const PAYLOAD: usize = 64;
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the flag was raised in time.
fn raised(mapping: &Mapping) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    while mapping.word(FLAG)?.load(Ordering::Acquire) == 0 {
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::yield_now();
    }
    Ok(true)
}

fn right() -> Result<Story> {
    let mut story = Story::default();
    let mapping = Request::anonymous(libc::MAP_SHARED).map()?;
    let child = Process::fork("the child", || {
        let raise = || {
            mapping.word(PAYLOAD)?.store(42, Ordering::Relaxed);
            mapping.word(FLAG)?.store(1, Ordering::Release);
            Ok::<_, crate::error::Error>(())
        };
        raise().map_or(1, |()| 0)
    })?;
    let raised = raised(&mapping)?;
    let payload = mapping.word(PAYLOAD)?.load(Ordering::Relaxed);
    child.wait(TURN)?;
    story.did("put the flag into a shared mapping; the child stored 42 beside it and raised it");
    story.expect(
        raised && payload == 42,
        format!("the parent sees the flag and the {payload}"),
    );
    story.why("The flag is where both look, and by release and acquire it brings along what was stored before.");
    Ok(story)
}

fn as_written() -> Result<Story> {
    let mut story = Story::default();
    let flag = AtomicU32::new(0);
    done("the child", || {
        flag.store(1, Ordering::SeqCst);
        Ok(())
    })?;
    let outside = flag.load(Ordering::SeqCst);
    story.did("kept the flag in an ordinary variable; a forked child raised it with sequential consistency");
    story.expect(
        outside == 0,
        "the parent's flag is still 0 when the child has ended",
    );
    story.why(
        "Atomic says how a store is made, not where. An ordinary variable is private memory: the child raised \
         its own copy.",
    );
    Ok(story)
}
