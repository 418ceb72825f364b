//! Invitations: each lets one person register where registration is by invitation. Stored hashed, used once.

use std::time::Duration;

use jiff::Timestamp;

use super::access::Caller;
use super::ids::UserId;
use super::sessions::hash;
use super::{Client, Error, Transaction};

/// Stores an invitation under `code` that is valid for `age`. Returns when it expires.
///
/// # Errors
/// See [`Error`].
pub async fn create(client: &Client, caller: &Caller, code: &str, age: Duration) -> Result<Timestamp, Error> {
    let sql = "insert into invitations (code_hash, created_by, expires_at)
               values ($1, $2, now() + $3 * interval '1 second') returning expires_at";
    let hash = hash(code);
    let row = client.query_one(sql, &[&hash.as_slice(), &caller.user().0, &age.as_secs_f64()]).await?;
    Ok(row.get(0))
}

/// Uses the invitation up for `user`. Returns whether it was valid.
pub(super) async fn redeem(transaction: &Transaction<'_>, code: &str, user: UserId) -> Result<bool, Error> {
    let sql = "update invitations set used_by = $2
               where code_hash = $1 and used_by is null and expires_at > now()";
    Ok(transaction.execute(sql, &[&hash(code).as_slice(), &user.0]).await? == 1)
}
