//! Sessions of people who logged in. Only the SHA-256 of a key is stored: a copy of the table opens no session.

use std::time::Duration;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::access::{Caller, ReadAccess};
use super::ids::{CollectionId, UserId};
use super::{Client, Error};

/// Finds the active user whose unexpired session has this key.
///
/// # Errors
/// See [`Error`].
pub async fn authenticate(client: &Client, key: &str) -> Result<Option<Caller>, Error> {
    let sql = "select u.id, u.username, u.is_staff
               from sessions s join users u on u.id = s.user_id
               where s.key_hash = $1 and s.expires_at > now() and u.is_active";
    let row = client.query_opt(sql, &[&hash(key).as_slice()]).await?;
    Ok(row.map(|row| Caller::new(UserId(row.get::<_, Uuid>(0)), row.get(1), row.get(2))))
}

/// Finds what the active user whose unexpired session has this key may read.
///
/// # Errors
/// See [`Error`].
pub async fn authenticate_reader(client: &Client, key: &str) -> Result<Option<ReadAccess>, Error> {
    let sql = "select u.id, array(select collection_id from members where user_id = u.id)
               from sessions s join users u on u.id = s.user_id
               where s.key_hash = $1 and s.expires_at > now() and u.is_active";
    let row = client.query_opt(sql, &[&hash(key).as_slice()]).await?;
    Ok(row.map(|row| {
        let collections: Vec<Uuid> = row.get(1);
        ReadAccess::new(UserId(row.get(0)), collections.into_iter().map(CollectionId).collect())
    }))
}

/// Starts a session of `user` under `key` that ends after `age`, notes the login, and ends the session `previous`:
/// a key that was known before the login is worth nothing after it.
///
/// # Errors
/// See [`Error`].
pub async fn start(
    client: &Client,
    user: UserId,
    key: &str,
    age: Duration,
    previous: Option<&str>,
) -> Result<(), Error> {
    let sql = "with gone as (delete from sessions where key_hash = $4),
                    login as (update users set last_login = now() where id = $2)
               insert into sessions (key_hash, user_id, expires_at)
               values ($1, $2, now() + $3 * interval '1 second')";
    let previous = previous.map(|key| hash(key).to_vec());
    client.execute(sql, &[&hash(key).as_slice(), &user.0, &age.as_secs_f64(), &previous]).await?;
    Ok(())
}

/// Ends the session of this key; an unknown key is no error.
///
/// # Errors
/// See [`Error`].
pub async fn end(client: &Client, key: &str) -> Result<(), Error> {
    client.execute("delete from sessions where key_hash = $1", &[&hash(key).as_slice()]).await?;
    Ok(())
}

/// Deletes sessions that have expired. Returns how many.
///
/// # Errors
/// See [`Error`].
pub async fn clear_expired(client: &Client) -> Result<u64, Error> {
    client.execute("delete from sessions where expires_at <= now()", &[]).await
}

/// What is stored of a session key or token.
pub(super) fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}
