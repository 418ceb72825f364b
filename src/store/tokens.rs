//! API tokens: 40 hexadecimal digits, shown once, stored as their SHA-256.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::access::Caller;
use super::ids::{TokenId, UserId};
use super::page::Window;
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

/// A token, without its secret.
#[derive(Clone, Debug)]
pub struct ApiToken {
    /// The token's id.
    pub id: TokenId,
    /// What its owner calls it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working; `None` never.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

const COLUMNS: &str = "id, name, created_at, expires_at, last_used_at";

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

/// Lists the caller's tokens, newest first, with their number.
///
/// # Errors
/// See [`Error`].
pub async fn list(client: &Client, caller: &Caller, window: Window) -> Result<(i64, Vec<ApiToken>), Error> {
    let sql = format!(
        "select {COLUMNS}, count(*) over () from api_tokens where user_id = $1
         order by id desc limit $2 offset $3"
    );
    let rows = client.query(&sql, &[&caller.user().0, &window.limit, &window.offset]).await?;
    let count = rows.first().map_or(0, |row| row.get("count"));
    Ok((count, rows.iter().map(token_of).collect()))
}

/// Stores a token of the caller under its secret.
///
/// # Errors
/// See [`Error`].
pub async fn create(
    client: &Client,
    caller: &Caller,
    name: &str,
    secret: &str,
    expires_at: Option<Timestamp>,
) -> Result<ApiToken, Error> {
    let sql = format!(
        "insert into api_tokens (id, user_id, name, token_hash, expires_at) values ($1, $2, $3, $4, $5)
         returning {COLUMNS}"
    );
    let id = TokenId::new().0;
    let hash = hash(secret);
    let row = client.query_one(&sql, &[&id, &caller.user().0, &name, &hash.as_slice(), &expires_at]).await?;
    Ok(token_of(&row))
}

/// Deletes a token of the caller. Returns whether there was one.
///
/// # Errors
/// See [`Error`].
pub async fn delete(client: &Client, caller: &Caller, id: TokenId) -> Result<bool, Error> {
    let sql = "delete from api_tokens where id = $1 and user_id = $2";
    Ok(client.execute(sql, &[&id.0, &caller.user().0]).await? == 1)
}

fn token_of(row: &Row) -> ApiToken {
    ApiToken {
        id: TokenId(row.get("id")),
        name: row.get("name"),
        created_at: row.get("created_at"),
        expires_at: row.get("expires_at"),
        last_used_at: row.get("last_used_at"),
    }
}
