//! The kernel module: built by Kbuild, in the sysroot, out of the project's `Kbuild` and `driver/`.

mod documentation;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::cached_kernel::KernelTree;
use crate::command::{Finished, HostCommand, Stream};
use crate::failure::Failure;
use crate::host;
use crate::incremental;
use crate::kbuild::{self, Settings};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::package::hex;
use crate::progress::Progress;
use crate::stop::Stop;
use crate::sysroot::{ENTER_FAILED, Sysroot};

/// Where the project and the build products are mounted in the sysroot: no path of the host gets into
/// the module, and spaces in the host's paths do not matter.
pub const SOURCE_MOUNT: &str = "/module";
const OUTPUT_MOUNT: &str = "/out";

/// Where Kbuild keeps the command that it compiled the driver by, so that it notices when that changes
/// (`if_changed` in `scripts/Kbuild.include`).
pub const SAVED_COMMAND: &str = "driver/.mmapdemo.o.cmd";

/// In an error message it comes after "failed to".
const PURPOSE: &str = "build the module";

/// A built module.
#[derive(Clone, Debug)]
pub struct KernelModule {
    /// The `.ko` file, until the next build.
    pub path: PathBuf,
    /// What was in it when it was built. Another run of the lab in the same clone may build it anew, from
    /// other sources, before this one boots.
    pub elf: Vec<u8>,
}

impl KernelModule {
    fn read(path: PathBuf) -> Result<Self> {
        let elf = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        Ok(Self { path, elf })
    }
}

/// How strictly to look at the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Build; warnings are shown.
    Build,
    /// Build with `CLIPPY=1`; any warning is an error.
    Clippy,
}

/// How a module is built; each way has a directory of its own, so that none undoes what another has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As Kbuild does it: the one that counts.
    Whole,
    /// The same, with what a debugger needs: types, variables and source lines.
    Debugged,
    /// Only what has changed since the last time is compiled ([`incremental`]); as a whole if that does not link.
    Incremental,
}

impl Manner {
    fn directory(self) -> &'static str {
        match self {
            Self::Whole => "module",
            Self::Debugged => "module-debug",
            Self::Incremental => "module-incremental",
        }
    }
}

/// What a module is built from and with.
#[derive(Clone, Copy, Debug)]
pub struct Builder<'a> {
    /// The project and where build products go.
    pub layout: &'a Layout,
    /// The toolchain.
    pub sysroot: &'a Sysroot,
    /// The kernel to build for.
    pub kernel: &'a KernelTree,
    /// How it is built.
    pub manner: Manner,
}

impl Builder<'_> {
    /// Builds the module, unless the last build was of the same sources.
    ///
    /// # Errors
    ///
    /// When the driver does not compile: with the compiler's own words.
    pub fn build(&self, progress: &Progress, stop: &Stop) -> Result<KernelModule> {
        let out = self.layout.build(&self.kernel.release);
        let out = out.join(self.manner.directory());
        let path = out.join("mmapdemo.ko");
        fs::create_dir_all(&out).with_context(|| format!("failed to make {}", out.display()))?;
        let _lock = Lock::take(&out.join(kbuild::LOCK), PURPOSE, progress)?;
        let key = self.key()?;
        let stamp = out.join(".built-from");
        if path.is_file() && fs::read_to_string(&stamp).is_ok_and(|built| built == key) {
            return KernelModule::read(path);
        }
        kbuild::clear(&out, stamp.is_file())?;
        let _ = fs::remove_file(&stamp);
        let stage = progress.stage(PURPOSE);
        let said = self.compile(&out, progress, stop)?;
        stage.done();
        if !said.is_empty() {
            progress.note(said.trim_end());
        }
        let module = KernelModule::read(path)?;
        self.require_vermagic(&module)?;
        fs::write(&stamp, key).with_context(|| format!("failed to write {}", stamp.display()))?;
        Ok(module)
    }

    /// Builds the module from scratch by `CLIPPY=1` with all warnings denied, and its documentation, too; and
    /// checks its formatting.
    ///
    /// # Errors
    ///
    /// When one of them finds something: with the tool's own words.
    pub fn check(&self, stop: &Stop) -> Result<()> {
        let out = tempfile::tempdir().context("failed to make a temporary directory")?;
        self.kbuild(out.path(), Strictness::Clippy, stop)?;
        self.document(out.path(), stop)?;
        self.check_formatting(out.path(), stop)
    }

    fn check_formatting(&self, out: &Path, stop: &Stop) -> Result<()> {
        let mut sources = self.sources()?;
        sources.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
        let finished = self
            .enter("check the driver's formatting", out)
            .args(["rustfmt", "--check", "--edition", "2021", "--config-path"])
            .arg(self.kernel.src.join(".rustfmt.toml"))
            .args(
                sources
                    .iter()
                    .map(|path| Path::new(SOURCE_MOUNT).join(path)),
            )
            .finish(stop, |_, _| ())?;
        if finished.status.success() {
            return Ok(());
        }
        Err(Failure::DoesNotBuild {
            diagnostics: finished.stdout.replace(&format!("{SOURCE_MOUNT}/"), ""),
            what: "driver/ is not formatted as the kernel's rustfmt does it".into(),
        }
        .into())
    }

    /// Runs Kbuild in this manner, and returns what the compiler had to say.
    fn compile(&self, out: &Path, progress: &Progress, stop: &Stop) -> Result<String> {
        if self.manner != Manner::Incremental {
            return self.kbuild(out, Strictness::Build, stop);
        }
        let whole = Self {
            manner: Manner::Whole,
            ..*self
        };
        let key = self.settings_key();
        if incremental::is_given_up(out, &key) {
            return whole.kbuild(out, Strictness::Build, stop);
        }
        incremental::prepare(out)?;
        let said = self.kbuild(out, Strictness::Build, stop);
        let why = said.as_ref().map_or_else(Failure::diagnostics_of, |_| "");
        if why.is_empty() || is_an_error_of_the_driver(why) {
            return said;
        }
        let why = why.lines().next().unwrap_or_default();
        let instead = "  in units it does not build, and is compiled as a whole instead";
        progress.note(&format!("{instead}: {why}"));
        kbuild::clear(out, true)?;
        incremental::forget(out)?;
        let said = whole.kbuild(out, Strictness::Build, stop)?;
        incremental::give_up(out, &key)?;
        Ok(said)
    }

    /// Runs Kbuild with the products in `out`, and returns what the compiler had to say.
    fn kbuild(&self, out: &Path, strictness: Strictness, stop: &Stop) -> Result<String> {
        let key = self.settings_key();
        let inside = Path::new(OUTPUT_MOUNT);
        let remembers = strictness == Strictness::Build && self.kernel.is_sealed;
        if let Some(settings) = Settings::read(out, &key).filter(|_| remembers) {
            let command = settings.build(self.enter(PURPOSE, out), inside, &self.kernel.src);
            let (finished, said) = run(command, stop)?;
            if finished.status.success() || is_an_error_of_the_driver(&said) {
                return self.outcome(&finished, said, out);
            }
            // Whatever that was, the whole of Kbuild does not depend on it.
            Settings::forget(out);
        }
        let mut command = self.enter(PURPOSE, out);
        if remembers {
            command = Settings::remember(command, (out, inside), &key)?;
        }
        let KernelTree {
            build, compiler, ..
        } = self.kernel;
        let command = compiler.make(command, build);
        let (finished, said) = run(command.args(self.arguments(strictness)), stop)?;
        let said = self.outcome(&finished, said, out)?;
        if remembers {
            Settings::keep(out);
        }
        Ok(said)
    }

    /// What make is told, beside the compiler: to build the kernel's own target for modules.
    fn arguments(&self, strictness: Strictness) -> Vec<String> {
        let KernelTree { src, build, .. } = self.kernel;
        let mut words = vec![
            "-s".to_owned(),
            "-f".into(),
            src.join("Makefile").display().to_string(),
            format!("O={}", build.display()),
            format!("M={SOURCE_MOUNT}"),
            format!("MO={OUTPUT_MOUNT}"),
            // BPF programs could read types out of these; nothing here does.
            "CONFIG_DEBUG_INFO_BTF_MODULES=".into(),
            // It takes its time to make, and 24 of 25 bytes on the way into a guest that is restored.
            format!(
                "CONFIG_DEBUG_INFO={}",
                if self.manner == Manner::Debugged {
                    "y"
                } else {
                    ""
                }
            ),
        ];
        if self.manner == Manner::Incremental && strictness == Strictness::Build {
            words.push(incremental::argument(Path::new(OUTPUT_MOUNT)));
        }
        if strictness == Strictness::Clippy {
            words.extend(["CLIPPY=1".into(), "KRUSTFLAGS=-Dwarnings".into()]);
        }
        words.push("modules".into());
        words
    }

    /// What the compiler said, if that was no error.
    fn outcome(&self, finished: &Finished, said: String, out: &Path) -> Result<String> {
        if finished.status.success() {
            return Ok(said);
        }
        if said.is_empty() || finished.status.code() == Some(ENTER_FAILED) {
            // Not the compiler's doing.
            bail!("failed to {PURPOSE}: Kbuild failed\n{}", finished.tail);
        }
        host::require_room(&said, out)?;
        let what = format!(
            "the driver does not build for Linux {}",
            self.kernel.release
        );
        Err(Failure::DoesNotBuild {
            diagnostics: said,
            what,
        }
        .into())
    }

    /// Names what Kbuild's settings depend on.
    fn settings_key(&self) -> String {
        let mut hash = Sha256::new();
        let script = match self.manner {
            Manner::Incremental => incremental::SCRIPT,
            Manner::Whole | Manner::Debugged => "",
        };
        let parts = [kbuild::RECIPE, script, &self.kernel.key, &self.sysroot.key];
        let parts = parts.map(str::to_owned);
        let told = self.kernel.compiler.variables().into_iter();
        let told = told.chain(self.arguments(Strictness::Build));
        for part in parts.into_iter().chain(told) {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hex(&hash.finalize())
    }

    fn enter(&self, purpose: &str, out: &Path) -> HostCommand {
        let kernel = self
            .kernel
            .mounts
            .iter()
            .map(|(host, inside)| (host.as_path(), inside.as_path()));
        let own = [
            (self.layout.project.as_path(), Path::new(SOURCE_MOUNT)),
            (out, Path::new(OUTPUT_MOUNT)),
        ];
        self.sysroot
            .command(purpose, &kernel.chain(own).collect::<Vec<_>>())
    }

    /// Names everything that the module is made from.
    fn key(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(self.settings_key());
        for path in self.sources()? {
            let full = self.layout.project.join(&path);
            let content =
                fs::read(&full).with_context(|| format!("failed to read {}", full.display()))?;
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update(content.len().to_le_bytes());
            hash.update(content);
        }
        Ok(hex(&hash.finalize()))
    }

    /// The module's sources, relative to the project; patches that make mutants of it are none.
    fn sources(&self) -> Result<Vec<PathBuf>> {
        let mut sources = vec![PathBuf::from("Kbuild")];
        let mut pending = vec![PathBuf::from("driver")];
        while let Some(dir) = pending.pop() {
            let full = self.layout.project.join(&dir);
            let context = || format!("failed to read the directory {}", full.display());
            for entry in fs::read_dir(&full).with_context(context)? {
                let entry = entry.with_context(context)?;
                let path = dir.join(entry.file_name());
                if entry.file_type().with_context(context)?.is_dir() {
                    pending.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    sources.push(path);
                }
            }
        }
        sources.sort();
        Ok(sources)
    }

    /// The kernel compares this string before it links the module (`kernel/module/main.c`).
    fn require_vermagic(&self, module: &KernelModule) -> Result<()> {
        let wanted = format!("vermagic={} ", self.kernel.release);
        if module
            .elf
            .windows(wanted.len())
            .any(|window| window == wanted.as_bytes())
        {
            return Ok(());
        }
        bail!(
            "{} was not built for kernel {}",
            module.path.display(),
            self.kernel.release
        )
    }
}

/// Runs one of Kbuild's commands, and returns what the compiler had to say, too.
fn run(command: HostCommand, stop: &Stop) -> Result<(Finished, String)> {
    let mut said = String::new();
    let finished = command.finish(stop, |stream, line| {
        // make's own lines say that the compiler failed, which the compiler has said better.
        if stream == Stream::Err && !line.starts_with("make") {
            said.push_str(&line.replace(&format!("{SOURCE_MOUNT}/"), ""));
            said.push('\n');
        }
    })?;
    Ok((finished, said))
}

/// Whether the compiler found an error in the driver: then to build in another way would find it again.
fn is_an_error_of_the_driver(said: &str) -> bool {
    // An empty line stands between what is said of one thing and of another.
    said.split("\n\n").any(|message| {
        let mut lines = message.lines();
        let is_error =
            |line: &str| line.starts_with("error") && !line.contains("internal compiler error");
        lines.any(is_error) && lines.any(|line| line.trim_start().starts_with("--> driver/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_driver_is_told_from_one_of_the_build() {
        let of_the_driver = "error: mismatched types\n   --> driver/mmapdemo.rs:114:14\n";
        assert!(is_an_error_of_the_driver(of_the_driver));
        let after_a_warning = format!("warning: unused\n --> driver/a.rs:1:1\n\n{of_the_driver}");
        assert!(is_an_error_of_the_driver(&after_a_warning));
        for other in [
            "warning: unused\n   --> driver/mmapdemo.rs:1:1\nld: cannot open linker script\n",
            "error: unknown codegen option: `x`\n",
            "sh: 1: cannot open Makefile.build\n",
            "warning: unused\n   --> driver/mmapdemo.rs:1:1\n\nerror: unknown codegen option: `x`\n",
            "error: internal compiler error: it is confused\n   --> driver/mmapdemo.rs:1:1\n",
        ] {
            assert!(!is_an_error_of_the_driver(other), "{other}");
        }
    }
}
