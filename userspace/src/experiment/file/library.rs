//! Library: what a program that is linked dynamically maps before it starts.

use std::collections::HashMap;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::experiment::Experiment;
use crate::fixture::Fixture;

pub(super) const ALL: &[Experiment] = &[Experiment {
    name: "dynamic-program",
    summary: "Lets strace write down what pmap, a program linked to shared libraries, opens and maps when it starts, \
              and counts the mappings of libraries: shared, private, executable and writable ones.",
    run: dynamic_program,
}];

/// What has been seen of the mappings of libraries.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mapped {
    opened: u64,
    shared: u64,
    private: u64,
    executable: u64,
    writable: u64,
}

fn dynamic_program(_: &Fixture) -> Result<Evidence> {
    let mut evidence = Evidence::new();
    let mut strace = Command::new("strace");
    strace.args(["-e", "trace=openat,mmap", "pmap", "-V"]);
    let traced = strace.stdin(Stdio::null()).stdout(Stdio::null()).output();
    let traced = traced.map_err(Error::file("run", "strace"))?;
    evidence.note("program.succeeded", traced.status.success());
    let mapped = count(&String::from_utf8_lossy(&traced.stderr));
    evidence.note("libraries.opened", mapped.opened);
    evidence.note("libraries.mapped-shared", mapped.shared);
    evidence.note("libraries.mapped-private", mapped.private);
    evidence.note("libraries.code", mapped.executable);
    evidence.note("libraries.data", mapped.writable);
    Ok(evidence)
}

/// Follows descriptors from where they were opened to where they are mapped, see strace(1).
fn count(trace: &str) -> Mapped {
    let mut mapped = Mapped::default();
    let mut is_library = HashMap::new();
    for line in trace.lines() {
        let Some((call, result)) = line.rsplit_once(" = ") else {
            continue;
        };
        let Some((name, arguments)) = call.split_once('(') else {
            continue;
        };
        let arguments: Vec<_> = arguments.split(", ").collect();
        match (name, &arguments[..]) {
            ("openat", [_, path, ..]) => {
                let library = path.contains(".so.") && !path.contains("ld.so");
                mapped.opened += u64::from(library && !result.starts_with('-'));
                is_library.insert(result.to_owned(), library);
            }
            ("mmap", [_, _, prot, flags, fd, ..]) if is_library.get(*fd) == Some(&true) => {
                let has = |words: &str, word| u64::from(words.split('|').any(|it| it == word));
                mapped.shared += has(flags, "MAP_SHARED");
                mapped.private += has(flags, "MAP_PRIVATE");
                mapped.executable += has(prot, "PROT_EXEC");
                mapped.writable += has(prot, "PROT_WRITE");
            }
            _ => {}
        }
    }
    mapped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As strace writes it.
    const TRACE: &str = r#"mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f01
openat(AT_FDCWD, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = 3
mmap(NULL, 9000, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7f02
openat(AT_FDCWD, "/lib/libc.so.6", O_RDONLY|O_CLOEXEC) = 3
mmap(NULL, 2055640, PROT_READ, MAP_PRIVATE|MAP_DENYWRITE, 3, 0) = 0x7f03
mmap(0x7f04, 147, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED|MAP_DENYWRITE, 3, 0x28000) = 0x7f04
mmap(0x7f05, 24576, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_DENYWRITE, 3, 0x1fe000) = 0x7f05
openat(AT_FDCWD, "/lib/libnone.so.1", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)
+++ exited with 0 +++
"#;

    #[test]
    fn only_mappings_of_libraries_count() {
        let expected = Mapped {
            opened: 1,
            shared: 0,
            private: 3,
            executable: 1,
            writable: 1,
        };
        assert_eq!(count(TRACE), expected);
    }
}
