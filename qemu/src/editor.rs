//! What an editor has to know to understand the driver: the crates, as Kbuild compiles them.
//!
//! rust-analyzer knows cargo's projects by itself; others it reads from a file `rust-project.json` (its manual:
//! "Non-Cargo Based Projects"). The kernel's own script for that takes Python and a kernel in its usual places.
//! This file goes by the commands that Kbuild has saved: what is in them is how each crate was compiled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

/// The content of `rust-project.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Project {
    /// Where rustc and the server for procedural macros are: in `bin` and `libexec`.
    pub sysroot: PathBuf,
    /// The crates; they name each other by their places in this list.
    pub crates: Vec<Crate>,
}

/// A crate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Crate {
    /// Its name.
    pub display_name: String,
    /// The file that it begins with.
    pub root_module: PathBuf,
    /// The edition of the language.
    pub edition: String,
    /// Whether the user works on it.
    pub is_workspace_member: bool,
    /// What it depends on.
    pub deps: Vec<Dependency>,
    /// Its configuration, as `name` or `name="value"`.
    pub cfg: Vec<String>,
    /// Variables that it was compiled with.
    pub env: BTreeMap<String, String>,
    /// Where its files are.
    pub source: Source,
    /// Whether it is a library of procedural macros.
    pub is_proc_macro: bool,
    /// That library, compiled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proc_macro_dylib_path: Option<PathBuf>,
}

/// A dependency of a crate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// Its place in the list.
    #[serde(rename = "crate")]
    pub index: usize,
    /// What the crate calls it.
    pub name: String,
}

/// Directories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Those with files of the crate.
    pub include_dirs: Vec<PathBuf>,
    /// Those of them without.
    pub exclude_dirs: Vec<PathBuf>,
}

/// Where the host has what the commands name: directories in the sysroot, and on the host.
#[derive(Clone, Debug)]
pub struct Places {
    /// Pairs of a directory in the sysroot and one of the host; the first that fits counts.
    pub dirs: Vec<(PathBuf, PathBuf)>,
    /// The kernel's build directory in the sysroot, which its own commands were run in.
    pub build: PathBuf,
}

impl Places {
    /// What `path` of the sysroot is on the host.
    #[must_use]
    pub fn on_host(&self, path: &Path) -> PathBuf {
        let path = self.build.join(path);
        let host = self.dirs.iter().find_map(|(inside, host)| {
            let rest = path.strip_prefix(inside).ok()?;
            Some(
                rest.components()
                    .fold(host.clone(), |path, part| path.join(part)),
            )
        });
        host.unwrap_or(path)
    }
}

/// How a crate was compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Compilation {
    name: Option<String>,
    root: PathBuf,
    edition: String,
    externs: Vec<String>,
    cfg: Vec<String>,
    env: BTreeMap<String, String>,
    /// The library of procedural macros that came out, if it is such a one.
    dylib: Option<PathBuf>,
}

/// Makes the project out of the texts of saved commands: that of the driver, and those of the kernel's `rust/`, of
/// which it takes what the driver depends on; `config` is the kernel's `include/generated/rustc_cfg`.
///
/// # Errors
///
/// When the driver's command is none of rustc's, or a crate depends on one that is not there.
pub fn project(
    sysroot: PathBuf,
    kernel: &[String],
    driver: &str,
    config: &str,
    places: &Places,
) -> Result<Project> {
    let options: Vec<&str> = config
        .lines()
        .filter_map(|line| line.strip_prefix("--cfg="))
        .collect();
    let mut compiled = Vec::new();
    for saved in kernel {
        // C is compiled there, too.
        let Ok(mut compilation) = compilation(saved) else {
            continue;
        };
        // Of some ten thousand options, those that its files mention.
        let own = options.iter().filter(|option| {
            let name = option.split('=').next().unwrap_or(option);
            let name = name.trim_start_matches("CONFIG_");
            saved.contains(&format!("include/config/{name})"))
        });
        compilation.cfg.extend(own.map(ToString::to_string));
        compiled.push((compilation, false));
    }
    // What the driver will mention is not known yet.
    let mut driver = compilation(driver)?;
    driver.cfg.extend(options.iter().map(ToString::to_string));
    let needed = needed(&driver, &compiled);
    compiled.retain(|(it, _)| needed.contains(&it.name()));
    compiled.push((driver, true));
    let names: Vec<String> = compiled.iter().map(|(it, _)| it.name()).collect();
    let crates = compiled
        .iter()
        .map(|(compilation, is_member)| compilation.describe(*is_member, &names, places))
        .collect::<Result<_>>()?;
    Ok(Project { sysroot, crates })
}

/// The names of the crates that the driver takes, and those that they take.
fn needed(driver: &Compilation, compiled: &[(Compilation, bool)]) -> Vec<String> {
    let mut needed = vec!["core".to_owned()];
    needed.extend(driver.externs.iter().cloned());
    let mut next = 0;
    while let Some(name) = needed.get(next).cloned() {
        let found = compiled.iter().filter(|(it, _)| it.name() == name);
        // What procedural macros were linked from does not matter: they are there, compiled.
        let externs = found.filter(|(it, _)| it.dylib.is_none());
        let externs: Vec<String> = externs.flat_map(|(it, _)| it.externs.clone()).collect();
        needed.extend(
            externs
                .into_iter()
                .filter(|name| !needed.contains(name))
                .collect::<Vec<_>>(),
        );
        next += 1;
    }
    needed
}

impl Compilation {
    fn name(&self) -> String {
        let stem = || self.root.file_stem().unwrap_or_default().to_string_lossy();
        self.name.clone().unwrap_or_else(|| stem().into_owned())
    }

    fn describe(&self, is_member: bool, names: &[String], places: &Places) -> Result<Crate> {
        let name = self.name();
        let is_proc_macro = self.dylib.is_some();
        // Nobody names core: the compiler finds it in the directory of the others.
        let core = (name != "core" && !is_proc_macro).then(|| "core".to_owned());
        let mut deps = Vec::new();
        for dependency in core.iter().chain(&self.externs) {
            match names.iter().position(|name| name == dependency) {
                Some(index) => deps.push(Dependency {
                    index,
                    name: dependency.clone(),
                }),
                None if is_proc_macro => {}
                None => {
                    return Err(anyhow::anyhow!(
                        "the crate {name} depends on {dependency}, of which there is no command"
                    ));
                }
            }
        }
        let root_module = places.on_host(&self.root);
        let mut include_dirs = vec![root_module.with_file_name("")];
        let mut env = self.env.clone();
        if let Some(tree) = env.get_mut("OBJTREE") {
            let host = places.on_host(Path::new(tree));
            *tree = host.to_string_lossy().into_owned();
            include_dirs.push(host.join("rust"));
        }
        Ok(Crate {
            display_name: name,
            root_module,
            edition: self.edition.clone(),
            is_workspace_member: is_member,
            deps,
            cfg: self.cfg.clone(),
            env,
            source: Source {
                include_dirs,
                exclude_dirs: Vec::new(),
            },
            is_proc_macro,
            proc_macro_dylib_path: self.dylib.as_deref().map(|path| places.on_host(path)),
        })
    }
}

/// Reads a saved command (`savedcmd_` in `scripts/Kbuild.include`): variables, the compiler, its arguments.
fn compilation(saved: &str) -> Result<Compilation> {
    let read = || {
        let (_, command) = saved.lines().next()?.split_once(" := ")?;
        let mut words = words(command).into_iter().peekable();
        let mut compilation = Compilation::default();
        while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
            compilation.env.insert(name.to_owned(), value.to_owned());
            words.next();
        }
        if !words.next()?.contains("rustc") {
            return None;
        }
        // What follows is done to what came out.
        let mut words = words.take_while(|word| !word.starts_with(';'));
        while let Some(word) = words.next() {
            let (option, value) = word.split_once('=').unwrap_or((&word, ""));
            match (option, value) {
                ("--crate-name", _) => compilation.name = words.next(),
                ("--extern", _) => compilation.externs.extend(words.next()),
                ("--cfg", "") => compilation.cfg.extend(words.next()),
                ("--cfg", cfg) => compilation.cfg.push(cfg.to_owned()),
                ("--edition", edition) => edition.clone_into(&mut compilation.edition),
                ("--emit", emit) => {
                    let dylib = emit.strip_prefix("link=").map(PathBuf::from);
                    compilation.dylib = compilation.dylib.or(dylib);
                }
                _ if Path::new(&word).extension().is_some_and(|it| it == "rs") => {
                    compilation.root = word.into();
                }
                _ => {}
            }
        }
        compilation.root.is_absolute().then_some(compilation)
    };
    read().with_context(|| {
        let beginning: String = saved.chars().take(80).collect();
        format!("failed to find a command of rustc's in {beginning:?}")
    })
}

/// Takes a command apart as a shell would; nothing but `'` quotes in what Kbuild saves.
fn words(command: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut at_word = false;
    for (index, part) in command.split('\'').enumerate() {
        let is_quoted = index % 2 == 1;
        let mut pieces: Vec<&str> = vec![part];
        if !is_quoted {
            pieces = part.split_whitespace().collect();
        }
        let begins_apart = !is_quoted && part.starts_with(char::is_whitespace);
        for (nth, piece) in pieces.iter().enumerate() {
            match words.last_mut() {
                Some(word) if at_word && nth == 0 && !begins_apart => word.push_str(piece),
                _ => words.push((*piece).to_owned()),
            }
        }
        if is_quoted || !part.is_empty() {
            at_word = is_quoted || !part.ends_with(char::is_whitespace);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: &str = "savedcmd_rust/core.o :=  OBJTREE=/kernel/build /kernel/rustc @./include/generated/rustc_cfg \
        --edition=2021 --cfg='no_fp_fmt_parse' --emit=obj=rust/core.o --crate-type rlib -L./rust \
        --crate-name core /usr/lib/rustlib/core/src/lib.rs --sysroot=/dev/null  ;objcopy rust/x.rs rust/core.o\n";
    const MACROS: &str = "savedcmd_rust/libmacros.so :=  /kernel/rustc --edition=2021 -Clink-args='-Wl,-O1 -z x' \
        --emit=link=rust/libmacros.so --extern proc_macro2 --crate-type proc-macro --crate-name macros \
        /kernel/src/rust/macros/lib.rs\n";
    const KERNEL: &str = "savedcmd_rust/kernel.o := OBJTREE=/kernel/build /kernel/rustc --edition=2021 \
        --extern macros --crate-name kernel /kernel/src/rust/kernel/lib.rs\n\n\
        deps_rust/kernel.o := \\\n    $(wildcard include/config/NET) \\\n";
    const DRIVER: &str = "savedcmd_driver/mmapdemo.o := OBJTREE=/kernel/build RUST_MODFILE=./mmapdemo rustc \
        --edition=2021 --cfg MODULE -Zcrate-attr='feature(a,b)' --extern kernel /module/driver/mmapdemo.rs\n";
    const CONFIG: &str = "--cfg=CONFIG_NET\n--cfg=CONFIG_NET=\"y\"\n--cfg=CONFIG_NETFILTER\n";

    fn places() -> Places {
        let dirs = [
            ("/kernel", "/cache/linux"),
            ("/module", "/a clone"),
            ("/usr", "/cache/sysroot/usr"),
        ];
        Places {
            dirs: dirs
                .map(|(inside, host)| (inside.into(), host.into()))
                .to_vec(),
            build: "/kernel/build".into(),
        }
    }

    fn made(kernel: &[&str]) -> Result<Project> {
        let kernel: Vec<String> = kernel.iter().map(ToString::to_string).collect();
        project("/s".into(), &kernel, DRIVER, CONFIG, &places())
    }

    #[test]
    fn crates_are_as_they_were_compiled_at_the_hosts_places() {
        let crates = made(&[CORE, "cmd_x := cc -c x.c\n", MACROS, KERNEL])
            .unwrap()
            .crates;
        let names: Vec<_> = crates.iter().map(|it| it.display_name.as_str()).collect();
        assert_eq!(names, ["core", "macros", "kernel", "mmapdemo"]);
        let roots: Vec<_> = crates.iter().map(|it| it.root_module.as_path()).collect();
        let wanted = [
            "/cache/sysroot/usr/lib/rustlib/core/src/lib.rs",
            "/cache/linux/src/rust/macros/lib.rs",
            "/cache/linux/src/rust/kernel/lib.rs",
            "/a clone/driver/mmapdemo.rs",
        ];
        assert_eq!(roots, wanted.map(Path::new));
        let deps = |index: usize| crates[index].deps.iter().map(|it| it.index).collect();
        let all: [Vec<usize>; 4] = [0, 1, 2, 3].map(deps);
        assert_eq!(all, [vec![], vec![], vec![0, 1], vec![0, 2]]);
        let dylib = Path::new("/cache/linux/build/rust/libmacros.so");
        assert_eq!(crates[1].proc_macro_dylib_path.as_deref(), Some(dylib));
        assert_eq!(crates[0].cfg, ["no_fp_fmt_parse"]);
        assert_eq!(crates[2].cfg, ["CONFIG_NET", "CONFIG_NET=\"y\""]);
        assert_eq!(crates[3].cfg.len(), 4);
        assert_eq!(crates[3].env["OBJTREE"], "/cache/linux/build");
        let members = crates.iter().filter(|it| it.is_workspace_member);
        assert_eq!(members.count(), 1);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = made(&[CORE]).unwrap_err().to_string();
        assert!(error.contains("mmapdemo depends on kernel"), "{error}");
        let error = compilation("cmd_x := cc -c x.c\n").unwrap_err().to_string();
        assert!(error.contains("cmd_x := cc -c x.c"), "{error}");
    }

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(
            words(" a --b='c d' 'e'f  g '' 'h''i'"),
            ["a", "--b=c d", "ef", "g", "", "hi"]
        );
    }
}
