//! The lab on a terminal: who gets the keys, in the guest's shell and beside gdb, what is shown meanwhile, and that the
//! terminal is as it was when the lab has ended.
//!
//! Uses the cache that `lab` itself uses, and fills it if need be.
#![expect(
    clippy::unwrap_used,
    reason = "what helps a test may panic as the test may"
)]

mod screen;

use lab::exit_code::ExitCode;
use screen::Screen;

/// Rows and columns.
const SIZE: (u16, u16) = (30, 100);

const CTRL_C: &str = "\x03";
const CTRL_BRACKET: &str = "\x1d";

/// The prompt of the guest's shell.
const PROMPT: &str = "@guest:";
const GDB: &str = "(gdb) ";

fn lab(args: &[&str]) -> Screen {
    Screen::start(env!("CARGO_BIN_EXE_lab"), args, SIZE)
}

/// What ends the lab that was asked to stop.
fn interrupted() -> i32 {
    ExitCode::Interrupted.number().into()
}

#[test]
fn the_guests_shell_has_the_keys_and_the_terminals_size() {
    let mut lab = lab(&["--quiet", "shell"]);
    lab.see(PROMPT);
    assert!(!lab.passes_lines_on());
    lab.enter("stty size");
    lab.see("30 100");
    lab.resize(33, 111);
    lab.enter("until [ \"$(stty size)\" = '33 111' ]; do :; done; echo grown-$((1 + 1))");
    lab.see("grown-2");
    lab.enter("echo begun-$((1 + 1)); sleep 86400");
    lab.see("begun-2");
    lab.press(CTRL_C);
    lab.see(PROMPT);
    lab.enter("echo went-on-$((1 + 1))");
    lab.see("went-on-2");
    lab.enter("exit 3");
    let (code, said) = lab.end();
    assert_eq!(code, 0, "{said}");
    assert!(lab.passes_lines_on());
}

#[test]
fn a_person_can_leave_a_guest_that_does_not_listen() {
    let mut lab = lab(&["--quiet", "shell"]);
    lab.see(PROMPT);
    lab.enter("trap '' INT; echo begun-$((1 + 1)); while :; do :; done");
    lab.see("begun-2");
    lab.press(CTRL_C);
    lab.press(CTRL_BRACKET);
    let (code, said) = lab.end();
    assert_eq!(code, interrupted(), "{said}");
    assert!(lab.passes_lines_on());
}

#[test]
fn gdb_has_the_keys_until_it_ends_and_then_the_lab_has_them() {
    let script = "while echo on-$((1 + 1)); do sleep 1; done";
    let endless = ["--quiet", "debug", "--sh", script, "--", "-nh"];
    let mut lab = lab(&[&endless[..], &["-ex", "set pagination off"]].concat());
    lab.see(GDB);
    lab.enter("break vm_mmap_pgoff");
    lab.see("Breakpoint 1 at ");
    lab.enter("continue");
    lab.see("Breakpoint 1, ");
    lab.enter("backtrace");
    lab.see("do_syscall_64");
    lab.enter("delete");
    lab.enter("continue");
    lab.see("on-2");
    // For gdb, which stops the guest.
    lab.press(CTRL_C);
    lab.see("received signal SIGINT");
    lab.see(GDB);
    lab.enter("quit");
    lab.see("gdb has ended, and the guest goes on");
    // For the lab, which ends.
    lab.press(CTRL_C);
    let (code, said) = lab.end();
    assert_eq!(code, interrupted(), "{said}");
    assert!(lab.passes_lines_on());
}

#[test]
fn gdb_attaches_from_another_terminal_to_a_guest_with_a_shell() {
    let mut lab = lab(&["debug"]);
    let line = lab.see_like("gdb, in another terminal: [^\r]+");
    let script = line.trim_end().rsplit(": ").next().unwrap();
    lab.see(PROMPT);
    let mut args = vec!["-nh", "-batch", "-ex", "set pagination off"];
    for command in ["break __do_fault", "continue", "backtrace", "detach"] {
        args.extend(["-ex", command]);
    }
    let mut gdb = Screen::start(script, &args, SIZE);
    // From there on the guest is held, and what is typed waits.
    gdb.see("Breakpoint 1 at ");
    lab.enter("mmapdemo --device /dev/mmapdemo-fault writer hello &");
    gdb.see("Breakpoint 1, ");
    gdb.see("handle_mm_fault");
    let (code, said) = gdb.end();
    assert_eq!(code, 0, "{said}");
    lab.enter("echo went-on-$((1 + 1))");
    lab.see("went-on-2");
    lab.enter("exit");
    let (code, said) = lab.end();
    assert_eq!(code, 0, "{said}");
}

#[test]
fn how_many_claims_have_been_judged_is_shown_behind_what_was_written() {
    let claims = [
        "private-no-copy-at-mmap",
        "shared-fork-inherits",
        "private-is-snapshot",
    ];
    let mut lab = lab(&[&["run"], &claims[..]].concat());
    lab.see("/dev/mmapdemo answers");
    lab.see("run mmapdemo");
    lab.see_like("[12] of 3");
    lab.see("3 claims planned, 3 run: 3 as expected");
    let (code, said) = lab.end();
    assert_eq!(code, 0, "{said}");
}
