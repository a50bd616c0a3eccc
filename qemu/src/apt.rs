//! A private apt: the host's own apt with its own lists, so that no root and no host state is needed.
//!
//! Signatures are checked with the Debian archive keyring; the mirror, its proxy and its credentials are
//! the host's (apt.conf(5), `sources.list(5)`).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::command::{Cancelled, HostCommand, Stream};
use crate::failure::Failure;
use crate::package::Package;
use crate::progress::Stage;
use crate::stop::Stop;

/// Where the packages come from: trixie has the toolchain that built the kernels of its backports.
const SUITES: [&str; 2] = ["trixie", "trixie-backports"];

/// The keys that sign Debian's archive, from the package debian-archive-keyring.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// How often apt tries a download again.
const RETRIES: u32 = 3;

/// How long one apt command may take; a slow line needs most of it.
const TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// The archive has moved on: it no longer has the versions that were chosen earlier.
#[derive(Debug, thiserror::Error)]
#[error("the archive has moved on\n{0}\n  next step: cargo lab prepare --update")]
pub struct Superseded(String);

/// A private apt, ready to be asked.
#[derive(Debug)]
pub struct Apt {
    config: PathBuf,
    mirror: String,
}

impl Apt {
    /// Writes the configuration below `dir`; `mirror` overrides the host's own.
    ///
    /// # Errors
    ///
    /// When the host is no Debian and no mirror was named, or `dir` cannot be written.
    pub fn open(dir: &Path, mirror: Option<&str>, stop: &Stop) -> Result<Self> {
        let mirror = mirror_or_host(mirror, stop)?;
        for sub in ["lists/partial", "cache/archives/partial", "preferences.d"] {
            let sub = dir.join(sub);
            fs::create_dir_all(&sub)
                .with_context(|| format!("failed to make {}", sub.display()))?;
        }
        let sources = SUITES.iter().fold(String::new(), |mut text, suite| {
            let _ = writeln!(text, "deb [signed-by={KEYRING}] {mirror} {suite} main");
            text
        });
        write(&dir.join("sources.list"), &sources)?;
        write(&dir.join("status"), "")?;
        let config = dir.join("apt.conf");
        write(
            &config,
            &format!("{}{}", configuration(dir), host_acquire_options(stop)?),
        )?;
        Ok(Self { config, mirror })
    }

    /// Fetches and verifies the package lists.
    ///
    /// # Errors
    ///
    /// When the mirror cannot be reached or a signature is wrong.
    pub fn update(&self, stop: &Stop) -> Result<()> {
        self.command("apt-get", "fetch the package lists")
            // Without this, apt calls an unreachable mirror a warning.
            .args(["-o", "APT::Update::Error-Mode=any", "-q", "update"])
            .run(stop, |_, _| ())
            .map(drop)
            .map_err(|error| self.undelivered(error))
    }

    /// As [`Self::update`], unless it was done since the lists were last forgotten.
    ///
    /// # Errors
    ///
    /// As [`Self::update`].
    pub fn update_once(&self, stop: &Stop) -> Result<()> {
        let lists = self.config.with_file_name("lists");
        let mut entries = fs::read_dir(&lists)
            .with_context(|| format!("failed to read {}", lists.display()))?
            .filter_map(Result::ok);
        if entries.any(|entry| entry.file_name().to_string_lossy().ends_with("_Packages")) {
            return Ok(());
        }
        self.update(stop)
    }

    /// The versions of all packages whose names begin with `prefix`, newest first: (name, version).
    ///
    /// # Errors
    ///
    /// When apt-cache fails.
    pub fn versions(&self, prefix: &str, stop: &Stop) -> Result<Vec<(String, String)>> {
        let purpose = format!("look up the packages {prefix}*");
        let names = self
            .command("apt-cache", &purpose)
            .args(["pkgnames", prefix])
            .stdout(stop)?;
        let table = self
            .command("apt-cache", &purpose)
            .arg("madison")
            .args(names.lines())
            .stdout(stop)?;
        Ok(parse_madison(&table))
    }

    /// `names` and everything that they depend on.
    ///
    /// # Errors
    ///
    /// When a package does not exist or its dependencies cannot be met.
    pub fn resolve(&self, names: &[&str], stop: &Stop) -> Result<Vec<Package>> {
        let text = self
            .command("apt-get", "resolve the toolchain's dependencies")
            .args(["--yes", "--print-uris", "install"])
            .args(names)
            .stdout(stop)?;
        parse_uris(&text)
    }

    /// Exactly these packages, given as `name=version`, without their dependencies.
    ///
    /// # Errors
    ///
    /// When one is no longer in the archive.
    pub fn exact(&self, names: &[String], stop: &Stop) -> Result<Vec<Package>> {
        let text = self
            .command("apt-get", "look up the kernel's packages")
            .args(["--print-uris", "download"])
            .args(names)
            .stdout(stop)?;
        parse_uris(&text)
    }

    /// Downloads `packages` into `dir`; apt verifies their hashes against the signed lists.
    ///
    /// # Errors
    ///
    /// When the mirror cannot be reached, the disk is full, or a hash is wrong.
    pub fn download(
        &self,
        packages: &[&Package],
        dir: &Path,
        stage: &Stage<'_>,
        stop: &Stop,
    ) -> Result<()> {
        let total: u64 = packages.iter().map(|package| package.len).sum();
        stage.message(format!(
            "{} packages, {} MB",
            packages.len(),
            total / 1_000_000
        ));
        self.command("apt-get", "download the packages")
            .status_lines("dlstatus:")
            .args(["-q", "-o", "APT::Status-Fd=1", "download"])
            .args(
                packages
                    .iter()
                    .map(|package| format!("{}={}", package.name, package.version)),
            )
            .current_dir(dir)
            .run(stop, |stream, line| {
                if let (Stream::Out, Some(percent)) = (stream, parse_download_status(line)) {
                    stage.advance(percent, 100);
                }
            })
            .map(drop)
            .map_err(|error| self.undelivered(error))
    }

    fn command(&self, program: &str, purpose: &str) -> HostCommand {
        HostCommand::new(purpose, program)
            .env("APT_CONFIG", &self.config)
            .timeout(TIMEOUT)
    }

    /// What to say when apt-get failed to bring something; an interruption stays what it is.
    fn undelivered(&self, error: anyhow::Error) -> anyhow::Error {
        if error.is::<Failure>() || error.is::<Cancelled>() {
            return error;
        }
        let said = format!("{error:#}");
        if said.contains("was not found") || said.contains("404  Not Found") {
            return Superseded(said).into();
        }
        Failure::SetUpMissing {
            what: format!(
                "{said}\nthe archive {} did not deliver; what was fetched is kept",
                self.mirror
            ),
            remedy: "the same command again when network and disk are in order, or --mirror URL"
                .into(),
        }
        .into()
    }
}

/// Removes the private apt's lists and caches.
///
/// # Errors
///
/// When they cannot be removed.
pub fn forget(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}

/// apt.conf(5) for the private apt.
fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "Dir::State::lists \"{dir}/lists/\";\n\
         Dir::State::status \"{dir}/status\";\n\
         Dir::State::extended_states \"{dir}/extended_states\";\n\
         Dir::Cache \"{dir}/cache/\";\n\
         Dir::Cache::archives \"{dir}/cache/archives/\";\n\
         Dir::Etc::sourcelist \"{dir}/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"{dir}/preferences.d/\";\n\
         // The host's hooks are about the host's packages, not about these.\n\
         Dir::Etc::main \"/dev/null\";\n\
         Dir::Etc::parts \"/dev/null\";\n\
         APT::Architecture \"amd64\";\n\
         APT::Architectures {{ \"amd64\"; }};\n\
         APT::Install-Recommends \"false\";\n\
         APT::Install-Suggests \"false\";\n\
         // apt's own unprivileged user may not enter this directory; root needs no other one here.\n\
         APT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::Retries \"{RETRIES}\";\n\
         Acquire::ForceHash \"SHA256\";\n\
         Acquire::http::Timeout \"10\";\n\
         Acquire::https::Timeout \"10\";\n"
    )
}

/// The host's own proxy and TLS settings.
fn host_acquire_options(stop: &Stop) -> Result<String> {
    const KEPT: [&str; 4] = [
        "Acquire::http::",
        "Acquire::https::",
        "Acquire::ForceIPv",
        "Acquire::Check-",
    ];
    let dump = HostCommand::new("read the host's apt configuration", "apt-config")
        .args(["dump", "Acquire"])
        .stdout(stop)?;
    Ok(dump
        .lines()
        .filter(|line| KEPT.iter().any(|prefix| line.starts_with(prefix)))
        .fold(String::new(), |text, line| text + line + "\n"))
}

/// The mirror to ask: `named`, or the one that the host itself uses.
///
/// # Errors
///
/// A set-up error when neither is there.
pub fn mirror_or_host(named: Option<&str>, stop: &Stop) -> Result<String> {
    named.map_or_else(|| host_mirror(stop), |named| Ok(named.to_owned()))
}

/// The mirror of Debian that the host itself uses.
fn host_mirror(stop: &Stop) -> Result<String> {
    let targets = HostCommand::new("read the host's apt sources", "apt-get")
        .args([
            "indextargets",
            // Also before anybody has ever run `apt-get update` here.
            "--no-release-info",
            "--format",
            "$(REPO_URI) $(COMPONENT) $(CODENAME)",
            "Created-By: Packages",
        ])
        .stdout(stop)?;
    parse_mirror(&targets).ok_or_else(|| {
        Failure::SetUpMissing {
            what: "this host's apt sources name no mirror of Debian's archive".into(),
            remedy:
                "scripts/demo --mirror URL    (or MMAPDEMO_MIRROR=URL; a mirror that has trixie)"
                    .into(),
        }
        .into()
    })
}

/// The first repository that is laid out as Debian's main archive: its address ends in `/debian`, or it is
/// a list of mirrors of that name (apt-transport-mirror(1)).
fn parse_mirror(targets: &str) -> Option<String> {
    let is_main = |uri: &&str| {
        let last = uri.rsplit('/').next().unwrap_or_default();
        last == "debian" || uri.starts_with("mirror+") && last.starts_with("debian.")
    };
    targets
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(|uri| uri.trim_end_matches('/'))
        .find(is_main)
        .map(str::to_owned)
}

/// `dlstatus:3:41.7:Retrieving file 3 of 120` to 41.
fn parse_download_status(line: &str) -> Option<u64> {
    let percent = line.strip_prefix("dlstatus:")?.split(':').nth(1)?;
    percent.split('.').next()?.parse().ok()
}

/// The table of `apt-cache madison`: `name | version | origin`, newest first.
fn parse_madison(table: &str) -> Vec<(String, String)> {
    let mut versions: Vec<(String, String)> = Vec::new();
    for line in table.lines().filter(|line| line.ends_with("Packages")) {
        let mut cells = line.split('|').map(str::trim);
        if let (Some(name), Some(version)) = (cells.next(), cells.next()) {
            let entry = (name.to_owned(), version.to_owned());
            if !versions.contains(&entry) {
                versions.push(entry);
            }
        }
    }
    versions
}

/// The lines `'address' file length SHA256:hash` of `apt-get --print-uris`.
fn parse_uris(text: &str) -> Result<Vec<Package>> {
    let mut packages = HashMap::new();
    for line in text.lines().filter(|line| line.starts_with('\'')) {
        let package =
            parse_uri(line).ok_or_else(|| anyhow!("apt-get --print-uris said: {line}"))?;
        packages.insert(package.file.clone(), package);
    }
    if packages.is_empty() {
        bail!("apt-get --print-uris named no package");
    }
    let mut packages: Vec<_> = packages.into_values().collect();
    packages.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(packages)
}

fn parse_uri(line: &str) -> Option<Package> {
    let mut words = line.split_whitespace().skip(1);
    let file = words.next()?.to_owned();
    let len = words.next()?.parse().ok()?;
    let sha256 = words.next()?.strip_prefix("SHA256:")?.to_owned();
    // Nothing that comes from outside names a file elsewhere, or goes without its hash.
    let is_hash = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    if file.contains('/') || !is_hash {
        return None;
    }
    let mut parts = file.strip_suffix(".deb")?.splitn(3, '_');
    let name = parts.next()?.to_owned();
    // The colon of an epoch is written %3a in file names.
    let version = parts.next()?.replace("%3a", ":");
    Some(Package {
        name,
        version,
        file,
        len,
        sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_line_becomes_a_package() {
        let line = "'http://example.org/debian/pool/main/q/qemu/qemu-system-x86_10.0%2bds-1_amd64.deb' \
                    qemu-system-x86_1%3a10.0+ds-1_amd64.deb 10278596 SHA256:";
        let hash = "00ff".repeat(16);
        let package = parse_uri(&format!("{line}{hash}")).unwrap();
        assert_eq!(package.name, "qemu-system-x86");
        assert_eq!(package.version, "1:10.0+ds-1");
        assert_eq!(package.file, "qemu-system-x86_1%3a10.0+ds-1_amd64.deb");
        assert_eq!((package.len, package.sha256), (10_278_596, hash));
    }

    #[test]
    fn a_uri_line_without_a_sha256_is_refused() {
        assert!(parse_uris("'http://x/a_1_all.deb' a_1_all.deb 5 MD5Sum:00\n").is_err());
        assert!(parse_uris("Reading package lists...\n").is_err());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            failure_persistence: None,
            ..Default::default()
        })]

        #[test]
        fn no_answer_of_apt_makes_a_reader_panic(text in "([a-zA-Z0-9'|:/._%+ -]|\n|\\PC){0,200}") {
            let _ = (parse_madison(&text), parse_mirror(&text), parse_download_status(&text));
            for package in parse_uris(&text).unwrap_or_default() {
                // It becomes the name of a file in the cache, and nothing outside of it.
                assert!(!package.file.contains('/'), "{package:?}");
            }
        }

        #[test]
        fn a_package_is_refused_or_stays_in_its_directory(
            file in "[a-z./]{0,6}_[0-9]_all\\.deb", hash in "[0-9a-f]{0,70}", len in "[0-9-]{1,25}",
        ) {
            let text = format!("'http://x/y' {file} {len} SHA256:{hash}\n");
            if let Ok(packages) = parse_uris(&text) {
                assert!(!file.contains('/'), "{packages:?}");
                assert_eq!(hash.len(), 64, "{packages:?}");
            }
        }
    }

    #[test]
    fn madison_keeps_the_order_and_drops_source_lines() {
        let table = "linux-source-7.3 | 7.3.4-1 | http://x trixie-backports/main amd64 Packages\n\
                     linux-source-7.3 | 7.3.2-1 | http://x trixie-backports/main amd64 Packages\n\
                     linux-source-7.3 | 7.3.4-1 | http://x trixie-backports/main Sources\n";
        let versions = parse_madison(table);
        assert_eq!(versions.len(), 2);
        assert_eq!(versions[0], ("linux-source-7.3".into(), "7.3.4-1".into()));
    }

    #[test]
    fn the_mirror_is_the_main_archive_not_security() {
        let targets = "http://m.example/debian-security/ main bookworm-security\n\
                       http://m.example/tools/ main stable\n\
                       http://m.example/debian/ main bookworm\n";
        assert_eq!(
            parse_mirror(targets).as_deref(),
            Some("http://m.example/debian")
        );
        assert_eq!(parse_mirror("http://m.example/ubuntu/ main noble\n"), None);
        let list = "mirror+file:///etc/apt/mirrors/debian-security.list/ main x\n\
                    mirror+file:///etc/apt/mirrors/debian.list/ main bookworm\n";
        assert_eq!(
            parse_mirror(list).as_deref(),
            Some("mirror+file:///etc/apt/mirrors/debian.list")
        );
    }

    #[test]
    fn download_status_is_a_percentage() {
        assert_eq!(
            parse_download_status("dlstatus:3:41.7391:Retrieving file 3 of 120"),
            Some(41)
        );
        assert_eq!(parse_download_status("Get:1 http://x"), None);
    }
}
