//! Places that cannot be written.

use std::process::{Command, Output};

use crate::scene::{CLAIM, Scene, said};

/// Runs the lab where the home, and what else is named, cannot be written: by mounts that only this run sees.
fn where_home_is_read_only(scene: &Scene, cache: Option<&std::path::Path>) -> Output {
    let home = scene.dir().join("home");
    std::fs::create_dir_all(home.join(".cache")).unwrap();
    let script = r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@""#;
    let mut command = Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(&home)
        .args([env!("CARGO_BIN_EXE_lab"), "run", CLAIM])
        .env_remove("XDG_CACHE_HOME")
        .env_remove("MMAPDEMO_CACHE");
    // The homes of cargo and rustup are no part of this.
    let old_home = std::env::home_dir().unwrap();
    for (variable, usual) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        let dir = std::env::var_os(variable).map(std::path::PathBuf::from);
        command.env(variable, dir.unwrap_or_else(|| old_home.join(usual)));
    }
    command.env("HOME", &home);
    if let Some(cache) = cache {
        command.env("MMAPDEMO_CACHE", cache);
    }
    command.output().unwrap()
}

#[test]
fn a_home_that_cannot_be_written_is_said_and_need_not_be() {
    let scene = Scene::new();
    let output = where_home_is_read_only(&scene, None);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.contains("cannot be written") && text.contains("MMAPDEMO_CACHE=DIR"),
        "{text}"
    );

    let output = where_home_is_read_only(&scene, Some(&scene.cache));
    assert!(output.status.success(), "{}", said(&output));
    scene.assert_nothing_left();
}
