//! Finds the PostgreSQL programs that run the cluster.

use std::fs;
use std::path::{Path, PathBuf};

use super::layout::Layout;
use super::{Error, Options};
use crate::process::{Command, Signal, Spawner};

/// The oldest usable major version: the first with `xid8` and `pg_current_xact_id()`.
pub(super) const MAJOR_MIN: u32 = 13;

/// One installation.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    /// The folder with `postgres` and `initdb`.
    pub dir: PathBuf,
    /// Its major version.
    pub major: u32,
}

/// Finds the installation for a data directory of major version `wanted`, or the preferred one for a new directory:
/// the setting's, else the first in `$PATH`, else the newest in the usual places.
pub(super) async fn find(
    options: &Options,
    wanted: Option<u32>,
    layout: &Layout,
    spawner: &Spawner,
) -> Result<Binaries, Error> {
    let dirs = match &options.bin_dir {
        Some(dir) => vec![dir.clone()],
        None => usual_dirs(options),
    };
    let mut installed = Vec::new();
    for dir in dirs {
        if !dir.join("postgres").is_file() || !dir.join("initdb").is_file() {
            continue;
        }
        let Some(major) = major_of(&dir, layout, spawner).await else { continue };
        if major < MAJOR_MIN {
            continue;
        }
        if wanted.is_none_or(|wanted| wanted == major) {
            return Ok(Binaries { dir, major });
        }
        installed.push(major.to_string());
    }
    match (wanted, &options.bin_dir) {
        (Some(found), _) if !installed.is_empty() => {
            installed.dedup();
            Err(Error::Version { path: layout.data.clone(), found, installed: installed.join(", ") })
        }
        (_, Some(path)) => Err(Error::BinDir { path: path.clone() }),
        (_, None) => Err(Error::BinariesMissing),
    }
}

/// Lists the folders to look into, best first.
fn usual_dirs(options: &Options) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> =
        options.search_path.as_ref().map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    // A relative entry would run whatever lies in the folder that the agent happens to start in.
    dirs.retain(|dir| dir.is_absolute());
    for (parent, prefix, bin) in [
        ("/usr/lib/postgresql", "", "bin"),          // Debian, Ubuntu
        ("/usr", "pgsql-", "bin"),                   // packages of postgresql.org for Fedora and RHEL
        ("/usr/bin", "", "."),                       // Fedora and RHEL themselves
        ("/opt/homebrew/opt", "postgresql@", "bin"), // macOS on Arm
        ("/usr/local/opt", "postgresql@", "bin"),    // macOS on Intel
        ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    ] {
        match bin {
            "." => dirs.push(PathBuf::from(parent)),
            bin => dirs.extend(versioned(Path::new(parent), prefix).into_iter().map(|dir| dir.join(bin))),
        }
    }
    dirs
}

/// Lists the folders in `parent` named `prefix` and a number, newest version first.
fn versioned(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path()))
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// Asks an installation for its major version; `None` where it cannot say.
async fn major_of(dir: &Path, layout: &Layout, spawner: &Spawner) -> Option<u32> {
    let finished = spawner.run(command(dir, "postgres", vec!["--version".into()], layout)).await.ok()?;
    finished.status.success().then(|| parse_major(finished.tail.first()?))?
}

/// Reads the major version out of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_major(line: &str) -> Option<u32> {
    let version = line.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Describes a run of one of the programs, as the cluster's user and in its folder.
pub(super) fn command(
    dir: &Path,
    program: &'static str,
    args: Vec<std::ffi::OsString>,
    layout: &Layout,
) -> Command {
    Command {
        name: program,
        program: dir.join(program),
        args,
        // `sh` must be found by initdb; the locale is the cluster's own, not that of who starts the agent.
        env: [("PATH", "/usr/bin:/bin"), ("LC_ALL", "C.UTF-8"), ("TZ", "UTC")]
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec(),
        current_dir: if layout.base.is_dir() { layout.base.clone() } else { PathBuf::from("/") },
        user: layout.user,
        // A fast shutdown: roll back, flush, end. SIGTERM would wait for clients, which by then nobody answers.
        death_signal: Signal::SIGINT,
        level,
    }
}

/// Postgres names its own severity. All but a panic of its own concerns one client, who is told, or the start or the
/// end, which is reported with its last lines.
fn level(line: &str) -> log::Level {
    if line.starts_with("PANIC:") { log::Level::Error } else { log::Level::Debug }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_major_version() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_major("postgres: not found"), None);
    }

    #[test]
    fn the_newest_version_comes_first() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["pgsql-9", "pgsql-16", "pgsql-17", "other"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        let found = versioned(parent.path(), "pgsql-");
        assert_eq!(
            found.iter().map(|dir| dir.file_name().unwrap()).collect::<Vec<_>>(),
            ["pgsql-17", "pgsql-16", "pgsql-9"]
        );
    }
}
