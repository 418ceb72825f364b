//! API tokens: 40 hexadecimal digits, shown once, stored as their SHA-256.

use uuid::Uuid;

use super::access::Caller;
use super::ids::{TokenId, UserId};
use super::sessions::hash;
use super::{Client, Error};

/// Whose token it is.
#[derive(Clone, Debug)]
pub enum TokenOwner {
    /// Somebody who may use the service.
    Active(Caller),
    /// Somebody who was switched off.
    Inactive,
}

/// Finds the owner of an unexpired token, and notes the use at most once a minute.
///
/// # Errors
/// See [`Error`].
pub async fn authenticate(client: &Client, token: &str) -> Result<Option<TokenOwner>, Error> {
    let sql = "select u.id, u.username, u.is_staff, u.is_active, t.id,
                      t.last_used_at is null or t.last_used_at < now() - interval '1 minute'
               from api_tokens t join users u on u.id = t.user_id
               where t.token_hash = $1 and (t.expires_at is null or t.expires_at > now())";
    let Some(row) = client.query_opt(sql, &[&hash(token).as_slice()]).await? else {
        return Ok(None);
    };
    if !row.get::<_, bool>(3) {
        return Ok(Some(TokenOwner::Inactive));
    }
    if row.get(5) {
        note_use(client, TokenId(row.get(4))).await?;
    }
    let user = UserId(row.get::<_, Uuid>(0));
    Ok(Some(TokenOwner::Active(Caller::new(user, row.get(1), row.get(2)))))
}

async fn note_use(client: &Client, token: TokenId) -> Result<(), Error> {
    client.execute("update api_tokens set last_used_at = now() where id = $1", &[&token.0]).await?;
    Ok(())
}
