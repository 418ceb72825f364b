//! Child processes: one spawner thread, process groups, death signals, reaping, ordered stop.
//!
//! Every child starts from the [`Spawner`]'s thread, which lives as long as the agent: Linux sends a death signal when
//! the *thread* that started the child ends, not when its process does. Nothing here knows what the children are; see
//! `store::cluster` for Postgres.
//!
//! * [`spawner`]: the thread, and how one child is started on it
//! * [`child`]: the handle: exit status, signals, ordered stop
//! * [`output`]: what a child prints becomes log lines

mod child;
mod output;
mod spawner;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

pub use child::{Child, Escalation};
pub use nix::sys::signal::Signal;
pub use nix::unistd::{Gid, Pid, Uid};
pub use output::{LINE_BYTES_MAX, TAIL_LINES};
pub use spawner::Spawner;

/// What to start, and as whom.
#[derive(Clone, Debug)]
pub struct Command {
    /// Names the child in log lines and errors; also their target.
    pub name: &'static str,
    /// The executable: a path, which is not searched for.
    pub program: PathBuf,
    /// Arguments after the program's name.
    pub args: Vec<OsString>,
    /// The whole environment: nothing is inherited, so that no secret of the agent's reaches a child.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory; the child's user must be able to enter it.
    pub current_dir: PathBuf,
    /// The user to become, where the agent runs as root.
    pub user: Option<(Uid, Gid)>,
    /// What the kernel sends the child when the agent dies, and what a dropped [`Child`] sends its group.
    pub death_signal: Signal,
    /// The log level of a line that the child prints.
    pub level: fn(&str) -> log::Level,
}

/// How a child that was run to its end did.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: std::process::ExitStatus,
    /// Its last lines on either stream, oldest first, at most [`TAIL_LINES`].
    pub tail: Vec<String>,
}

/// Why a child did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be run: missing, not executable, or no more processes allowed.
    #[error("cannot start {}", program.display())]
    Start {
        /// What was to be run.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The spawner's thread has ended, which happens only while the agent stops.
    #[error("no children are started any more")]
    Stopped,
}
