//! What the host does to a run, seen from outside the lab: as its users see it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::{DEATH, assert_ends};

/// A claim that takes one boot, and nothing beside the device.
const CLAIM: &str = "private-is-snapshot";

/// A run of the lab that has begun to show what a program in the guest says. Dropping it ends it.
struct Lab {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Reads what it says on standard error: a full pipe would hold it up.
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Lab {
    /// Waits for the first line on standard output.
    fn under_way(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.arg("--quiet").args(args).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let stderr = thread::spawn(move || {
            let mut said = Vec::new();
            stderr.read_to_end(&mut said).unwrap();
            said
        });
        let mut lab = Self {
            child,
            stdout: BufReader::new(stdout),
            stderr: Some(stderr),
        };
        let mut line = String::new();
        let len = lab.stdout.read_line(&mut line).unwrap();
        assert_ne!(len, 0, "nothing came: {:?}", lab.end());
        lab
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Reads the rest, and waits.
    fn end(mut self) -> Output {
        let mut stdout = Vec::new();
        self.stdout.read_to_end(&mut stdout).unwrap();
        let stderr = self.stderr.take().unwrap().join().unwrap();
        let status = self.child.wait().unwrap();
        Output {
            status,
            stdout,
            stderr,
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // One that was waited for is not killed (`Child::kill`); its guest ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process below `ancestor` that is a QEMU.
fn qemu_below(ancestor: Pid) -> Option<Pid> {
    let parent = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(") ")?;
        after_name.split(' ').nth(1)?.parse::<i32>().ok()
    };
    let is_below = |pid: i32| {
        std::iter::successors(Some(pid), |&pid| parent(pid).filter(|&parent| parent > 1))
            .any(|pid| pid == ancestor.as_raw())
    };
    let is_qemu = |pid: i32| {
        let argv = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        argv.split(|&byte| byte == 0)
            .any(|arg| arg == b"-no-reboot")
    };
    let entries = fs::read_dir("/proc").unwrap();
    let mut pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.find(|&pid| is_below(pid) && is_qemu(pid))
        .map(Pid::from_raw)
}

#[test]
fn a_qemu_that_is_killed() {
    let lab = Lab::under_way(&["exec", "--", "sh", "-c", "echo now; exec tail -f /dev/null"]);
    let qemu = qemu_below(lab.pid()).unwrap();
    let killed = Instant::now();
    kill(qemu, Signal::SIGKILL).unwrap();
    let output = lab.end();
    let took = killed.elapsed();
    assert_ends(
        &output,
        125,
        &["QEMU was killed by signal 9 during program 1"],
    );
    assert!(took < DEATH, "{took:?} after its death");
}

#[test]
fn a_run_that_is_interrupted() {
    let lab = Lab::under_way(&["run", CLAIM]);
    let qemu = qemu_below(lab.pid()).unwrap();
    kill(lab.pid(), Signal::SIGINT).unwrap();
    let output = lab.end();
    assert_ends(&output, 130, &["interrupted while running the experiments"]);
    assert!(
        !Path::new(&format!("/proc/{qemu}")).exists(),
        "QEMU is left"
    );
}

#[test]
fn a_run_that_nobody_reads() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["--quiet", "run", CLAIM])
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(Child::wait_with_output)
        .unwrap();
    assert_ends(&output, 16, &["output closed"]);
}

#[test]
fn a_disk_that_is_full() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let products = project.join("target/lab");
    fs::create_dir_all(&products).unwrap();
    // A file system of its own, seen by this run only; it goes with the run.
    let script = r#"mount -t tmpfs -o size=16k tmpfs "$1" && exec "$2" --quiet run "$3""#;
    let output = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(&products)
        .arg(env!("CARGO_BIN_EXE_lab"))
        .arg(CLAIM)
        .output()
        .unwrap();
    assert_ends(&output, 3, &["no space left on the device"]);
}

#[test]
fn a_download_that_stalls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let cache = tempfile::tempdir().unwrap();
    // The kernel completes connections on its own: the mirror is there, and never says a word.
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["--quiet", "prepare", "--mirror"])
        .arg(format!("http://127.0.0.1:{port}/debian"))
        .env("MMAPDEMO_CACHE", cache.path())
        .env_remove("http_proxy")
        .output()
        .unwrap();
    drop(listener);
    assert_ends(&output, 3, &["did not deliver", "next step: "]);
}
