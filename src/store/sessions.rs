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

/// A session to be started.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// Whose it is.
    pub user: UserId,
    /// The password that was verified, as it was stored then.
    pub password_hash: &'a str,
    /// The key that will open it.
    pub key: &'a str,
    /// How long it lasts.
    pub age: Duration,
    /// The session that it replaces: a key that was known before the login is worth nothing after it.
    pub previous: Option<&'a str>,
}

/// Starts a session and notes the login. Returns false, and does nothing, if the user may not log in any more or has
/// another password by now: verifying takes its time.
///
/// The update locks the user's row, so that a change of the password either sees this session and ends it, or is seen.
///
/// # Errors
/// See [`Error`].
pub async fn start(client: &Client, session: &NewSession<'_>) -> Result<bool, Error> {
    let sql = "with login as (
                   update users set last_login = now() where id = $2 and password = $5 and is_active returning id
               ), gone as (delete from sessions using login where key_hash = $4)
               insert into sessions (key_hash, user_id, expires_at)
               select $1, id, now() + $3 * interval '1 second' from login";
    let NewSession { user, password_hash, key, age, previous } = session;
    let previous = previous.map(|key| hash(key).to_vec());
    let key = hash(key);
    let started = client
        .execute(sql, &[&key.as_slice(), &user.0, &age.as_secs_f64(), &previous, password_hash])
        .await?;
    Ok(started == 1)
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
