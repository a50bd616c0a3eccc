//! The guest's files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cpio::NewcReader;
use lab::initramfs::{BasePrograms, GuestFile, assemble, write_base};

/// Mode and content of each entry of one archive; where it ends, the next one begins.
fn entries(archive: &mut &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut entries = BTreeMap::new();
    loop {
        let mut reader = NewcReader::new(*archive).unwrap();
        let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
        let trailer = reader.entry().is_trailer();
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        *archive = reader.finish().unwrap();
        if trailer {
            return entries;
        }
        assert!(
            entries.insert(name.clone(), (mode, content)).is_none(),
            "{name} is there twice"
        );
    }
}

/// A stand-in for busybox that knows its `--list`.
fn busybox() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/busybox")
}

fn base(dir: &Path) -> PathBuf {
    let (init, to) = (dir.join("init"), dir.join("base.cpio"));
    fs::write(&init, b"PID 1").unwrap();
    write_base(
        &BasePrograms {
            init: &init,
            busybox: &busybox(),
            experiments: &[],
        },
        &to,
    )
    .unwrap();
    to
}

#[test]
fn guest_has_the_base_and_the_files_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path());
    let files = [
        GuestFile::copy(busybox(), "/bin/copied", 0o755),
        GuestFile::data("/opt/deep/down/data", "text"),
    ];
    let mut file = assemble(&[base], &files).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();

    let archive = &mut &bytes[..];
    let first = entries(archive);
    assert_eq!(first["init"], (0o100_755, b"PID 1".to_vec()));
    assert_eq!(first["bin/sh"], (0o120_777, b"busybox".to_vec()));
    assert_eq!(first["bin/busybox"].1, fs::read(busybox()).unwrap());
    assert_eq!(first["tmp"].0, 0o041_777);
    for directory in ["dev", "proc", "sys", "root", "lab"] {
        assert_eq!(first[directory].0, 0o040_755, "{directory}");
    }
    let second = entries(archive);
    let names: Vec<&str> = second.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "bin/copied",
            "opt",
            "opt/deep",
            "opt/deep/down",
            "opt/deep/down/data"
        ]
    );
    assert_eq!(second["bin/copied"].0, 0o100_755);
    assert_eq!(second["opt/deep/down/data"], (0o100_644, b"text".to_vec()));
    assert!(archive.is_empty());
}

#[test]
fn initramfs_of_a_run_has_no_name() {
    let dir = tempfile::tempdir().unwrap();
    let file: File = assemble(&[base(dir.path())], &[]).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
}

#[test]
fn errors_name_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path());
    let complaint = |base: &Path, file: GuestFile| {
        format!("{:#}", assemble(&[base.to_owned()], &[file]).unwrap_err())
    };
    let absent = dir.path().join("absent");
    let fine = || GuestFile::data("/fine", "");
    assert!(
        complaint(&base, GuestFile::copy(&absent, "/fine", 0o755)).contains("absent for the guest")
    );
    assert!(complaint(&absent, fine()).contains("absent"));
    for path in ["relative", "/", "/up/../and/away"] {
        let error = complaint(&base, GuestFile::data(path, ""));
        assert!(
            error.contains(&format!("not a path for the guest: {path}")),
            "{error}"
        );
    }
}

#[test]
fn busybox_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (init, to) = (dir.path().join("init"), dir.path().join("base.cpio"));
    fs::write(&init, b"PID 1").unwrap();
    let programs = BasePrograms {
        init: &init,
        busybox: Path::new("/bin/false"),
        experiments: &[],
    };
    let error = format!("{:#}", write_base(&programs, &to).unwrap_err());
    assert!(error.contains("the applets of /bin/false"), "{error}");
}
