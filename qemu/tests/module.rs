//! The module is the one of the sources as they are, however it was built before.
//!
//! Uses the cache that `lab` itself uses, and fills it if need be. Boots nothing.
#![expect(
    clippy::unwrap_used,
    reason = "what helps a test may panic as the test may"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, SystemTime};

use assert_cmd::Command;
use clap::Parser;
use lab::cli::{self, Cli};
use lab::exit_code::ExitCode;
use lab::failure::Failure;
use lab::module::Manner;
use lab::patch::Sources;
use lab::progress::Progress;
use lab::workshop::Workshop;

/// What the driver says of itself, which is in the module, too.
const DESCRIPTION: &str = "Kernel memory to read";

/// A copy of the driver, and what is built of it.
struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        Sources::read(project).unwrap().write(dir.path()).unwrap();
        Self { dir }
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("driver/mmapdemo.rs")
    }

    /// Where the products are.
    fn out(&self) -> PathBuf {
        let releases = fs::read_dir(self.dir.path().join("target/lab")).unwrap();
        releases.last().unwrap().unwrap().path().join("module")
    }

    fn settings(&self) -> PathBuf {
        self.out().join(".kbuild-settings")
    }

    fn lab_build(&self) -> Output {
        let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
        let driver = self.dir.path();
        let build = lab.args(["--quiet", "build", "--driver"]).arg(driver);
        build.output().unwrap()
    }

    /// The module, as it is built now.
    fn build(&self) -> Vec<u8> {
        let built = self.lab_build();
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        assert!(built.status.success(), "{said}");
        fs::read(self.out().join("mmapdemo.ko")).unwrap()
    }

    /// What has changed of it, in units; or the compiler's words.
    fn build_incrementally(&self) -> Result<Vec<u8>, String> {
        let cli = Cli::try_parse_from(["lab", "build"]).unwrap();
        let cli::Command::Build(stock) = cli.command else {
            unreachable!("build was asked for");
        };
        let progress = Progress::new(true);
        let mut workshop = Workshop::open(&progress).unwrap();
        workshop.layout.project = self.dir.path().into();
        workshop.manner = Manner::Incremental;
        let target = workshop.prepare(&stock, false).unwrap();
        let module = workshop.build_module(&target, None);
        module
            .map(|module| module.elf)
            .map_err(|error| Failure::diagnostics_of(&error).to_owned())
    }

    /// Where the products are of what is compiled in units.
    fn units(&self) -> PathBuf {
        self.out().with_file_name("module-incremental")
    }

    /// An edit makes another module than `before`, and the one that is built with nothing left of earlier builds.
    fn assert_edit_is_built(&self, before: &[u8]) {
        let edited = self.build();
        assert!(edited != before, "nothing was built");
        assert_same(&self.build_from_nothing(), &edited);
    }

    /// The same with nothing left of earlier builds.
    fn build_from_nothing(&self) -> Vec<u8> {
        fs::remove_dir_all(self.out()).unwrap();
        self.build()
    }

    /// Has the driver say something else of itself.
    fn edit(&self, description: &str) {
        self.replace(DESCRIPTION, description);
    }

    fn replace(&self, old: &str, new: &str) {
        let text = fs::read_to_string(self.source()).unwrap();
        assert!(text.contains(old));
        fs::write(self.source(), text.replacen(old, new, 1)).unwrap();
    }
}

/// Without printing the modules.
fn assert_same(got: &[u8], expected: &[u8]) {
    assert!(got == expected, "these are different modules");
}

#[test]
fn remembered_settings_build_what_all_of_kbuild_builds() {
    let project = Project::new();
    let before = project.build();
    let written = || fs::metadata(project.settings()).and_then(|it| it.modified());
    let first = written().unwrap();
    project.edit("Some memory to read");
    let edited = project.build();
    assert_eq!(written().unwrap(), first, "all of Kbuild has run");
    assert!(edited != before, "nothing was built");
    assert_same(&project.build_from_nothing(), &edited);
}

#[test]
fn what_modpost_says_anew_is_compiled_before_the_link() {
    let project = Project::new();
    let before = project.build();
    let said = project.out().join("mmapdemo.mod.c");
    let text = fs::read_to_string(&said).unwrap();
    fs::write(
        &said,
        format!("{text}MODULE_INFO(of_an, \"earlier build\");\n"),
    )
    .unwrap();
    project.edit("Some memory to read");
    project.assert_edit_is_built(&before);
}

#[test]
fn settings_that_are_wrong_are_found_out_and_not_blamed_on_the_driver() {
    let project = Project::new();
    let good = project.build();
    let text = fs::read_to_string(project.settings()).unwrap();
    let wrong = text.replace("KBUILD_RUSTFLAGS=", "KBUILD_RUSTFLAGS=-Cno-such-option ");
    assert!(wrong != text);
    fs::write(project.settings(), wrong).unwrap();
    fs::remove_file(project.out().join(".built-from")).unwrap();
    assert_same(&project.build(), &good);
    assert_eq!(fs::read_to_string(project.settings()).unwrap(), text);
}

#[test]
fn sources_that_seem_to_be_old_are_built_nevertheless() {
    let project = Project::new();
    let before = project.build();
    project.edit("Some memory to read");
    let old = SystemTime::now() - Duration::from_secs(24 * 60 * 60);
    let source = File::options().write(true).open(project.source());
    source.unwrap().set_modified(old).unwrap();
    project.assert_edit_is_built(&before);
}

#[test]
fn what_a_build_that_was_killed_has_left_is_not_used() {
    let project = Project::new();
    let good = project.build();
    // Cut off, and newer than all that they were made from.
    for product in ["driver/mmapdemo.o", "mmapdemo.mod.o", ".module-common.o"] {
        fs::write(project.out().join(product), "\x7fELF").unwrap();
    }
    fs::remove_file(project.out().join(".built-from")).unwrap();
    assert_same(&project.build(), &good);
}

#[test]
fn a_driver_that_does_not_compile_is_told_of_in_the_compilers_words_each_time() {
    let project = Project::new();
    let good = project.build();
    let text = fs::read_to_string(project.source()).unwrap();
    fs::write(project.source(), format!("{text}\nfn broken( {{\n")).unwrap();
    for _ in 0..2 {
        let built = project.lab_build();
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        let code = i32::from(ExitCode::NotAsExpected.number());
        assert_eq!(built.status.code(), Some(code), "{said}");
        assert!(said.contains("--> driver/mmapdemo.rs:"), "{said}");
    }
    fs::write(project.source(), text).unwrap();
    assert_same(&project.build(), &good);
}

#[test]
fn what_is_compiled_in_units_is_never_of_an_earlier_driver() {
    let project = Project::new();
    let before = project.build_incrementally().unwrap();
    let text = fs::read_to_string(project.source()).unwrap();
    project.edit("Some memory to read");
    let edited = project.build_incrementally().unwrap();
    assert!(edited != before, "nothing was built");
    // An error keeps what was found out before.
    fs::write(project.source(), format!("{text}\nfn broken( {{\n")).unwrap();
    let said = project.build_incrementally().unwrap_err();
    assert!(said.contains("--> driver/mmapdemo.rs:"), "{said}");
    fs::write(project.source(), &text).unwrap();
    assert_same(&project.build_incrementally().unwrap(), &before);
    project.edit("Some memory to read");
    fs::remove_dir_all(project.units()).unwrap();
    assert_same(&project.build_incrementally().unwrap(), &edited);
}

#[test]
fn where_rustc_can_keep_nothing_the_driver_is_compiled_as_a_whole() {
    let project = Project::new();
    let whole = project.build();
    let units = project.build_incrementally().unwrap();
    assert!(units != whole, "there is but one unit");
    for product in [".incremental", "driver"] {
        fs::remove_dir_all(project.units().join(product)).unwrap();
    }
    fs::write(project.units().join(".incremental"), "no directory").unwrap();
    fs::remove_file(project.units().join(".built-from")).unwrap();
    assert_same(&project.build_incrementally().unwrap(), &whole);
}

#[test]
fn a_driver_that_links_only_as_a_whole_is_compiled_as_a_whole() {
    let project = Project::new();
    let units = project.build_incrementally().unwrap();
    // A call to a function that does not exist, which is gone where the other function is inlined.
    let file = |name: &str| project.dir.path().join("driver").join(name);
    let strategy = fs::read_to_string(file("strategy.rs")).unwrap();
    let bounded = "pub(crate) fn bounded(nr: usize) -> usize {\n    kernel::prelude::build_assert!(nr < 4);\n    nr\n}\n";
    fs::write(file("strategy.rs"), format!("{strategy}\n{bounded}")).unwrap();
    let buffer = fs::read_to_string(file("buffer.rs")).unwrap();
    let caller = "let pages = Pages::new(nr_pages)?;";
    assert!(buffer.contains(caller));
    let calls = format!("if crate::strategy::bounded(3) != 3 {{ return Err(EINVAL); }} {caller}");
    fs::write(file("buffer.rs"), buffer.replace(caller, &calls)).unwrap();

    let whole = project.build();
    assert_same(&project.build_incrementally().unwrap(), &whole);
    let given_up = || project.units().join(".not-in-units").is_file();
    assert!(given_up(), "it builds in units");
    project.edit("Some memory to read");
    assert_same(&project.build_incrementally().unwrap(), &project.build());
    // By another script or kernel it would be tried again.
    fs::write(project.units().join(".not-in-units"), "another key").unwrap();
    fs::write(file("strategy.rs"), strategy).unwrap();
    fs::write(file("buffer.rs"), buffer).unwrap();
    project.replace("Some memory to read", DESCRIPTION);
    assert_same(&project.build_incrementally().unwrap(), &units);
}
