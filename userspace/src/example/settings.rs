//! The system's settings that decide how much may be mapped, and in pages of what size.

use std::fs;

use super::{Example, Story};
use crate::error::{Error, Result};
use crate::procfs;

pub(super) const EXAMPLE: Example = Example {
    name: "settings",
    source: "004, Redis; 000, tools",
    about: "show the settings for overcommit and huge pages, and what sets them",
    right,
    as_written: None,
};

const MODE: &str = "/proc/sys/vm/overcommit_memory";
const RATIO: &str = "/proc/sys/vm/overcommit_ratio";
const HUGE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

fn setting(path: &'static str) -> Result<String> {
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    Ok(text.trim().to_owned())
}

fn right() -> Result<Story> {
    let mut story = Story::default();
    let (mode, ratio) = (setting(MODE)?, setting(RATIO)?);
    story.did(format!("read {MODE} and its neighbours"));
    let meaning = match mode.as_str() {
        "0" => "what is obviously too much is refused",
        "1" => "everything is promised",
        "2" => "no more is promised than CommitLimit",
        _ => "unknown",
    };
    story.expect(
        meaning != "unknown",
        format!("overcommit_memory is {mode}: {meaning}"),
    );
    let memory = procfs::memory()?;
    let mib = |bytes: u64| bytes >> 20;
    story.expect(
        memory.limit > 0,
        format!(
            "overcommit_ratio is {ratio}; CommitLimit {} MiB, promised so far {} MiB",
            mib(memory.limit),
            mib(memory.committed)
        ),
    );
    story.did(format!("read {HUGE}"));
    let huge = fs::read_to_string(HUGE);
    let chosen = huge.as_deref().map(|text| text.split(['[', ']']).nth(1));
    match chosen {
        Ok(chosen) => {
            let chosen = chosen.unwrap_or("nothing");
            let known = ["always", "madvise", "never"].contains(&chosen);
            story.expect(known, format!("transparent huge pages: {chosen}"));
        }
        Err(_) => {
            story.why("It is absent: this kernel was built without CONFIG_TRANSPARENT_HUGEPAGE.");
        }
    }
    story.why(
        "They are settings of the kernel, for all processes: root sets them with sysctl(8) (for every boot in \
         /etc/sysctl.conf), the second by writing a word to the file. A program's own configuration file is no \
         place for them.",
    );
    Ok(story)
}
