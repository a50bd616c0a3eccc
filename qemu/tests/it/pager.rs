//! `lab show` on a terminal, with what guests recorded.

use lab::exit_code::ExitCode;
use nix::sys::signal::Signal;

use crate::screen::Screen;

/// The alternate screen begins, and ends (xterm's control sequences, DECSET and DECRST 1049).
const ALTERNATE: &str = "\x1b[?1049h";
const USUAL: &str = "\x1b[?1049l";

/// What is done in the first step of the scenario, and in the second.
const FIRST: &str = "fills its page with 0x6b";
const SECOND: &str = "maps the device, shared";

/// Some of a recording.
fn pager(scenarios: &[&str]) -> Screen {
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/scenarios.json");
    let args = [&["show", "--from", recording], scenarios].concat();
    Screen::start(env!("CARGO_BIN_EXE_lab"), &args, (60, 120))
}

#[test]
fn keys_lead_forward_and_back_and_out_again() {
    let mut pager = pager(&["one-frame"]);
    pager.see(ALTERNATE);
    pager.see(FIRST);
    assert!(!pager.passes_lines_on());
    pager.press(" ");
    pager.see(SECOND);
    pager.press("b");
    pager.see(FIRST);
    pager.press("q");
    pager.see(USUAL);
    let (code, said) = pager.end();
    assert_eq!(code, 0, "{said}");
    assert!(pager.passes_lines_on());
}

#[test]
fn a_signal_ends_it_and_the_terminal_is_as_it_was() {
    let mut pager = pager(&[]);
    pager.see(ALTERNATE);
    pager.signal(Signal::SIGTERM);
    pager.see(USUAL);
    let (code, said) = pager.end();
    assert_eq!(code, i32::from(ExitCode::Interrupted.number()), "{said}");
    assert!(pager.passes_lines_on());
}
