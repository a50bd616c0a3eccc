//! Names of files that nobody would choose.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::scene::{CLAIM, Scene, said};

/// Parts of names, each a trap of its own: an option, white space, quotes, patterns, variables.
const NAMES: [&[u8]; 7] = [
    b"-rf",
    b"with space",
    b"new\nline",
    b"'quotes\"",
    b"*?[a]",
    b"$HOME `id`;",
    b"\xe2\x80\xae#{}\\",
];

/// One that is no UTF-8.
const NO_TEXT: &[u8] = b"caf\xe9\xff";

fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

#[test]
fn files_of_any_name_are_copied_and_written() {
    let scene = Scene::new();
    let dir = scene.dir().join("files");
    fs::create_dir(&dir).unwrap();
    let mut lab = scene.lab(&["--quiet", "exec"]);
    for bytes in NAMES {
        let path = dir.join(name(bytes));
        fs::write(&path, [bytes, b"\n"].concat()).unwrap();
        lab.arg("--copy").arg(&path);
    }
    let status = dir.join(name(NO_TEXT));
    // Each program gets the names as arguments, too.
    lab.arg("--status")
        .arg(&status)
        .args(["--", "cat", "--"])
        .args(NAMES.map(name));
    let output = lab.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let expected: Vec<u8> = NAMES.map(|bytes| [bytes, b"\n"].concat()).concat();
    assert_eq!(output.stdout, expected, "{}", said(&output));
    assert_eq!(fs::read(&status).unwrap(), b"exited 0\n");

    for bytes in [NAMES[0], NAMES[2], NO_TEXT] {
        let path = dir.join(name(bytes)).with_extension("json");
        let output = scene
            .lab(&["--quiet", "run", CLAIM])
            .arg("--json")
            .arg(&path)
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{path:?}: {}", said(&output));
        let text = fs::read(&path).unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap();
    }
    // In the guest's archive, paths are text.
    let path = dir.join(name(NO_TEXT));
    fs::write(&path, "").unwrap();
    let output = scene
        .lab(&["exec", "--copy"])
        .arg(&path)
        .args(["--", "true"])
        .output();
    let text = said(&output.unwrap());
    assert!(text.contains("not a path for the guest"), "{text}");
    scene.assert_nothing_left();
}

/// Copies what of the project is no product.
fn clone_to(to: &Path) {
    let project = lab::layout::Layout::find().unwrap().project;
    fs::create_dir_all(to).unwrap();
    for part in fs::read_dir(&project).unwrap() {
        let part = part.unwrap();
        if ![OsString::from("target"), ".git".into()].contains(&part.file_name()) {
            let mut copy = std::process::Command::new("cp");
            copy.args(["-a", "--"]).arg(part.path()).arg(to);
            assert!(copy.status().unwrap().success());
        }
    }
}

#[test]
fn a_clone_and_a_cache_may_have_spaces_and_quotes_in_their_names() {
    let scene = Scene::new();
    let clone = scene.dir().join("-it's a \"clone\" $(id) *");
    clone_to(&clone);
    let cache = scene.dir().join("-a 'cache' $(id) *");
    fs::rename(&scene.cache, &cache).unwrap();
    let mut lab = scene.lab(&["run", CLAIM]);
    let output = lab
        .env("MMAPDEMO_CACHE", &cache)
        .current_dir(&clone)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(clone.join("target/lab").is_dir(), "it was not built there");
    fs::rename(&cache, &scene.cache).unwrap();
    scene.assert_nothing_left();
    scene.assert_content();
}

#[test]
fn a_cache_that_tools_would_trip_over_is_refused_with_the_remedy() {
    let scene = Scene::new();
    for bytes in [&b"new\nline"[..], b"caf\xe9", b"a:b", b"a;b", b"a\"b"] {
        let cache = scene.dir().join(name(bytes));
        let mut lab = scene.lab(&["run", CLAIM]);
        let output = lab.env("MMAPDEMO_CACHE", &cache).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(
            text.contains("trip over") && text.contains("MMAPDEMO_CACHE=DIR"),
            "{text}"
        );
        assert!(!cache.exists());
    }
}
