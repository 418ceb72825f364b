//! Collections: what belongs together, and who may read or change it.
//!
//! A collection that the caller is no member of does not exist for them: every statement here joins the membership.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::access::{Caller, ReadAccess, WriteAccess};
use super::ids::CollectionId;
use super::page::Window;
use super::{Client, Error, Transaction};

/// What a member may do; each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Search and read.
    Viewer,
    /// Add and delete documents.
    Editor,
    /// Rename, share and delete the collection.
    Owner,
}

impl Role {
    /// Returns the word for it, in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Owner => "owner",
        }
    }

    /// Reads the word for a role.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Viewer, Self::Editor, Self::Owner].into_iter().find(|role| role.as_str() == word)
    }

    pub(super) fn of(row: &Row) -> Self {
        Self::parse(row.get("role")).expect("the schema admits only these roles")
    }
}

/// A collection as one of its members sees it.
#[derive(Clone, Debug)]
pub struct Collection {
    /// The collection's id.
    pub id: CollectionId,
    /// Its name.
    pub name: String,
    /// What the caller may do with it.
    pub role: Role,
    /// Documents in it, whatever their state.
    pub document_count: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last renamed.
    pub updated_at: Timestamp,
}

/// What became of a change that only owners may make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It was made.
    Done(T),
    /// The caller is no member, or the thing does not exist.
    Missing,
    /// The caller is a member, but no owner.
    Forbidden,
    /// It would leave the collection without an owner.
    LastOwner,
}

/// How long the deletion of one collection may take. Its size has no limit, so the usual one of a statement would make a
/// large collection impossible to delete.
const DELETION_TIMEOUT: Duration = Duration::from_secs(60);

const COLUMNS: &str = "c.id, c.name, m.role, c.created_at, c.updated_at,
    (select count(*) from documents d where d.collection_id = c.id) as document_count";

/// Returns everything that the caller may read.
///
/// # Errors
/// See [`Error`].
pub async fn readable(client: &Client, caller: &Caller) -> Result<ReadAccess, Error> {
    let sql = "select collection_id from members where user_id = $1";
    let rows = client.query(sql, &[&caller.user().0]).await?;
    let collections = rows.iter().map(|row| CollectionId(row.get(0))).collect();
    Ok(ReadAccess::new(caller.user(), collections))
}

/// Returns the access to a collection that the caller may change, be it as editor or owner.
///
/// # Errors
/// See [`Error`].
pub async fn writable(
    client: &Client,
    caller: &Caller,
    id: CollectionId,
) -> Result<Outcome<WriteAccess>, Error> {
    let sql = "select role from members where user_id = $1 and collection_id = $2";
    let row = client.query_opt(sql, &[&caller.user().0, &id.0]).await?;
    Ok(match row.map(|row| Role::of(&row)) {
        Some(Role::Editor | Role::Owner) => Outcome::Done(WriteAccess::new(caller.user(), id)),
        Some(Role::Viewer) => Outcome::Forbidden,
        None => Outcome::Missing,
    })
}

/// Returns the oldest collection that the caller owns: where uploads go that name none.
///
/// # Errors
/// See [`Error`].
pub async fn default_of(client: &Client, caller: &Caller) -> Result<Option<WriteAccess>, Error> {
    let sql = "select collection_id from members where user_id = $1 and role = 'owner'
               order by collection_id limit 1";
    let row = client.query_opt(sql, &[&caller.user().0]).await?;
    Ok(row.map(|row| WriteAccess::new(caller.user(), CollectionId(row.get(0)))))
}

/// Lists the caller's collections, oldest first, with their number.
///
/// # Errors
/// See [`Error`].
pub async fn list(client: &Client, caller: &Caller, window: Window) -> Result<(i64, Vec<Collection>), Error> {
    let sql = format!(
        "select {COLUMNS}, count(*) over () from members m join collections c on c.id = m.collection_id
         where m.user_id = $1 order by c.id limit $2 offset $3"
    );
    let rows = client.query(&sql, &[&caller.user().0, &window.limit, &window.offset]).await?;
    let count = rows.first().map_or(0, |row| row.get("count"));
    Ok((count, rows.iter().map(collection_of).collect()))
}

/// Makes a collection that the caller owns.
///
/// # Errors
/// See [`Error`].
pub async fn create(client: &Client, caller: &Caller, name: &str) -> Result<Collection, Error> {
    let sql = "with c as (insert into collections (id, name) values ($1, $2) returning *),
                    m as (insert into members (collection_id, user_id, role) values ($1, $3, 'owner')
                          returning role)
               select c.id, c.name, m.role, c.created_at, c.updated_at, 0::bigint as document_count from c, m";
    let row = client.query_one(sql, &[&CollectionId::new().0, &name, &caller.user().0]).await?;
    Ok(collection_of(&row))
}

/// Returns a collection that the caller is a member of.
///
/// # Errors
/// See [`Error`].
pub async fn get(client: &Client, caller: &Caller, id: CollectionId) -> Result<Option<Collection>, Error> {
    let sql = format!(
        "select {COLUMNS} from members m join collections c on c.id = m.collection_id
         where m.user_id = $1 and c.id = $2"
    );
    Ok(client.query_opt(&sql, &[&caller.user().0, &id.0]).await?.map(|row| collection_of(&row)))
}

/// Renames a collection that the caller owns.
///
/// # Errors
/// See [`Error`].
pub async fn rename(
    client: &mut Client,
    caller: &Caller,
    id: CollectionId,
    name: &str,
) -> Result<Outcome<Collection>, Error> {
    let transaction = client.transaction().await?;
    if let Some(refused) = lock_as_owner(&transaction, caller, id).await? {
        return Ok(refused);
    }
    let sql = format!(
        "with c as (update collections set name = $3, updated_at = now() where id = $2 returning *)
         select {COLUMNS} from c join members m on m.collection_id = c.id and m.user_id = $1"
    );
    let row = transaction.query_one(&sql, &[&caller.user().0, &id.0, &name]).await?;
    transaction.commit().await?;
    Ok(Outcome::Done(collection_of(&row)))
}

/// Deletes a collection that the caller owns, with all that is in it. Its documents are gone for every reader when
/// this returns; every index hears of them through the log, and the originals are left to the sweep of the blobs.
///
/// # Errors
/// See [`Error`].
pub async fn delete(client: &mut Client, caller: &Caller, id: CollectionId) -> Result<Outcome<()>, Error> {
    let mut transaction = client.transaction().await?;
    transaction.set_statement_timeout(DELETION_TIMEOUT).await?;
    // An upload into the collection at this moment waits for the lock, and then finds no collection.
    if let Some(refused) = lock_as_owner(&transaction, caller, id).await? {
        return Ok(refused);
    }
    let sql = "with inside as (select id, blob from documents where collection_id = $1),
                    logged as (insert into index_log (document_id) select id from inside)
               insert into blob_removals (blob) select blob from inside on conflict do nothing";
    transaction.execute(sql, &[&id.0]).await?;
    transaction.execute("delete from collections where id = $1", &[&id.0]).await?;
    transaction.commit().await?;
    Ok(Outcome::Done(()))
}

/// Locks the collection's row until the transaction ends. Returns why the caller may not change it, if so.
pub(super) async fn lock_as_owner<T>(
    transaction: &Transaction<'_>,
    caller: &Caller,
    id: CollectionId,
) -> Result<Option<Outcome<T>>, Error> {
    transaction.query("select 1 from collections where id = $1 for update", &[&id.0]).await?;
    // Only after the lock: an owner who was removed while we waited is none any more.
    let sql = "select role from members where collection_id = $1 and user_id = $2";
    let row = transaction.query_opt(sql, &[&id.0, &caller.user().0]).await?;
    Ok(match row.map(|row| Role::of(&row)) {
        Some(Role::Owner) => None,
        Some(_) => Some(Outcome::Forbidden),
        None => Some(Outcome::Missing),
    })
}

fn collection_of(row: &Row) -> Collection {
    Collection {
        id: CollectionId(row.get::<_, Uuid>("id")),
        name: row.get("name"),
        role: Role::of(row),
        document_count: row.get("document_count"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    }
}
