//! A pooled connection that knows when it must not be used again.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::Object;
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row};

use super::error::{Error, breaks_connection};

/// The server enforces the statement timeout; this much later we stop believing that it still lives.
const SILENCE_GRACE: Duration = Duration::from_secs(3);

/// Parameters of a statement.
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection out of the pool. Goes back when dropped, unless an error showed that it is of no use any more.
pub struct Client {
    /// `None` only while dropping.
    object: Option<Object>,
    broken: AtomicBool,
    silence_max: Duration,
}

impl Client {
    pub(super) fn new(object: Object, statement_timeout: Duration) -> Self {
        let silence_max = statement_timeout.saturating_add(SILENCE_GRACE);
        Self { object: Some(object), broken: AtomicBool::new(false), silence_max }
    }

    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        let object = self.object();
        self.watch(async {
            let statement = object.prepare_cached(sql).await?;
            object.query(&statement, params).await
        })
        .await
    }

    /// Runs a statement that returns at most one row.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn query_opt(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>, Error> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    /// Runs a statement that always returns a row.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Unexpected`] where there is no row.
    pub async fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row, Error> {
        self.query_opt(sql, params).await?.ok_or_else(|| Error::Unexpected("no row returned".into()))
    }

    /// Runs a statement and returns how many rows it changed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, Error> {
        let object = self.object();
        self.watch(async {
            let statement = object.prepare_cached(sql).await?;
            object.execute(&statement, params).await
        })
        .await
    }

    /// Runs statements without parameters, separated by semicolons.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn batch(&self, sql: &str) -> Result<(), Error> {
        self.watch(self.object().batch_execute(sql)).await
    }

    /// Starts a transaction; it rolls back unless committed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        self.start(IsolationLevel::ReadCommitted).await
    }

    /// Starts a transaction that sees one unchanging state of the database.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn snapshot(&mut self) -> Result<Transaction<'_>, Error> {
        self.start(IsolationLevel::RepeatableRead).await
    }

    async fn start(&mut self, isolation: IsolationLevel) -> Result<Transaction<'_>, Error> {
        let Self { object, broken, silence_max } = self;
        let object = object.as_mut().expect("present until dropped");
        let start = object.build_transaction().isolation_level(isolation).start();
        let inner = watch(broken, *silence_max, start).await?;
        Ok(Transaction { inner, broken, silence_max: *silence_max })
    }

    /// Lets a statement of the current session run longer than usual: maintenance and bulk loads.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_statement_timeout(&mut self, timeout: Duration) -> Result<(), Error> {
        self.silence_max = timeout.saturating_add(SILENCE_GRACE);
        // The session goes back to the pool with this setting, so it must not go back.
        self.broken.store(true, Ordering::Relaxed);
        self.batch(&format!("set statement_timeout = {0}; set lock_timeout = {0}", timeout.as_millis())).await
    }

    fn object(&self) -> &Object {
        self.object.as_ref().expect("present until dropped")
    }

    async fn watch<T>(
        &self,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        watch(&self.broken, self.silence_max, call).await
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(object) = self.object.take()
            && self.broken.load(Ordering::Relaxed)
        {
            // Taken out of the pool: dropping the connection itself closes it.
            drop(Object::take(object));
        }
    }
}

/// A transaction on a [`Client`]. Dropped without [`commit`](Self::commit), it rolls back.
pub struct Transaction<'a> {
    inner: deadpool_postgres::Transaction<'a>,
    broken: &'a AtomicBool,
    silence_max: Duration,
}

impl Transaction<'_> {
    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        watch(self.broken, self.silence_max, async {
            let statement = self.inner.prepare_cached(sql).await?;
            self.inner.query(&statement, params).await
        })
        .await
    }

    /// Runs a statement that returns at most one row.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn query_opt(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>, Error> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    /// Runs a statement that always returns a row.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Unexpected`] where there is no row.
    pub async fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row, Error> {
        self.query_opt(sql, params).await?.ok_or_else(|| Error::Unexpected("no row returned".into()))
    }

    /// Runs a statement and returns how many rows it changed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, Error> {
        watch(self.broken, self.silence_max, async {
            let statement = self.inner.prepare_cached(sql).await?;
            self.inner.execute(&statement, params).await
        })
        .await
    }

    /// Runs statements without parameters, separated by semicolons.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn batch(&self, sql: &str) -> Result<(), Error> {
        watch(self.broken, self.silence_max, self.inner.batch_execute(sql)).await
    }

    /// Lets the statements of this transaction run for `timeout`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_statement_timeout(&mut self, timeout: Duration) -> Result<(), Error> {
        self.silence_max = timeout.saturating_add(SILENCE_GRACE);
        self.batch(&format!(
            "set local statement_timeout = {0}; set local lock_timeout = {0}",
            timeout.as_millis()
        ))
        .await
    }

    /// Makes the transaction's changes durable and visible.
    ///
    /// # Errors
    /// See [`Error`]. After [`Error::Unavailable`] it is unknown whether the changes were made.
    pub async fn commit(self) -> Result<(), Error> {
        watch(self.broken, self.silence_max, self.inner.commit()).await
    }
}

/// Awaits a database call no longer than `silence_max` and notes when its connection is of no use any more.
async fn watch<T>(
    broken: &AtomicBool,
    silence_max: Duration,
    call: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(silence_max, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            if breaks_connection(&error) {
                broken.store(true, Ordering::Relaxed);
            }
            Err(Error::from_postgres(error))
        }
        Err(elapsed) => {
            broken.store(true, Ordering::Relaxed);
            Err(Error::Unavailable(Box::new(elapsed)))
        }
    }
}
