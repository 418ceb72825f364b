//! The private Postgres cluster of the `local` profile: found, made, started, watched, stopped.
//!
//! It runs the machine's own PostgreSQL programs on a data directory of ours, on a Unix socket only. Everyone who may
//! enter the socket's directory (mode 0700) is let in without a password. Durability is on. Nothing here knows the
//! tables; see `store::migrations` for those.
//!
//! * [`layout`]: directories, their owner, the lock against a second agent
//! * [`binaries`]: which of the machine's installations runs it
//! * [`initialise`]: a new data directory, complete or absent
//! * [`postmaster`]: starts it, or adopts one that outlived its agent
//! * [`supervise`]: starts it again when it ends by itself
//!
//! On disk, under the agent's data directory: `postgres/lock`, `postgres/data`, `postgres/run` (the socket).

mod binaries;
mod error;
mod initialise;
mod layout;
mod postmaster;
mod supervise;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::Error;

use crate::process::Spawner;
use crate::telemetry::tasks::Tasks;
use layout::Layout;

/// The number in the socket's file name. Each cluster has its own socket directory, so it never clashes.
pub const PORT: u16 = 5432;

/// The cluster's superuser, and the database that the agent uses.
const NAME: &str = "agent";

/// The longest that [`Cluster::stop`] takes: 10 s for a fast shutdown, 3 s for an immediate one, the rest for the kernel.
pub const STOP_DEADLINE: Duration = Duration::from_secs(14);

/// Where the cluster lives and how it runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The agent's data directory; the cluster is in its `postgres` folder. Made where it is missing.
    pub data_dir: PathBuf,
    /// The folder of PostgreSQL's programs, where it is set by hand.
    pub bin_dir: Option<PathBuf>,
    /// `$PATH`, searched before the usual places.
    pub search_path: Option<OsString>,
    /// The most connections at once, at least 10; each can cost about 10 MB.
    pub connections_max: u16,
    /// What a crash of the machine may lose.
    pub durability: Durability,
}

/// What a crash of the machine may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was committed.
    Full,
    /// Everything: for tests, which throw the cluster away.
    None,
}

impl Options {
    /// Returns what is right for a node of its own, with the cluster under `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bin_dir: None,
            search_path: None,
            connections_max: 60,
            durability: Durability::Full,
        }
    }
}

/// A running private cluster. Dropping it stops Postgres without waiting; [`Cluster::stop`] waits.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    supervisor: Tasks,
}

impl Cluster {
    /// Makes the cluster where there is none, starts it or adopts the one that is running, and waits until it answers.
    ///
    /// Takes about 1 s for a new cluster, 0.1 s for one that was stopped, and as long as crash recovery takes (at most
    /// five minutes) for one that was not. From then on an unexpected end of Postgres is followed by a restart.
    ///
    /// # Errors
    /// [`Error::needs_a_person`] tells those that no retry can help from those that may pass.
    ///
    /// # Cancellation
    /// What was started gets its death signal; a half-made data directory is swept up by the next start.
    pub async fn start(options: Options, spawner: &Spawner) -> Result<Self, Error> {
        let layout = Layout::prepare(&options.data_dir)?;
        let binaries = binaries::find(&options, layout.version()?, &layout, spawner).await?;
        if layout.version()?.is_none() {
            initialise::initialise(&layout, &binaries, options.durability, spawner).await?;
        }
        let starter =
            postmaster::Starter { layout: layout.clone(), binaries, options, spawner: spawner.clone() };
        let postmaster = starter.start().await?;
        let supervisor = Tasks::new();
        supervisor.spawn(supervise::run(starter, postmaster, supervisor.stopping().clone()));
        Ok(Self { layout, supervisor })
    }

    /// The folder of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.layout.socket_dir
    }

    /// Returns the URL of the agent's own database, as libpq and `database_url` write it.
    pub fn connection_string(&self) -> String {
        self.connection_string_to(NAME)
    }

    /// Returns the URL of `database` in this cluster; the name consists of letters, digits and underscores.
    pub fn connection_string_to(&self, database: &str) -> String {
        url(&self.layout, database)
    }

    /// Stops Postgres: open transactions are rolled back, the rest is flushed. One that does not end in time is stopped
    /// without a flush, which costs the next start a crash recovery but no data.
    pub async fn stop(self) {
        if self.supervisor.stop(STOP_DEADLINE).await > 0 {
            log::error!("PostgreSQL still runs; the kernel stops it with the agent");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.supervisor.stopping().cancel();
    }
}

/// Returns the URL of the cluster under `data_dir` while a running agent holds it, so that a command can share it.
pub fn url_in_use(data_dir: &Path) -> Option<String> {
    let layout = Layout::look(data_dir);
    layout.is_in_use().then(|| url(&layout, NAME))
}

/// Finds the programs that a start would use, without making anything: their folder and major version.
///
/// # Errors
/// Those of [`Cluster::start`] that are about the programs.
pub async fn find_programs(options: &Options, spawner: &Spawner) -> Result<(PathBuf, u32), Error> {
    let layout = Layout::look(&options.data_dir);
    let binaries = binaries::find(options, layout.version()?, &layout, spawner).await?;
    Ok((binaries.dir, binaries.major))
}

fn url(layout: &Layout, database: &str) -> String {
    format!("postgresql://{NAME}@{}:{PORT}/{database}", percent_encoded(&layout.socket_dir))
}

/// Writes a path as the host part of a URL.
fn percent_encoded(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().iter().fold(String::new(), |mut text, &byte| {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_host() {
        assert_eq!(percent_encoded(Path::new("/var/lib/a b:ü")), "%2Fvar%2Flib%2Fa%20b%3A%C3%BC");
    }
}
