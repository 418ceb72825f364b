//! Passages and the text they point into: publishing a document's next version.
//!
//! A version appears whole or not at all: one short transaction locks the document, stores text and passages of
//! version n+1, makes it the published one, logs the change for every node's index and removes what was before. The time
//! of the change is the clock's, not the transaction's: storing many passages takes seconds, and whoever asks what has
//! changed since then must find it.

use std::time::Duration;

use tokio_postgres::Row;
use uuid::Uuid;

use super::ids::ChunkId;
use super::jobs::Job;
use super::vector::encode;
use super::{Error, Store, Transaction};

/// Passages of one statement: about 2.5 MB with vectors, far below the protocol's limit.
const ROWS_PER_INSERT: usize = 1000;

/// A document's next version.
#[derive(Debug)]
pub struct Version {
    /// Its title.
    pub title: String,
    /// What its content turned out to be.
    pub media_type: String,
    /// The text that spans point into.
    pub text: String,
    /// The passages in reading order.
    pub chunks: Vec<Chunk>,
    /// The generation of the passages' vectors; `None` where they have none.
    pub generation: Option<i32>,
}

/// A passage to store.
#[derive(Debug)]
pub struct Chunk {
    /// The headings above, outermost first; may be empty.
    pub heading: String,
    /// Its text.
    pub text: String,
    /// Unicode scalar offsets into the document's text.
    pub span: [i32; 2],
    /// The page it starts on, from 1.
    pub page: Option<i32>,
    /// Its vector of unit length.
    pub vector: Option<Vec<f32>>,
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The version is out; the job is done.
    Done {
        /// Its number, from 1.
        version: i32,
    },
    /// The job is not ours any more, or the document is gone: nothing was changed.
    Lost,
}

/// Publishes the result of an `ingest` job. Each statement may take `timeout`.
///
/// # Errors
/// See [`Error`]. After [`Error::Unavailable`] it is unknown whether the version is out; the job's row tells.
pub async fn publish(
    store: &Store,
    job: &Job,
    next: &Version,
    timeout: Duration,
) -> Result<Published, Error> {
    let mut client = store.primary().await?;
    let mut transaction = client.transaction().await?;
    transaction.set_statement_timeout(timeout).await?;
    let Some(version) = take_over(&transaction, job).await? else { return Ok(Published::Lost) };
    let version = version + 1;
    let document = job.document.0;
    transaction
        .execute(
            "insert into document_texts (document_id, version, text) values ($1, $2, $3)
             on conflict (document_id) do update set version = excluded.version, text = excluded.text",
            &[&document, &version, &next.text],
        )
        .await?;
    let ordinals: Vec<i32> = (0..).take(next.chunks.len()).collect();
    for (chunks, ordinals) in next.chunks.chunks(ROWS_PER_INSERT).zip(ordinals.chunks(ROWS_PER_INSERT)) {
        insert(&transaction, document, version, chunks, ordinals).await?;
    }
    let count = i32::try_from(next.chunks.len()).unwrap_or(i32::MAX);
    transaction
        .execute(
            "update documents set version = $2, status = 'ready', reason = null, progress = 1, chunk_count = $3,
                                  generation = $4, title = $5, media_type = $6, updated_at = clock_timestamp()
             where id = $1",
            &[&document, &version, &count, &next.generation, &next.title, &next.media_type],
        )
        .await?;
    transaction
        .execute("delete from chunks where document_id = $1 and version < $2", &[&document, &version])
        .await?;
    transaction.execute("insert into index_log (document_id) values ($1)", &[&document]).await?;
    transaction.commit().await?;
    Ok(Published::Done { version })
}

/// Locks the document and removes the job if it is still ours. Returns the published version.
async fn take_over(transaction: &Transaction<'_>, job: &Job) -> Result<Option<i32>, Error> {
    let sql = "select version from documents where id = $1 for update";
    let Some(row) = transaction.query_opt(sql, &[&job.document.0]).await? else { return Ok(None) };
    let sql = "delete from jobs where id = $1 and lease_token = $2";
    let removed = transaction.execute(sql, &[&job.id, &job.token]).await?;
    Ok((removed > 0).then(|| row.get(0)))
}

async fn insert(
    transaction: &Transaction<'_>,
    document: Uuid,
    version: i32,
    chunks: &[Chunk],
    ordinals: &[i32],
) -> Result<(), Error> {
    let sql = "
        insert into chunks (id, document_id, version, ordinal, heading, text, span_start, span_end, page, embedding)
        select id, $1, $2, ordinal, heading, text, span_start, span_end, page, embedding
        from unnest($3::uuid[], $4::int[], $5::text[], $6::text[], $7::int[], $8::int[], $9::int[], $10::bytea[])
            as row (id, ordinal, heading, text, span_start, span_end, page, embedding)";
    let ids: Vec<Uuid> = chunks.iter().map(|_| ChunkId::new().0).collect();
    let headings: Vec<&str> = chunks.iter().map(|chunk| chunk.heading.as_str()).collect();
    let texts: Vec<&str> = chunks.iter().map(|chunk| chunk.text.as_str()).collect();
    let starts: Vec<i32> = chunks.iter().map(|chunk| chunk.span[0]).collect();
    let ends: Vec<i32> = chunks.iter().map(|chunk| chunk.span[1]).collect();
    let pages: Vec<Option<i32>> = chunks.iter().map(|chunk| chunk.page).collect();
    let vectors: Vec<Option<Vec<u8>>> =
        chunks.iter().map(|chunk| chunk.vector.as_deref().map(encode)).collect();
    let params: super::client::Params<'_> =
        &[&document, &version, &ids, &ordinals, &headings, &texts, &starts, &ends, &pages, &vectors];
    transaction.execute(sql, params).await?;
    Ok(())
}

/// A published passage without its vector.
#[derive(Clone, Debug)]
pub struct Unembedded {
    /// Its id.
    pub id: ChunkId,
    /// The headings above, outermost first; may be empty.
    pub heading: String,
    /// Its text.
    pub text: String,
}

impl Unembedded {
    fn of(row: &Row) -> Self {
        Self { id: ChunkId(row.get(0)), heading: row.get(1), text: row.get(2) }
    }
}

/// Loads the published passages of an `embed` job's document in reading order.
///
/// # Errors
/// See [`Error`].
pub async fn of_job(store: &Store, job: &Job) -> Result<Vec<Unembedded>, Error> {
    let sql = "select id, heading, text from chunks where document_id = $1 and version = $2 order by ordinal";
    let client = store.primary().await?;
    let rows = client.query(sql, &[&job.document.0, &job.version]).await?;
    Ok(rows.iter().map(Unembedded::of).collect())
}

/// Publishes the result of an `embed` job: the same passages, now with vectors, as the next version. Ids stay, so
/// that citations do. Each statement may take `timeout`.
///
/// # Errors
/// See [`Error`]. After [`Error::Unavailable`] it is unknown whether the version is out; the job's row tells.
pub async fn publish_vectors(
    store: &Store,
    job: &Job,
    vectors: &[(ChunkId, Vec<f32>)],
    generation: i32,
    timeout: Duration,
) -> Result<Published, Error> {
    let mut client = store.primary().await?;
    let mut transaction = client.transaction().await?;
    transaction.set_statement_timeout(timeout).await?;
    let document = job.document.0;
    match take_over(&transaction, job).await? {
        None => return Ok(Published::Lost),
        // Another version was published meanwhile; if it has no vectors either, it gets a job of its own.
        Some(version) if version != job.version => {
            transaction.commit().await?;
            return Ok(Published::Done { version });
        }
        Some(_) => {}
    }
    let version = job.version + 1;
    for vectors in vectors.chunks(ROWS_PER_INSERT) {
        let ids: Vec<Uuid> = vectors.iter().map(|(id, _)| id.0).collect();
        let encoded: Vec<Vec<u8>> = vectors.iter().map(|(_, vector)| encode(vector)).collect();
        transaction
            .execute(
                "update chunks c set version = $2, embedding = row.embedding
                 from unnest($3::uuid[], $4::bytea[]) as row (id, embedding)
                 where c.document_id = $1 and c.id = row.id",
                &[&document, &version, &ids, &encoded],
            )
            .await?;
    }
    transaction
        .execute("update document_texts set version = $2 where document_id = $1", &[&document, &version])
        .await?;
    transaction
        .execute(
            "update documents set version = $2, generation = $3, updated_at = clock_timestamp() where id = $1",
            &[&document, &version, &generation],
        )
        .await?;
    transaction.execute("insert into index_log (document_id) values ($1)", &[&document]).await?;
    transaction.commit().await?;
    Ok(Published::Done { version })
}
