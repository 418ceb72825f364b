//! The log of changed documents, and the published state that it points to: what every node's index is made from.
//!
//! A row says "document D changed", nothing more; the reader loads D's state and the higher version wins. Rows are read
//! behind the horizon of running transactions, in the order (xid, seq): every transaction below the horizon has ended,
//! so no row can appear behind a cursor. A bare sequence would lose rows that commit out of order.
//!
//! Transaction ids are reused after a promotion, a crash and a restore, and a cursor from before would then skip rows for
//! ever. So a cursor is only ever a row that was read, and every poll checks, in its one statement, that the row is still
//! there with its random token and that the database is still the same: system identifier, epoch and timeline (from the
//! current write position; `pg_control_checkpoint()` lags behind a promotion).

use std::time::Duration;

use tokio_postgres::Row;
use uuid::Uuid;

use super::ids::{ChunkId, CollectionId, DocumentId};
use super::vector::decode;
use super::{Client, Error, Transaction};

/// Which history of the database cursors belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    system: i64,
    id: Uuid,
    timeline: String,
}

/// A row of the log that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    xid: u64,
    seq: i64,
    token: Uuid,
}

/// Where a reader stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The history that the cursor belongs to.
    pub epoch: Epoch,
    /// The last row read; `None` while the log was empty.
    pub cursor: Option<Cursor>,
}

/// What a poll found.
#[derive(Debug)]
pub enum Poll {
    /// The rows after the position, oldest first: the documents that they name, and where they end.
    Rows {
        /// The documents, in the log's order; repeats are possible.
        documents: Vec<DocumentId>,
        /// The position after them.
        position: Position,
    },
    /// The log does not go on from the position: it is of another history, or the rows after it were pruned. What the
    /// reader holds must be compared with the database.
    EpochChanged,
}

/// A document as the index needs it.
#[derive(Debug)]
pub struct DocumentState {
    /// The document.
    pub id: DocumentId,
    /// Its collection.
    pub collection: CollectionId,
    /// The published version, at least 1.
    pub version: i32,
    /// The passages of that version in reading order.
    pub chunks: Vec<ChunkState>,
}

/// A passage as the index needs it.
#[derive(Debug)]
pub struct ChunkState {
    /// Its id.
    pub id: ChunkId,
    /// The document's title and the headings above it: a document is found by the words of its title too.
    pub heading: String,
    /// Its text.
    pub text: String,
    /// Its vector, if it is of the active generation.
    pub vector: Option<Vec<f32>>,
}

/// A published document and how many passages it has.
#[derive(Clone, Copy, Debug)]
pub struct DocumentSize {
    /// The document.
    pub id: DocumentId,
    /// Its passages.
    pub chunks: usize,
}

/// Rows that [`prune`] keeps: readers that are further behind build anew.
pub const ROWS_KEPT: i64 = 10_000;

/// Rows that one statement of [`prune`] deletes.
const PRUNE_BATCH: i64 = 10_000;

const EPOCH: &str = "e.id, (select system_identifier from pg_control_system()),
    left(pg_walfile_name(pg_current_wal_lsn()), 8)";

const STATE: &str = "
    select d.id, d.collection_id, d.version, c.id,
           case when c.heading = '' then d.title
                when starts_with(c.heading, d.title) then c.heading
                else d.title || ' > ' || c.heading end,
           c.text,
           case when d.generation = (select generation from embedding_model where state = 'active')
                then c.embedding end
    from documents d left join chunks c on c.document_id = d.id and c.version = d.version
    where d.id = any($1) and d.version > 0
    order by d.id, c.ordinal";

/// Reads at most `rows_max` rows after `position`.
///
/// * `rows_max`: at most [`ROWS_KEPT`].
///
/// # Errors
/// See [`Error`].
pub async fn poll(client: &Client, position: &Position, rows_max: usize) -> Result<Poll, Error> {
    let sql = format!(
        "with after as (
             select xid, seq, token, document_id from index_log
             where (xid, seq) > ($1::text::xid8, $2) and xid < pg_snapshot_xmin(pg_current_snapshot())
             order by xid, seq limit $4
         )
         select {EPOCH}, exists (select from index_log where (xid, seq) = ($1::text::xid8, $2) and token = $3),
                after.xid::text, after.seq, after.token, after.document_id
         from epoch e left join after on true
         order by after.xid, after.seq"
    );
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
    // Before the first row: no transaction has id 0, and there is no such row to look for.
    let cursor = position.cursor.unwrap_or(Cursor { xid: 0, seq: 0, token: Uuid::nil() });
    let rows = client.query(&sql, &[&cursor.xid.to_string(), &cursor.seq, &cursor.token, &limit]).await?;
    let Some(first) = rows.first() else { return Ok(Poll::EpochChanged) };
    let is_known = match position.cursor {
        Some(_) => first.get::<_, bool>(3),
        // Without a row to look for, rows that were pruned would not be missed; but then so many are left.
        None => rows.len() < rows_max,
    };
    if !is_known || epoch_of(first) != position.epoch {
        return Ok(Poll::EpochChanged);
    }
    let mut position = position.clone();
    let mut documents = Vec::with_capacity(rows.len());
    for row in &rows {
        if let Some(cursor) = cursor_of(row, 4)? {
            position.cursor = Some(cursor);
            documents.push(DocumentId(row.get(7)));
        }
    }
    Ok(Poll::Rows { documents, position })
}

/// Returns where a reader starts that takes over the state seen by `snapshot`: at the greatest row below its horizon.
/// A row at or above the horizon may be in that state already; reading it again changes nothing.
///
/// # Errors
/// See [`Error`].
pub async fn start(snapshot: &Transaction<'_>) -> Result<Position, Error> {
    let sql = format!(
        "with newest as (
             select xid, seq, token from index_log
             where xid < pg_snapshot_xmin(pg_current_snapshot())
             order by xid desc, seq desc limit 1
         )
         select {EPOCH}, newest.xid::text, newest.seq, newest.token from epoch e left join newest on true"
    );
    let row = snapshot.query_one(&sql, &[]).await?;
    Ok(Position { epoch: epoch_of(&row), cursor: cursor_of(&row, 3)? })
}

/// Deletes all but the newest `keep` rows, at least one. Returns how many.
///
/// # Errors
/// See [`Error`].
pub async fn prune(client: &Client, keep: i64) -> Result<u64, Error> {
    let sql = "with oldest_kept as (
                   select xid, seq from index_log where xid < pg_snapshot_xmin(pg_current_snapshot())
                   order by xid desc, seq desc offset $1::bigint - 1 limit 1
               )
               delete from index_log where (xid, seq) in (
                   select l.xid, l.seq from index_log l, oldest_kept k where (l.xid, l.seq) < (k.xid, k.seq)
                   order by l.xid, l.seq limit $2
               )";
    let mut pruned = 0;
    loop {
        let count = client.execute(sql, &[&keep.max(1), &PRUNE_BATCH]).await?;
        pruned += count;
        if i64::try_from(count).is_ok_and(|count| count < PRUNE_BATCH) {
            return Ok(pruned);
        }
    }
}

/// Lists all published documents that `snapshot` sees, and lets its statements and the pauses between them take
/// `timeout`.
///
/// # Errors
/// See [`Error`].
pub async fn list(snapshot: &mut Transaction<'_>, timeout: Duration) -> Result<Vec<DocumentSize>, Error> {
    snapshot.set_statement_timeout(timeout).await?;
    let pause = format!("set local idle_in_transaction_session_timeout = {}", timeout.as_millis());
    snapshot.batch(&pause).await?;
    let rows = snapshot.query("select id, chunk_count from documents where version > 0", &[]).await?;
    Ok(rows.iter().map(size_of_row).collect())
}

/// Returns which of `documents` are published, and their sizes.
///
/// # Errors
/// See [`Error`].
pub async fn sizes(client: &Client, documents: &[DocumentId]) -> Result<Vec<DocumentSize>, Error> {
    let sql = "select id, chunk_count from documents where version > 0 and id = any($1)";
    let rows = client.query(sql, &[&uuids(documents)]).await?;
    Ok(rows.iter().map(size_of_row).collect())
}

/// Loads the state of those of `documents` that are published now.
///
/// # Errors
/// See [`Error`].
pub async fn load(client: &Client, documents: &[DocumentId]) -> Result<Vec<DocumentState>, Error> {
    Ok(states(&client.query(STATE, &[&uuids(documents)]).await?))
}

/// Loads the state of `documents` as `snapshot` sees it.
///
/// # Errors
/// See [`Error`].
pub async fn load_in(
    snapshot: &Transaction<'_>,
    documents: &[DocumentId],
) -> Result<Vec<DocumentState>, Error> {
    Ok(states(&snapshot.query(STATE, &[&uuids(documents)]).await?))
}

fn states(rows: &[Row]) -> Vec<DocumentState> {
    let documents = rows.chunk_by(|a, b| a.get::<_, Uuid>(0) == b.get::<_, Uuid>(0));
    let state = |rows: &[Row]| DocumentState {
        id: DocumentId(rows[0].get(0)),
        collection: CollectionId(rows[0].get(1)),
        version: rows[0].get(2),
        chunks: rows.iter().filter_map(chunk_of).collect(),
    };
    documents.map(state).collect()
}

/// Returns nothing for the one row of a document without passages.
fn chunk_of(row: &Row) -> Option<ChunkState> {
    let id: Option<Uuid> = row.get(3);
    Some(ChunkState {
        id: ChunkId(id?),
        heading: row.get(4),
        text: row.get(5),
        vector: row.get::<_, Option<&[u8]>>(6).map(decode),
    })
}

fn epoch_of(row: &Row) -> Epoch {
    Epoch { id: row.get(0), system: row.get(1), timeline: row.get(2) }
}

/// Reads xid, seq and token from the columns `at` and after; `None` where the join found no row.
fn cursor_of(row: &Row, at: usize) -> Result<Option<Cursor>, Error> {
    let Some(xid) = row.get::<_, Option<&str>>(at) else { return Ok(None) };
    let xid = xid.parse().map_err(|error| Error::Unexpected(Box::new(error)))?;
    Ok(Some(Cursor { xid, seq: row.get(at + 1), token: row.get(at + 2) }))
}

fn size_of_row(row: &Row) -> DocumentSize {
    DocumentSize { id: DocumentId(row.get(0)), chunks: usize::try_from(row.get::<_, i32>(1)).unwrap_or(0) }
}

fn uuids(documents: &[DocumentId]) -> Vec<Uuid> {
    documents.iter().map(|id| id.0).collect()
}
