//! Chats: a title, an optional choice of collections, one owner. Nobody else ever sees them.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::access::Caller;
use super::ids::{ChatId, CollectionId};
use super::page::Window;
use super::{Client, Error};

/// One chat.
#[derive(Clone, Debug)]
pub struct Chat {
    /// Its id.
    pub id: ChatId,
    /// What the owner calls it; empty until the first question names it.
    pub title: String,
    /// Where answers may come from; `None` is everything that the owner may read when they ask.
    pub collections: Option<Vec<CollectionId>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a message was last added.
    pub updated_at: Timestamp,
}

/// What a change of a chat sets; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The new title.
    pub title: Option<String>,
    /// The new choice of collections; the inner `None` means all.
    pub collections: Option<Option<Vec<CollectionId>>>,
}

/// Returns how many chats the caller has, and those of the window, the last used first.
///
/// # Errors
/// See [`Error`].
pub async fn list(client: &Client, caller: &Caller, window: Window) -> Result<(i64, Vec<Chat>), Error> {
    let sql = "select id, title, collections, created_at, updated_at,
                      (select count(*) from chats where owner_id = $1)
               from chats where owner_id = $1
               order by updated_at desc, id desc limit $2 offset $3";
    let rows = client.query(sql, &[&caller.user().0, &window.limit, &window.offset]).await?;
    Ok(counted(&rows))
}

/// Returns how many of the caller's chats have `text` in their title, and those of the window, the last used first.
///
/// # Errors
/// See [`Error`].
pub async fn search(
    client: &Client,
    caller: &Caller,
    text: &str,
    window: Window,
) -> Result<(i64, Vec<Chat>), Error> {
    // position() takes the text as it is: no wildcard of LIKE to escape.
    let sql = "select id, title, collections, created_at, updated_at, count(*) over ()
               from chats where owner_id = $1 and position(lower($4) in lower(title)) > 0
               order by updated_at desc, id desc limit $2 offset $3";
    let rows = client.query(sql, &[&caller.user().0, &window.limit, &window.offset, &text]).await?;
    Ok(counted(&rows))
}

/// Makes a chat.
///
/// # Errors
/// See [`Error`].
pub async fn create(
    client: &Client,
    caller: &Caller,
    title: &str,
    collections: Option<&[CollectionId]>,
) -> Result<Chat, Error> {
    let sql = "insert into chats (id, owner_id, title, collections) values ($1, $2, $3, $4)
               returning id, title, collections, created_at, updated_at";
    let collections = collections.map(uuids);
    let row = client.query_one(sql, &[&ChatId::new().0, &caller.user().0, &title, &collections]).await?;
    Ok(chat(&row))
}

/// Finds one of the caller's chats.
///
/// # Errors
/// See [`Error`].
pub async fn get(client: &Client, caller: &Caller, id: ChatId) -> Result<Option<Chat>, Error> {
    let sql = "select id, title, collections, created_at, updated_at
               from chats where id = $1 and owner_id = $2";
    Ok(client.query_opt(sql, &[&id.0, &caller.user().0]).await?.as_ref().map(chat))
}

/// Changes one of the caller's chats; its place in the list stays.
///
/// # Errors
/// See [`Error`].
pub async fn update(
    client: &Client,
    caller: &Caller,
    id: ChatId,
    change: &Change,
) -> Result<Option<Chat>, Error> {
    let sql = "update chats set title = coalesce($3, title),
                                collections = case when $4 then $5::uuid[] else collections end
               where id = $1 and owner_id = $2
               returning id, title, collections, created_at, updated_at";
    let chosen = change.collections.as_ref();
    let collections = chosen.and_then(Option::as_deref).map(uuids);
    let row = client
        .query_opt(sql, &[&id.0, &caller.user().0, &change.title, &chosen.is_some(), &collections])
        .await?;
    Ok(row.as_ref().map(chat))
}

/// Deletes one of the caller's chats with its messages. Returns whether there was one.
///
/// # Errors
/// See [`Error`].
pub async fn delete(client: &mut Client, caller: &Caller, id: ChatId) -> Result<bool, Error> {
    let transaction = client.transaction().await?;
    let sql = "select from chats where id = $1 and owner_id = $2 for update";
    if transaction.query_opt(sql, &[&id.0, &caller.user().0]).await?.is_none() {
        return Ok(false);
    }
    // The cascade would lock messages before generations, and wait in a circle with an answer that ends.
    let sql = "select from generations g join messages m on m.id = g.message_id where m.chat_id = $1
               order by g.message_id for update of g";
    transaction.query(sql, &[&id.0]).await?;
    transaction.execute("delete from chats where id = $1", &[&id.0]).await?;
    transaction.commit().await?;
    Ok(true)
}

fn uuids(collections: &[CollectionId]) -> Vec<Uuid> {
    collections.iter().map(|id| id.0).collect()
}

/// Every row ends with the count of the whole list.
fn counted(rows: &[Row]) -> (i64, Vec<Chat>) {
    (rows.first().map_or(0, |row| row.get(5)), rows.iter().map(chat).collect())
}

fn chat(row: &Row) -> Chat {
    let collections: Option<Vec<Uuid>> = row.get(2);
    Chat {
        id: ChatId(row.get(0)),
        title: row.get(1),
        collections: collections.map(|ids| ids.into_iter().map(CollectionId).collect()),
        created_at: row.get(3),
        updated_at: row.get(4),
    }
}
