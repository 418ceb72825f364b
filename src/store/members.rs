//! Who shares a collection. There is always an owner left.

use jiff::Timestamp;
use tokio_postgres::Row;

use super::access::Caller;
use super::collections::{Outcome, Role, lock_as_owner};
use super::ids::{CollectionId, UserId};
use super::page::Window;
use super::{Client, Error, Transaction};

/// A member of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The user's id.
    pub user: UserId,
    /// The user's name.
    pub username: String,
    /// What they may do.
    pub role: Role,
    /// Since when they are a member.
    pub created_at: Timestamp,
}

/// Why nobody was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdded {
    /// No active user has the name.
    UnknownUser,
    /// The user is a member already.
    AlreadyMember,
}

const COLUMNS: &str = "m.user_id, u.username, m.role, m.created_at";

/// Lists the members in order of joining, with their number; a length of 0 where the caller is not among them.
///
/// # Errors
/// See [`Error`].
pub async fn list(
    client: &Client,
    caller: &Caller,
    id: CollectionId,
    window: Window,
) -> Result<(i64, Vec<Member>), Error> {
    let sql = format!(
        "select {COLUMNS}, count(*) over () from members m join users u on u.id = m.user_id
         where m.collection_id = $1
           and exists (select 1 from members own where own.collection_id = $1 and own.user_id = $2)
         order by m.created_at, m.user_id limit $3 offset $4"
    );
    let rows = client.query(&sql, &[&id.0, &caller.user().0, &window.limit, &window.offset]).await?;
    let count = rows.first().map_or(0, |row| row.get("count"));
    Ok((count, rows.iter().map(member_of).collect()))
}

/// Lets the user of that name share a collection that the caller owns.
///
/// # Errors
/// See [`Error`].
pub async fn add(
    client: &mut Client,
    caller: &Caller,
    id: CollectionId,
    username: &str,
    role: Role,
) -> Result<Outcome<Result<Member, NotAdded>>, Error> {
    let transaction = client.transaction().await?;
    if let Some(refused) = lock_as_owner(&transaction, caller, id).await? {
        return Ok(refused);
    }
    let sql = "select id from users where lower(username) = lower($1) and is_active";
    let Some(user) = transaction.query_opt(sql, &[&username]).await?.map(|row| UserId(row.get(0))) else {
        return Ok(Outcome::Done(Err(NotAdded::UnknownUser)));
    };
    let sql = format!(
        "with m as (insert into members (collection_id, user_id, role) values ($1, $2, $3)
                    on conflict do nothing returning *)
         select {COLUMNS} from m join users u on u.id = m.user_id"
    );
    let Some(row) = transaction.query_opt(&sql, &[&id.0, &user.0, &role.as_str()]).await? else {
        return Ok(Outcome::Done(Err(NotAdded::AlreadyMember)));
    };
    transaction.commit().await?;
    Ok(Outcome::Done(Ok(member_of(&row))))
}

/// Gives a member of a collection that the caller owns another role.
///
/// # Errors
/// See [`Error`].
pub async fn change(
    client: &mut Client,
    caller: &Caller,
    id: CollectionId,
    user: UserId,
    role: Role,
) -> Result<Outcome<Member>, Error> {
    let transaction = client.transaction().await?;
    if let Some(refused) = lock_as_owner(&transaction, caller, id).await? {
        return Ok(refused);
    }
    let sql = format!(
        "with m as (update members set role = $3 where collection_id = $1 and user_id = $2 returning *)
         select {COLUMNS} from m join users u on u.id = m.user_id"
    );
    let Some(row) = transaction.query_opt(&sql, &[&id.0, &user.0, &role.as_str()]).await? else {
        return Ok(Outcome::Missing);
    };
    if !has_owner(&transaction, id).await? {
        return Ok(Outcome::LastOwner);
    }
    transaction.commit().await?;
    Ok(Outcome::Done(member_of(&row)))
}

/// Ends a membership: an owner may remove anybody, everybody may leave.
///
/// # Errors
/// See [`Error`].
pub async fn remove(
    client: &mut Client,
    caller: &Caller,
    id: CollectionId,
    user: UserId,
) -> Result<Outcome<()>, Error> {
    let transaction = client.transaction().await?;
    match lock_as_owner(&transaction, caller, id).await? {
        Some(Outcome::Forbidden) if user == caller.user() => {}
        Some(refused) => return Ok(refused),
        None => {}
    }
    let sql = "delete from members where collection_id = $1 and user_id = $2";
    if transaction.execute(sql, &[&id.0, &user.0]).await? == 0 {
        return Ok(Outcome::Missing);
    }
    if !has_owner(&transaction, id).await? {
        return Ok(Outcome::LastOwner);
    }
    transaction.commit().await?;
    Ok(Outcome::Done(()))
}

async fn has_owner(transaction: &Transaction<'_>, id: CollectionId) -> Result<bool, Error> {
    let sql = "select 1 from members where collection_id = $1 and role = 'owner' limit 1";
    Ok(transaction.query_opt(sql, &[&id.0]).await?.is_some())
}

fn member_of(row: &Row) -> Member {
    Member {
        user: UserId(row.get("user_id")),
        username: row.get("username"),
        role: Role::of(row),
        created_at: row.get("created_at"),
    }
}
