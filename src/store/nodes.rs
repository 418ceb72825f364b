//! The nodes that share this database, as their heartbeats show them.

use uuid::Uuid;

use super::{Client, Error};

/// A node is live while its last heartbeat is younger than this; three heartbeats of 5 s.
const LIVE_SECONDS: f64 = 15.0;
/// Rows older than this are dropped.
const FORGOTTEN_SECONDS: f64 = 86_400.0;

/// What a node says about itself.
#[derive(Clone, Debug)]
pub struct Node {
    /// Made anew at each start.
    pub id: Uuid,
    /// Its role.
    pub role: &'static str,
    /// Where it listens.
    pub address: String,
    /// The version that it runs.
    pub version: &'static str,
}

/// Records that `node` is alive. Returns how many nodes of its role are live, itself included.
///
/// # Errors
/// See [`Error`].
pub async fn beat(client: &Client, node: &Node) -> Result<u32, Error> {
    let sql = "with beat as (
                   insert into nodes (id, role, address, version) values ($1, $2, $3, $4)
                   on conflict (id) do update set seen_at = now(), address = excluded.address
               ), gone as (delete from nodes where seen_at < now() - $6 * interval '1 second')
               select 1 + count(*) from nodes
               where role = $2 and id <> $1 and seen_at > now() - $5 * interval '1 second'";
    let Node { id, role, address, version } = node;
    let row = client.query_one(sql, &[id, role, address, version, &LIVE_SECONDS, &FORGOTTEN_SECONDS]).await?;
    Ok(u32::try_from(row.get::<_, i64>(0)).unwrap_or(u32::MAX))
}

/// Takes a node that stops in order out of the count at once.
///
/// # Errors
/// See [`Error`].
pub async fn leave(client: &Client, id: Uuid) -> Result<(), Error> {
    client.execute("delete from nodes where id = $1", &[&id]).await?;
    Ok(())
}
