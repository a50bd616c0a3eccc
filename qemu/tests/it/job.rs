//! What host and guest say to each other.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use lab::job::{
    Command, Ending, Event, Job, KTAP_PATH, KTAP_PORT, Module, Order, PORTS_DIR, Program, Refusal,
    Section, Shell, WindowSize, Work,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn there_and_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    value: &T,
) -> String {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value);
    assert!(!text.contains('\n'), "one line each: {text}");
    text
}

#[test]
fn order_survives_the_way_with_arguments_that_are_not_utf8() {
    let mut program = Program::new([OsString::from("cat"), OsString::from_vec(vec![b'a', 0xff])]);
    program.env.push(("KEY".into(), "value with spaces".into()));
    let work = Work::Programs(vec![program]);
    let job = Job {
        module: Some(Module::mmapdemo("pages=2")),
        work,
        ending: Ending::PowerCut,
        debugged: true,
    };
    let text = there_and_back(&Order {
        job,
        mark: "0f".into(),
    });
    assert!(text.contains(r#"["cat",[97,255]]"#), "{text}");
}

#[test]
fn order_for_a_shell_survives_the_way() {
    let size = WindowSize {
        rows: 40,
        columns: 120,
    };
    let work = Work::Shell(Shell {
        term: "xterm".into(),
        size,
    });
    there_and_back(&Order {
        job: Job {
            module: None,
            work,
            ending: Ending::PowerOff,
            debugged: false,
        },
        mark: String::new(),
    });
}

#[test]
fn every_event_survives_the_way() {
    let refusal = Refusal {
        errno: 8,
        text: "Exec format error (os error 8)".into(),
    };
    for event in [
        Event::Awaiting { taint: 0 },
        Event::Awake,
        Event::Ready {
            release: "7.3.4".into(),
            uptime_ms: 1620,
            taint: 0,
        },
        Event::ModuleLoaded,
        Event::AwaitsDebugger {
            sections: vec![Section {
                name: ".text".into(),
                addr: 0xffff_ffff_c020_1000,
            }],
        },
        Event::ModuleRefused(refusal.clone()),
        Event::Started { program: 0 },
        Event::NotStarted {
            program: 1,
            refusal: refusal.clone(),
        },
        Event::Exited {
            program: 0,
            code: 42,
        },
        Event::Signaled {
            program: 0,
            signal: 11,
        },
        Event::Leftovers { count: 2 },
        Event::ModuleUnloaded,
        Event::UnloadRefused(refusal),
        Event::ModuleGone,
        Event::Failed { why: "a\nb".into() },
        Event::AwaitsCut { taint: 0 },
        Event::Down { taint: 12288 },
    ] {
        there_and_back(&event);
    }
}

#[test]
fn commands_survive_the_way() {
    there_and_back(&Command::Bye);
    there_and_back(&Command::Go);
    there_and_back(&Command::Begin {
        order: Order {
            job: Job {
                module: Some(Module::mmapdemo("pages=4")),
                work: Work::Programs(vec![Program::new(["true"])]),
                ending: Ending::PowerOff,
                debugged: false,
            },
            mark: "0f".into(),
        },
        len: 1 << 20,
    });
    there_and_back(&Command::Wake {
        now: Duration::new(1, 999_999_999),
        seed: vec![0, 255],
    });
    let text = there_and_back(&Command::Resize(WindowSize {
        rows: 1,
        columns: 2,
    }));
    assert_eq!(text, r#"{"resize":{"rows":1,"columns":2}}"#);
}

#[test]
fn results_go_to_their_port() {
    assert_eq!(KTAP_PATH, format!("{PORTS_DIR}/{KTAP_PORT}"));
}
