//! The kernel's own search for memory that nothing points to any more (`Documentation/dev-tools/kmemleak.rst`).

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::job::Event;

/// Where it is asked, and answers.
const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";

/// The kernel says nothing of objects that are younger (`MSECS_MIN_AGE` in `mm/kmemleak.c`); and no event tells when
/// one has come of age.
const MIN_AGE: Duration = Duration::from_secs(5);

/// The first search remembers what the objects hold, and the second reports those in which nothing has changed.
const SEARCHES: usize = 2;

/// How each object's report begins.
const OBJECT: &str = "unreferenced object ";

/// Has the kernel search, if it can.
pub(crate) fn scan() -> Result<Option<Event>> {
    if !Path::new(KMEMLEAK).exists() {
        return Ok(None);
    }
    thread::sleep(MIN_AGE);
    for _ in 0..SEARCHES {
        match fs::write(KMEMLEAK, "scan") {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(error).context(
                    "failed to search for leaks: kmemleak has given up, the console says why",
                );
            }
            done => done.with_context(|| format!("failed to write {KMEMLEAK}"))?,
        }
    }
    let found =
        fs::read_to_string(KMEMLEAK).with_context(|| format!("failed to read {KMEMLEAK}"))?;
    Ok(Some(event(&found)))
}

fn event(found: &str) -> Event {
    let is_first = |line: &&str| line.starts_with(OBJECT);
    let mut lines = found.lines().skip_while(|line| !is_first(line));
    let first = lines.next().into_iter();
    let report = first.chain(lines.take_while(|line| !is_first(line)));
    Event::Scanned {
        unreferenced: found.lines().filter(is_first).count(),
        report: report.collect::<Vec<_>>().join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: &str = "unreferenced object 0xffff88800389c000 (size 64):\n  comm \"init\", pid 1, jiffies 4294\n  \
        backtrace (crc 0):\n    __kmalloc_noprof+0x1\nunreferenced object 0xffff888003890000 (size 32):\n  comm \"x\"\n";

    #[test]
    fn objects_are_counted_and_the_first_is_quoted() {
        let Event::Scanned {
            unreferenced,
            report,
        } = event(FOUND)
        else {
            panic!("another event");
        };
        assert_eq!(unreferenced, 2);
        assert!(
            report.starts_with(OBJECT) && report.ends_with("__kmalloc_noprof+0x1"),
            "{report}"
        );
    }

    #[test]
    fn nothing_found_is_nothing_said() {
        let nothing = Event::Scanned {
            unreferenced: 0,
            report: String::new(),
        };
        assert_eq!(event(""), nothing);
    }
}
