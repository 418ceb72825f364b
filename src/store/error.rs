//! What can go wrong with the database, by what the caller can do about it.

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

/// A failed database call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, is starting, stopping or read-only, or no connection came free in time.
    /// The same call may succeed later.
    #[error("database unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The statement ran into its time limit or lost against a concurrent transaction. Retry, or shed load.
    #[error("database busy")]
    Busy(#[source] tokio_postgres::Error),
    /// The database's disk or memory is full. Nothing was stored.
    #[error("database full")]
    Full(#[source] tokio_postgres::Error),
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
        let Some(code) = error.code().cloned() else {
            return if error.is_closed() || breaks_connection(&error) {
                Self::Unavailable(Box::new(error))
            } else {
                Self::Unexpected(Box::new(error))
            };
        };
        match &code.code()[..2] {
            _ if breaks_connection(&error) => Self::Unavailable(Box::new(error)),
            "53" if code == SqlState::DISK_FULL || code == SqlState::OUT_OF_MEMORY => Self::Full(error),
            "53" => Self::Unavailable(Box::new(error)),
            "40" | "55" => Self::Busy(error),
            "57" => Self::Busy(error),
            "23" => match error.as_db_error().and_then(|db| db.constraint()) {
                Some(constraint) => Self::Conflict { constraint: constraint.to_owned() },
                None => Self::Unexpected(Box::new(error)),
            },
            _ => Self::Unexpected(Box::new(error)),
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
