//! Login attempts of the last minute, counted for all nodes together.

use std::time::Duration;

use super::sessions::hash;
use super::{Client, Error};

/// Attempts older than this count no more; in seconds, as SQL has it.
const WINDOW_SECONDS: f64 = 60.0;

/// Whether an attempt may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It may, and was counted.
    Counted,
    /// It may not before this time has passed.
    TooMany(Duration),
}

/// Counts an attempt to log in as `username` from `address`, at most `limit` a minute.
///
/// Only a hash of the pair is stored: people type passwords into the wrong field. Attempts on one pair wait for each
/// other, so that many at once cannot slip past the limit together.
///
/// # Errors
/// See [`Error`].
pub async fn count(client: &mut Client, username: &str, address: &str, limit: u32) -> Result<Attempt, Error> {
    let bucket = bucket(username, address);
    let transaction = client.transaction().await?;
    transaction.query("select pg_advisory_xact_lock(hashtextextended($1, 0))", &[&bucket]).await?;
    // The attempt that has to leave the window before there is room for another.
    let sql = "select extract(epoch from attempted_at + $2 * interval '1 second' - now())::float8
               from login_attempts
               where bucket = $1 and attempted_at > now() - $2 * interval '1 second'
               order by attempted_at desc offset $3 limit 1";
    let before = i64::from(limit.max(1)) - 1;
    if let Some(row) = transaction.query_opt(sql, &[&bucket, &WINDOW_SECONDS, &before]).await? {
        let seconds: f64 = row.get(0);
        return Ok(Attempt::TooMany(Duration::from_secs_f64(seconds.clamp(0.0, WINDOW_SECONDS))));
    }
    transaction.execute("insert into login_attempts (bucket) values ($1)", &[&bucket]).await?;
    transaction.commit().await?;
    Ok(Attempt::Counted)
}

/// Forgets the attempts of a pair that logged in.
///
/// # Errors
/// See [`Error`].
pub async fn forget(client: &Client, username: &str, address: &str) -> Result<(), Error> {
    client.execute("delete from login_attempts where bucket = $1", &[&bucket(username, address)]).await?;
    Ok(())
}

/// Deletes attempts that count no more. Returns how many.
///
/// # Errors
/// See [`Error`].
pub async fn clear_old(client: &Client) -> Result<u64, Error> {
    let sql = "delete from login_attempts where attempted_at < now() - $1 * interval '1 second'";
    client.execute(sql, &[&WINDOW_SECONDS]).await
}

fn bucket(username: &str, address: &str) -> String {
    hex::encode(hash(&format!("{address} {}", username.to_lowercase())))
}
