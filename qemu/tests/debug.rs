//! `lab debug` with real guests: gdb stops in the driver, shows where it is, and lets the guest go. And what an editor
//! is told about the driver and the kernel.
//!
//! Uses the cache that `lab` itself uses, and fills it if need be.
#![expect(
    clippy::unwrap_used,
    reason = "what helps a test may panic as the test may"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use assert_cmd::Command;
use lab::exit_code::ExitCode;
use serde::Deserialize;

/// After that, the lab hangs.
const HUNG: Duration = Duration::from_secs(20 * 60);

/// Maps the node whose pages come by faults, and stores into the first.
const MAP_AND_TOUCH: &str = "mkfifo /tmp/said; mmapdemo --device /dev/mmapdemo-fault writer hello 2> /tmp/said & head -n 1 /tmp/said";

/// One guest at a time: each takes two processors, and their times are compared with deadlines.
static MACHINE: Mutex<()> = Mutex::new(());

/// Runs `lab debug` to its end.
fn debug(args: &[&str]) -> (Option<i32>, String, String) {
    // What another test has found is no reason not to find more.
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["--quiet", "debug"])
        .args(args)
        .timeout(HUNG)
        .output()
        .unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|said| String::from_utf8(said).unwrap());
    println!("{stdout}\n{stderr}");
    (status.code(), stdout, stderr)
}

/// Where `code` stands in a source of the driver, as gdb's commands and answers have it.
fn place(file: &str, code: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../driver")
        .join(file);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = (1..).zip(text.lines()).collect();
    let mut found = lines.iter().filter(|(_, line)| line.contains(code));
    let (number, _) = found.next().unwrap();
    assert!(found.next().is_none(), "more than one {code}");
    format!("driver/{file}:{number}")
}

/// The functions of each backtrace, the innermost first.
fn backtraces(said: &str) -> Vec<Vec<&str>> {
    let mut traces: Vec<Vec<&str>> = Vec::new();
    for line in said.lines().filter(|line| line.starts_with('#')) {
        if line.starts_with("#0 ") {
            traces.push(Vec::new());
        }
        traces.last_mut().unwrap().push(line);
    }
    traces
}

#[test]
fn breakpoints_in_the_driver_are_hit_with_their_lines_and_the_kernels_functions_above() {
    let mmap = place("device.rs", "strategy.show(Window::new(");
    let fault = place("raw.rs", "(*vmf).page = page.into_referenced()");
    let commands = [
        format!("break {mmap}"),
        format!("break {fault}"),
        "continue".into(),
        "backtrace".into(),
        "list".into(),
        // Longer than the program may take: while the guest is held, no time passes for it.
        "shell sleep 35".into(),
        "continue".into(),
        "backtrace".into(),
    ];
    let mut args = vec![
        "--timeout",
        "30",
        "--sh",
        MAP_AND_TOUCH,
        "--",
        "-nh",
        "-batch",
    ];
    args.extend(commands.iter().flat_map(|command| ["-ex", command]));
    let (code, said, _) = debug(&args);
    assert_eq!(code, Some(0));
    let traces = backtraces(&said);
    assert_eq!(traces.len(), 2);
    for (trace, place, functions) in [
        (
            &traces[0],
            &mmap,
            [
                "::mmap",
                "mmap_region",
                "do_mmap",
                "vm_mmap_pgoff",
                "do_syscall_64",
            ],
        ),
        (
            &traces[1],
            &fault,
            [
                "::fault",
                "__do_fault",
                "handle_mm_fault",
                "do_user_addr_fault",
                "exc_page_fault",
            ],
        ),
    ] {
        assert!(
            trace.iter().any(|line| line.ends_with(place.as_str())),
            "{place}"
        );
        // From the inside to the outside.
        let mut rest = trace.iter();
        for function in functions {
            assert!(
                rest.any(|line| line.contains(function)),
                "{function} in {trace:?}"
            );
        }
    }
    // From the source itself, which gdb has found.
    assert!(said.contains("strategy.show(Window::new(vma, node.into())?)"));
    assert!(said.contains("(vmf=0xffff"), "arguments");
    // And the guest went on to its end.
    assert!(said.contains("left 5 bytes"));
}

#[test]
fn gdb_that_ends_otherwise_than_it_should_is_the_end_of_the_run() {
    let broke = Some(i32::from(ExitCode::LabBroke.number()));
    let kill = "shell kill -KILL $PPID";
    let (code, said, errors) = debug(&["--sh", "echo went on", "--", "-nh", "-batch", "-ex", kill]);
    assert_eq!(code, broke);
    assert!(errors.contains("gdb was killed by signal 9 and left the guest stopped"));
    assert!(!said.contains("went on"));
    let (code, said, errors) = debug(&["--gdb", "false", "--sh", "echo went on"]);
    assert_eq!(code, broke);
    assert!(errors.contains("gdb ended with status 1 before it had attached"));
    assert!(!said.contains("went on"));
}

#[test]
fn what_the_guest_does_and_what_gdb_says_of_itself_decide_the_status() {
    let (code, _, errors) = debug(&["--sh", "exit 3", "--", "-nh", "-batch", "-ex", "continue"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("exited with 3"), "{errors}");
    let (code, ..) = debug(&["--sh", "true", "--", "-nh", "-batch", "-ex", "quit 7"]);
    assert_eq!(code, Some(1));
    // The guest has powered off, and is there to be looked at.
    let mut args = vec!["--sh", "echo went on", "--", "-nh", "-batch"];
    for command in [
        "continue",
        "backtrace",
        "show debuginfod enabled",
        "shell env",
    ] {
        args.extend(["-ex", command]);
    }
    let (code, said, _) = debug(&args);
    assert_eq!(code, Some(0));
    assert!(
        said.contains("went on") && said.contains("received signal SIGQUIT"),
        "{said}"
    );
    // gdb has Debian's Python with it; what is run from there has the host's.
    assert!(
        said.contains("PATH=") && !said.contains("PYTHONHOME="),
        "{said}"
    );
    assert!(
        said.contains("Debuginfod functionality is currently set to \"off\""),
        "{said}"
    );
}

#[test]
fn whoever_asks_the_lab_to_stop_does_not_wait_for_gdb() {
    // gdb's parent is the lab (proc(5)).
    let stop = "shell read -r _ _ _ lab _ < /proc/$PPID/stat; kill $lab; exec sleep 86400";
    let endless = [
        "--timeout",
        "5",
        "--sh",
        "sleep 86400",
        "--",
        "-nh",
        "-batch",
    ];
    let (code, ..) = debug(&[&endless[..], &["-ex", "continue", "-ex", stop]].concat());
    assert_eq!(code, Some(i32::from(ExitCode::TimedOut.number())));
}

/// The parts of rust-project.json that are checked.
#[derive(Deserialize)]
struct Project {
    sysroot: PathBuf,
    crates: Vec<Crate>,
}

#[derive(Deserialize)]
struct Crate {
    display_name: String,
    root_module: PathBuf,
    deps: Vec<Dependency>,
    cfg: Vec<String>,
    env: BTreeMap<String, String>,
    source: Source,
    proc_macro_dylib_path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Dependency {
    #[serde(rename = "crate")]
    index: usize,
    name: String,
}

#[derive(Deserialize)]
struct Source {
    include_dirs: Vec<PathBuf>,
}

#[test]
fn editor_is_told_of_crates_and_files_that_are_there() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("driver")).unwrap();
    let sources = fs::read_dir(project.join("driver")).unwrap();
    let sources = sources.map(|entry| entry.unwrap().path());
    let sources = sources.filter(|path| path.extension().is_some_and(|it| it == "rs"));
    for path in sources.chain([project.join("Kbuild")]) {
        let path = path.strip_prefix(project).unwrap();
        fs::copy(project.join(path), tree.path().join(path)).unwrap();
    }
    let lab = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["--quiet", "editor", "--driver"])
        .arg(tree.path())
        .timeout(HUNG)
        .assert()
        .success();
    let said = String::from_utf8(lab.get_output().stdout.clone()).unwrap();
    let text = fs::read(said.trim_end()).unwrap();
    let Project { sysroot, crates } = serde_json::from_slice(&text).unwrap();
    for known in &crates {
        let dirs = &known.source.include_dirs;
        let objects = known.env.get("OBJTREE").map(PathBuf::from);
        for path in dirs
            .iter()
            .chain(&known.proc_macro_dylib_path)
            .chain(&objects)
        {
            assert!(path.exists(), "{}: {}", known.display_name, path.display());
        }
        assert!(
            known.root_module.is_file(),
            "{}",
            known.root_module.display()
        );
        for Dependency { index, name } in &known.deps {
            assert_eq!(&crates[*index].display_name, name);
        }
    }
    let named = |name: &str| crates.iter().find(|it| it.display_name == name).unwrap();
    let driver = named("mmapdemo");
    let root = tree
        .path()
        .canonicalize()
        .unwrap()
        .join("driver/mmapdemo.rs");
    assert_eq!(driver.root_module, root);
    assert!(driver.cfg.iter().any(|cfg| cfg == "CONFIG_RUST"));
    for name in ["core", "kernel", "pin_init"] {
        assert!(driver.deps.iter().any(|it| it.name == name), "{name}");
    }
    for macros in ["macros", "pin_init_internal"] {
        assert!(named(macros).proc_macro_dylib_path.is_some(), "{macros}");
    }
    let rustc = Command::new(sysroot.join("bin/rustc"))
        .arg("--version")
        .assert();
    rustc
        .success()
        .stdout(predicates::str::starts_with("rustc "));
    // It says what it is for, and that it runs.
    let server = sysroot.join("libexec/rust-analyzer-proc-macro-srv");
    let server = Command::new(server).assert();
    server.stderr(predicates::str::contains("IDE implementation detail"));
}
