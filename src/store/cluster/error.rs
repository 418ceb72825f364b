//! Why the private cluster does not run, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::process;

/// Why the private cluster does not run. Each text that a person must act on names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL is not installed.
    #[error(
        "PostgreSQL's server programs are missing: install them with `apt-get install postgresql` (Debian, Ubuntu), \
         `dnf install postgresql-server` (Fedora, RHEL) or `brew install postgresql` (macOS), or set `database_url` \
         to a server that you run"
    )]
    BinariesMissing,
    /// The folder that was set has no usable programs.
    #[error("no PostgreSQL {} or newer (`postgres` and `initdb`) in {}", super::binaries::MAJOR_MIN, path.display())]
    BinDir {
        /// The folder.
        path: PathBuf,
    },
    /// The data directory was made by a major version that is not installed.
    #[error(
        "{} was made by PostgreSQL {found} and only {installed} is installed: install version {found}, or move the \
         folder away to begin with an empty one",
        path.display()
    )]
    Version {
        /// The data directory.
        path: PathBuf,
        /// The major version that made it.
        found: u32,
        /// The major versions that are installed.
        installed: String,
    },
    /// The agent runs as root, which Postgres refuses, and there is no user to become.
    #[error(
        "PostgreSQL refuses to run as root and there is no user `postgres`: start the agent as another user"
    )]
    NoUser,
    /// The agent runs as root and the user that Postgres runs as cannot reach its folder.
    #[error(
        "PostgreSQL runs as user {user}, who may not enter {}: set `data_dir` to a folder such as /var/lib/agent, or \
         start the agent as another user",
        path.display()
    )]
    Unreachable {
        /// The folder that cannot be entered.
        path: PathBuf,
        /// The user's name or number.
        user: String,
    },
    /// The folder belongs to somebody else.
    #[error("{} belongs to uid {owner}: start the agent as that user, or set another `data_dir`", path.display())]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Another agent uses the folder.
    #[error("{} is in use by another agent: stop that one, or set another `data_dir`", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A folder or file cannot be used: disk full, no permission.
    #[error("cannot {action} {}", path.display())]
    Directory {
        /// What was attempted.
        action: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot run PostgreSQL")]
    Process(#[from] process::Error),
    /// `initdb` failed, most often because the disk is full.
    #[error("cannot make a PostgreSQL data directory in {} ({status}): {output}", path.display())]
    Initialise {
        /// Where.
        path: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
        /// Its last lines, joined.
        output: String,
    },
    /// Postgres ended before it answered.
    #[error("PostgreSQL ended while starting ({status}): {output}")]
    Ended {
        /// How it ended.
        status: std::process::ExitStatus,
        /// Its last lines, joined.
        output: String,
    },
    /// Postgres runs and does not answer.
    #[error("PostgreSQL runs but did not answer within {seconds} s")]
    Silent {
        /// How long was waited.
        seconds: u64,
    },
    /// Postgres answers, with an error.
    #[error("cannot open the private database")]
    Refused(#[source] tokio_postgres::Error),
    /// An earlier agent's Postgres neither answers nor ends.
    #[error("an earlier PostgreSQL (pid {pid}) neither answers nor ends: stop it by hand")]
    OldPostmaster {
        /// Its process id.
        pid: i32,
    },
}

impl Error {
    /// Tells whether only a person can mend it, so that the agent should end with the exit code for configuration.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::BinariesMissing
            | Self::BinDir { .. }
            | Self::Version { .. }
            | Self::NoUser
            | Self::Unreachable { .. }
            | Self::Owner { .. }
            | Self::InUse { .. } => true,
            Self::Directory { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::Process(_)
            | Self::Initialise { .. }
            | Self::Ended { .. }
            | Self::Silent { .. }
            | Self::Refused(_)
            | Self::OldPostmaster { .. } => false,
        }
    }
}
