//! What can go wrong with the database, by what the caller can do about it.

use deadpool_postgres::PoolError;
use tokio_postgres::error::{DbError, SqlState};

/// A failed database call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, is starting, stopping or read-only, or no connection came free in time.
    /// The same call may succeed later.
    #[error("database unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The statement ran into its time limit or lost against a concurrent transaction. Retry, or shed load.
    #[error("database busy")]
    Busy(#[source] Refusal),
    /// The database's disk or memory is full. Nothing was stored.
    #[error("database full")]
    Full(#[source] Refusal),
    /// A unique or foreign-key constraint refused the row.
    #[error("constraint {constraint} violated")]
    Conflict {
        /// The constraint's name in the schema.
        constraint: String,
    },
    /// Anything else: a defect of ours or of the schema.
    #[error("database call failed")]
    Unexpected(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Whether the same call may succeed when it is tried again later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Busy(_) | Self::Full(_))
    }

    /// Whether this is a violation of the constraint of that name.
    pub fn is_conflict_on(&self, name: &str) -> bool {
        matches!(self, Self::Conflict { constraint } if constraint == name)
    }

    pub(super) fn from_pool(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => match Self::from_postgres(error) {
                // What fails before a connection exists (wrong password, missing database) may be mended outside.
                Self::Unexpected(source) => Self::Unavailable(source),
                other => other,
            },
            other => Self::Unavailable(Box::new(other)),
        }
    }

    pub(super) fn from_postgres(error: tokio_postgres::Error) -> Self {
        let breaks = breaks_connection(&error);
        let Some(refusal) = error.as_db_error().map(Refusal::from) else {
            return if breaks {
                Self::Unavailable(Box::new(error))
            } else {
                Self::Unexpected(Box::new(error))
            };
        };
        match &refusal.code.code()[..2] {
            _ if breaks => Self::Unavailable(Box::new(refusal)),
            "53" if refusal.code == SqlState::DISK_FULL || refusal.code == SqlState::OUT_OF_MEMORY => {
                Self::Full(refusal)
            }
            "53" => Self::Unavailable(Box::new(refusal)),
            "40" | "55" | "57" => Self::Busy(refusal),
            "23" if refusal.constraint.is_some() => {
                Self::Conflict { constraint: refusal.constraint.unwrap_or_default() }
            }
            _ => Self::Unexpected(Box::new(refusal)),
        }
    }
}

/// What Postgres said, without its detail, hint and context: those quote rows, and rows are people's texts and secrets.
#[derive(Debug, thiserror::Error)]
#[error("{severity} {}: {message}", code.code())]
pub struct Refusal {
    code: SqlState,
    severity: String,
    message: String,
    constraint: Option<String>,
}

impl From<&DbError> for Refusal {
    fn from(error: &DbError) -> Self {
        Self {
            code: error.code().clone(),
            severity: error.severity().to_owned(),
            message: error.message().to_owned(),
            constraint: error.constraint().map(str::to_owned),
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::from_postgres(error)
    }
}

/// Whether the connection that gave `error` must not be used again: 25006 (the server became a standby),
/// 57P0x (it is stopping or starting), 08xxx and a lost socket.
pub(super) fn breaks_connection(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => {
            *code == SqlState::READ_ONLY_SQL_TRANSACTION
                || code.code().starts_with("57P0")
                || code.code().starts_with("08")
                || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        }
        // Without a code it is the socket or the protocol, unless the mistake is in our call's types.
        None => {
            error.is_closed()
                || std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
        }
    }
}
