//! Why the node or a command ended otherwise than in order; `cli` has an exit code for each.

use crate::app::accounts;
use crate::config::Problems;
use crate::store;

/// Why the node or a command ended otherwise than in order.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings are wrong; every problem is in it.
    #[error(transparent)]
    Settings(#[from] Problems),
    /// The machine lacks something that only a person can mend: the text names the remedy.
    #[error(transparent)]
    Machine(anyhow::Error),
    /// Something that the command depends on is away.
    #[error(transparent)]
    Unavailable(anyhow::Error),
    /// The command could not do what was asked.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
    /// `doctor` found something that must work and does not; it has said what.
    #[error("something that must work does not")]
    Unhealthy,
    /// A second signal cut the orderly stop short.
    #[error("stopped at once, without waiting for what was running")]
    Interrupted,
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        if error.is_transient() { Self::Unavailable(error.into()) } else { Self::Failed(error.into()) }
    }
}

impl From<accounts::Error> for Error {
    fn from(error: accounts::Error) -> Self {
        match error {
            accounts::Error::Store(error) => error.into(),
            other => Self::Failed(other.into()),
        }
    }
}

impl From<store::OptionsError> for Error {
    fn from(error: store::OptionsError) -> Self {
        Self::Machine(error.into())
    }
}

impl From<store::cluster::Error> for Error {
    fn from(error: store::cluster::Error) -> Self {
        if error.needs_a_person() { Self::Machine(error.into()) } else { Self::Unavailable(error.into()) }
    }
}

/// Returns what to tell a person, a line for each problem, each with its chain of causes.
pub fn explain(error: &Error) -> Vec<String> {
    match error {
        Error::Settings(problems) => problems.0.iter().map(ToString::to_string).collect(),
        Error::Machine(cause) | Error::Unavailable(cause) | Error::Failed(cause) => {
            vec![format!("{cause:#}")]
        }
        // The report is the explanation.
        Error::Unhealthy => Vec::new(),
        Error::Interrupted => vec![error.to_string()],
    }
}
