//! Embedded, forward-only migrations under one advisory lock.
//!
//! Any number of nodes may start at once on an empty database: the lock is held by one session for the whole run, so
//! exactly one applies each migration and the others find it applied. A migration never changes once released; a test
//! compares the recorded checksums.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Error, Store};

/// The migrations, oldest first; the position is the number.
pub const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_initial", include_str!("migrations/0001_initial.sql")),
    ("0002_documents", include_str!("migrations/0002_documents.sql")),
    ("0003_answers", include_str!("migrations/0003_answers.sql")),
];

/// Any number that no other program uses on the same database.
const LOCK: i64 = 0x6167_656e_745f_6d67;

/// How long to wait for another node's run, and how long one migration may take.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);

/// What a run of [`migrate`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Names of the migrations that this run applied.
    pub applied: Vec<&'static str>,
    /// How many the database has now.
    pub total: usize,
}

/// Brings the schema up to this binary's version.
///
/// A database that is ahead of this binary (a newer node came first) is left as it is.
///
/// # Errors
/// See [`Error`]; a migration that fails leaves the database as it was before that migration.
pub async fn migrate(store: &Store) -> Result<Applied, Error> {
    let mut client = store.primary().await?;
    client.set_statement_timeout(MIGRATION_TIMEOUT).await?;
    // The lock belongs to the session: it goes with the connection, whatever happens to us.
    client.query("select pg_advisory_lock($1)", &[&LOCK]).await?;
    client
        .batch(
            "create table if not exists migrations (
                 number int primary key,
                 name text not null,
                 sha256 bytea not null,
                 applied_at timestamptz not null default now()
             )",
        )
        .await?;
    let mut applied = Vec::new();
    for (number, (name, sql)) in (1i32..).zip(MIGRATIONS) {
        let transaction = client.transaction().await?;
        if transaction.query_opt("select 1 from migrations where number = $1", &[&number]).await?.is_none() {
            transaction.batch(sql).await?;
            let sha256 = Sha256::digest(sql);
            let row = "insert into migrations (number, name, sha256) values ($1, $2, $3)";
            transaction.execute(row, &[&number, name, &sha256.as_slice()]).await?;
            applied.push(*name);
        }
        transaction.commit().await?;
    }
    client.query("select pg_advisory_unlock($1)", &[&LOCK]).await?;
    Ok(Applied { applied, total: MIGRATIONS.len() })
}

/// Returns how many migrations the database lacks; all of them on an empty one.
///
/// # Errors
/// See [`Error`].
pub async fn pending(store: &Store) -> Result<usize, Error> {
    let client = store.primary().await?;
    let exists = client.query_one("select to_regclass('migrations') is not null", &[]).await?;
    if !exists.get::<_, bool>(0) {
        return Ok(MIGRATIONS.len());
    }
    let newest: i32 = client.query_one("select coalesce(max(number), 0) from migrations", &[]).await?.get(0);
    Ok(MIGRATIONS.len().saturating_sub(usize::try_from(newest).unwrap_or(0)))
}
