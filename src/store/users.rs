//! Accounts. Names are unique without regard to case.

use jiff::Timestamp;
use tokio_postgres::Row;

use super::access::Caller;
use super::ids::{CollectionId, UserId};
use super::{Client, Error, invitations};

/// An account, without its password.
#[derive(Clone, Debug)]
pub struct User {
    /// The account's id.
    pub id: UserId,
    /// The name to log in with.
    pub username: String,
    /// Address, or empty.
    pub email: String,
    /// Whether the user administers the service.
    pub is_staff: bool,
    /// When the account was made.
    pub created_at: Timestamp,
}

/// An account to be made.
#[derive(Debug)]
pub struct NewUser<'a> {
    /// The name to log in with.
    pub username: &'a str,
    /// Address, or empty.
    pub email: &'a str,
    /// PHC string of the password.
    pub password_hash: &'a str,
    /// Whether the user administers the service.
    pub is_staff: bool,
    /// Name of the collection that the user starts with.
    pub collection: &'a str,
}

/// What a login is checked against.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The account.
    pub user: User,
    /// PHC string of the password.
    pub password_hash: String,
    /// Whether the account may be used.
    pub is_active: bool,
}

/// Why no account was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Another account has the name.
    #[error("username taken")]
    UsernameTaken,
    /// The invitation is unknown, used or expired.
    #[error("invitation not valid")]
    Invitation,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
}

const COLUMNS: &str = "id, username, email, is_staff, created_at";

/// Makes an account with a collection of its own; uses up `invitation` where one is given. All or nothing.
///
/// # Errors
/// See [`CreateError`].
pub async fn create(
    client: &mut Client,
    user: &NewUser<'_>,
    invitation: Option<&str>,
) -> Result<User, CreateError> {
    let transaction = client.transaction().await?;
    let sql = format!(
        "with made as (
             insert into users (id, username, email, password, is_staff) values ($1, $2, $3, $4, $5) returning *
         ), collection as (insert into collections (id, name) values ($6, $7)),
         member as (insert into members (collection_id, user_id, role) values ($6, $1, 'owner'))
         select {COLUMNS} from made"
    );
    let id = UserId::new();
    let NewUser { username, email, password_hash, is_staff, collection } = user;
    let row = transaction
        .query_one(
            &sql,
            &[&id.0, username, email, password_hash, is_staff, &CollectionId::new().0, collection],
        )
        .await
        .map_err(|error| match error.is_conflict_on("users_username") {
            true => CreateError::UsernameTaken,
            false => error.into(),
        })?;
    if let Some(code) = invitation
        && !invitations::redeem(&transaction, code, id).await?
    {
        return Err(CreateError::Invitation);
    }
    transaction.commit().await?;
    Ok(user_of(&row))
}

/// Finds what a login under `username` is checked against.
///
/// # Errors
/// See [`Error`].
pub async fn credentials(client: &Client, username: &str) -> Result<Option<Credentials>, Error> {
    let sql = format!("select {COLUMNS}, password, is_active from users where lower(username) = lower($1)");
    let row = client.query_opt(&sql, &[&username]).await?;
    Ok(row.map(|row| Credentials {
        user: user_of(&row),
        password_hash: row.get("password"),
        is_active: row.get("is_active"),
    }))
}

/// Returns the caller's own account; `None` where it was deleted a moment ago.
///
/// # Errors
/// See [`Error`].
pub async fn me(client: &Client, caller: &Caller) -> Result<Option<User>, Error> {
    let sql = format!("select {COLUMNS} from users where id = $1");
    Ok(client.query_opt(&sql, &[&caller.user().0]).await?.map(|row| user_of(&row)))
}

/// Replaces a password and ends all of the user's sessions in the same moment.
///
/// * `verified`: the password that its owner gave, as it was stored when it was verified; `None` for whoever needs none.
///
/// Returns false, and changes nothing, if the user has another password than `verified` by now.
///
/// # Errors
/// See [`Error`].
pub async fn set_password(
    client: &mut Client,
    user: UserId,
    verified: Option<&str>,
    password_hash: &str,
) -> Result<bool, Error> {
    // Two statements: the second sees the sessions of logins that the first has waited for.
    let transaction = client.transaction().await?;
    let sql = "update users set password = $3 where id = $1 and ($2::text is null or password = $2)";
    let changed = transaction.execute(sql, &[&user.0, &verified, &password_hash]).await? == 1;
    if changed {
        transaction.execute("delete from sessions where user_id = $1", &[&user.0]).await?;
    }
    transaction.commit().await?;
    Ok(changed)
}

fn user_of(row: &Row) -> User {
    User {
        id: UserId(row.get("id")),
        username: row.get("username"),
        email: row.get("email"),
        is_staff: row.get("is_staff"),
        created_at: row.get("created_at"),
    }
}
