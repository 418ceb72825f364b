//! Originals whose documents are gone, until they are gone too; and those that never got a document.

use super::{Client, Error};

/// Returns up to `limit` names of originals to remove, those that wait longest first.
///
/// # Errors
/// See [`Error`].
pub async fn due(client: &Client, limit: i64) -> Result<Vec<String>, Error> {
    let sql = "select blob from blob_removals order by created_at limit $1";
    Ok(client.query(sql, &[&limit]).await?.iter().map(|row| row.get(0)).collect())
}

/// Notes that these originals are removed.
///
/// # Errors
/// See [`Error`].
pub async fn done(client: &Client, blobs: &[String]) -> Result<(), Error> {
    client.execute("delete from blob_removals where blob = any($1)", &[&blobs]).await?;
    Ok(())
}

/// Puts originals that could not be removed behind all others.
///
/// # Errors
/// See [`Error`].
pub async fn postpone(client: &Client, blobs: &[String]) -> Result<(), Error> {
    let sql = "update blob_removals set created_at = clock_timestamp() where blob = any($1)";
    client.execute(sql, &[&blobs]).await?;
    Ok(())
}

/// Queues the removal of those of `blobs` that no document has. Returns how many.
///
/// # Errors
/// See [`Error`].
pub async fn add_orphans(client: &Client, blobs: &[String]) -> Result<u64, Error> {
    let sql = "insert into blob_removals (blob)
               select blob from unnest($1::text[]) as stored (blob)
               where not exists (select from documents d where d.blob = stored.blob)
               on conflict do nothing";
    client.execute(sql, &[&blobs]).await
}
