//! Documents as their readers see them, and the two changes that people make: adding and deleting.
//!
//! A document in a collection that the caller is no member of does not exist for them: every statement here joins the
//! membership. What ingestion changes is in [`super::jobs`] and [`super::chunks`].

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::access::{Caller, WriteAccess};
use super::ids::{CollectionId, DocumentId, UserId};
use super::page::Window;
use super::{Client, Error};

/// Where a document is on its way to being searchable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Stored; nobody works on it yet.
    Queued,
    /// Its text is being extracted and cut.
    Extracting,
    /// Its passages are being embedded.
    Embedding,
    /// Searchable.
    Ready,
    /// Not searchable; [`Document::reason`] says why.
    Failed,
}

impl Status {
    /// All states, in the order in which a document passes them.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Extracting, Self::Embedding, Self::Ready, Self::Failed];

    /// Returns the word for it, in the database and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Extracting => "extracting",
            Self::Embedding => "embedding",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }

    /// Reads the word for a state.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether nothing more will happen by itself.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Ready | Self::Failed)
    }
}

/// A document as a member of its collection sees it.
#[derive(Clone, Debug)]
pub struct Document {
    /// The document's id.
    pub id: DocumentId,
    /// The collection it is in.
    pub collection: CollectionId,
    /// Who uploaded it, unless they are gone.
    pub owner: Option<UserId>,
    /// The title that it gives itself, else the file's name.
    pub title: String,
    /// The name of the uploaded file.
    pub file_name: String,
    /// What its content turned out to be; until then what the upload said.
    pub media_type: String,
    /// Size of the original, in bytes.
    pub size_bytes: i64,
    /// Name of the original in the object store.
    pub blob: String,
    /// Where it is on its way.
    pub status: Status,
    /// Why it failed: a code of `rag::extract::Reason`.
    pub reason: Option<String>,
    /// How much of the current attempt is done, 0 to 1.
    pub progress: f32,
    /// The published version, from 1; 0 before the first.
    pub version: i32,
    /// Passages of the published version.
    pub chunk_count: i32,
    /// When it was uploaded.
    pub created_at: Timestamp,
    /// When anything of this last changed.
    pub updated_at: Timestamp,
    /// Whether the caller may delete it.
    pub may_edit: bool,
}

const COLUMNS: &str =
    "d.id, d.collection_id, d.owner_id, d.title, d.file_name, d.media_type, d.size_bytes, d.blob,
    d.status, d.reason, d.progress, d.version, d.chunk_count, d.created_at, d.updated_at,
    m.role <> 'viewer' as may_edit";

const OF_CALLER: &str = "documents d join members m on m.collection_id = d.collection_id and m.user_id = $1";

impl Document {
    fn of(row: &Row) -> Self {
        Self {
            id: DocumentId(row.get("id")),
            collection: CollectionId(row.get("collection_id")),
            owner: row.get::<_, Option<Uuid>>("owner_id").map(UserId),
            title: row.get("title"),
            file_name: row.get("file_name"),
            media_type: row.get("media_type"),
            size_bytes: row.get("size_bytes"),
            blob: row.get("blob"),
            status: Status::parse(row.get("status")).expect("the schema admits only these states"),
            reason: row.get("reason"),
            progress: row.get("progress"),
            version: row.get("version"),
            chunk_count: row.get("chunk_count"),
            created_at: row.get("created_at"),
            updated_at: row.get("updated_at"),
            may_edit: row.get("may_edit"),
        }
    }
}

/// A document to add; its original is already durable in the object store.
#[derive(Clone, Debug)]
pub struct NewDocument {
    /// The name of the uploaded file, without path.
    pub file_name: String,
    /// What the upload said it is.
    pub media_type: String,
    /// Size of the original, in bytes.
    pub size_bytes: i64,
    /// SHA-256 of the original.
    pub sha256: [u8; 32],
    /// Name of the original in the object store.
    pub blob: String,
}

/// What became of an upload.
#[derive(Clone, Debug)]
pub enum Added {
    /// It is a new document, waiting for ingestion.
    New(Document),
    /// The collection has these bytes already, as this document; the new original is not needed.
    Duplicate(Document),
    /// The caller may not add to the collection any more, or it is gone.
    Refused,
}

/// Adds a document and its job in one statement, unless the collection has the same bytes.
///
/// # Errors
/// See [`Error`]. After [`Error::Unavailable`] it is unknown whether the document was added.
pub async fn add(client: &Client, access: WriteAccess, new: &NewDocument) -> Result<Added, Error> {
    let insert = "
        with m as (
            select role from members where collection_id = $2 and user_id = $3 and role in ('editor', 'owner')
        ), d as (
            insert into documents
                (id, collection_id, owner_id, title, file_name, media_type, size_bytes, sha256, blob, status)
            select $1, $2, $3, $4, $4, $5, $6, $7, $8, 'queued' from m
            on conflict (collection_id, sha256) do nothing
            returning *
        ), job as (
            insert into jobs (id, kind, document_id) select $9, 'ingest', id from d
        )
        select d.*, true as may_edit from d";
    let (id, job) = (DocumentId::new(), Uuid::now_v7());
    // The other upload of the same bytes may be deleted between the two statements; then ours is new after all.
    for _ in 0..3 {
        let row = client
            .query_opt(
                insert,
                &[
                    &id.0,
                    &access.collection().0,
                    &access.user().0,
                    &new.file_name,
                    &new.media_type,
                    &new.size_bytes,
                    &new.sha256.as_slice(),
                    &new.blob,
                    &job,
                ],
            )
            .await;
        match row {
            Ok(Some(row)) => return Ok(Added::New(Document::of(&row))),
            Ok(None) => {}
            // The collection went away while the statement ran.
            Err(error) if error.is_conflict_on("documents_collection_id_fkey") => return Ok(Added::Refused),
            Err(error) => return Err(error),
        }
        let sql = format!("select {COLUMNS} from {OF_CALLER} where d.collection_id = $2 and d.sha256 = $3");
        let params: super::client::Params<'_> =
            &[&access.user().0, &access.collection().0, &new.sha256.as_slice()];
        if let Some(row) = client.query_opt(&sql, params).await? {
            let document = Document::of(&row);
            return Ok(if document.may_edit { Added::Duplicate(document) } else { Added::Refused });
        }
    }
    Ok(Added::Refused)
}

/// Which documents of a caller are listed.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those in this collection.
    pub collection: Option<CollectionId>,
    /// Only those in this state.
    pub status: Option<Status>,
    /// Only those with this in their title or file name, whatever the case.
    pub search: Option<String>,
}

/// Lists the documents that the caller may read, newest first, with their number.
///
/// # Errors
/// See [`Error`].
pub async fn list(
    client: &Client,
    caller: &Caller,
    filter: &Filter,
    window: Window,
) -> Result<(i64, Vec<Document>), Error> {
    let sql = format!(
        "select {COLUMNS}, count(*) over () as total from {OF_CALLER}
         where ($2::uuid is null or d.collection_id = $2)
           and ($3::text is null or d.status = $3)
           and ($4::text is null or d.title ilike $4 or d.file_name ilike $4)
         order by d.id desc limit $5 offset $6"
    );
    let collection = filter.collection.map(|id| id.0);
    let status = filter.status.map(Status::as_str);
    let search = filter.search.as_deref().map(contains);
    let rows = client
        .query(&sql, &[&caller.user().0, &collection, &status, &search, &window.limit, &window.offset])
        .await?;
    let total = rows.first().map_or(0, |row| row.get("total"));
    Ok((total, rows.iter().map(Document::of).collect()))
}

/// Finds a document that the caller may read.
///
/// # Errors
/// See [`Error`].
pub async fn find(client: &Client, caller: &Caller, id: DocumentId) -> Result<Option<Document>, Error> {
    let sql = format!("select {COLUMNS} from {OF_CALLER} where d.id = $2");
    let row = client.query_opt(&sql, &[&caller.user().0, &id.0]).await?;
    Ok(row.map(|row| Document::of(&row)))
}

/// Returns the published text of a document that the caller may read; `None` without document or text.
///
/// # Errors
/// See [`Error`].
pub async fn text(client: &Client, caller: &Caller, id: DocumentId) -> Result<Option<String>, Error> {
    let sql = format!(
        "select t.text from {OF_CALLER} join document_texts t on t.document_id = d.id and t.version = d.version
         where d.id = $2"
    );
    let row = client.query_opt(&sql, &[&caller.user().0, &id.0]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Returns what a watcher of the caller's documents has to know: those that are not finished, those that changed in
/// the last `recent_seconds`, and those in `watched`, newest first, at most `limit`.
///
/// # Errors
/// See [`Error`].
pub async fn news(
    client: &Client,
    caller: &Caller,
    watched: &[DocumentId],
    recent_seconds: f64,
    limit: i64,
) -> Result<Vec<Document>, Error> {
    let sql = format!(
        "select {COLUMNS} from {OF_CALLER}
         where d.status in ('queued', 'extracting', 'embedding')
            or d.updated_at > now() - $3 * interval '1 second'
            or d.id = any($2)
         order by d.id desc limit $4"
    );
    let watched: Vec<Uuid> = watched.iter().map(|id| id.0).collect();
    let rows = client.query(&sql, &[&caller.user().0, &watched, &recent_seconds, &limit]).await?;
    Ok(rows.iter().map(Document::of).collect())
}

/// Lists the newest documents that the caller may read, at most `limit`, in no order.
///
/// # Errors
/// See [`Error`].
pub async fn newest(client: &Client, caller: &Caller, limit: i64) -> Result<Vec<DocumentId>, Error> {
    let sql = format!("select d.id from {OF_CALLER} order by d.id desc limit $2");
    let rows = client.query(&sql, &[&caller.user().0, &limit]).await?;
    Ok(rows.iter().map(|row| DocumentId(row.get(0))).collect())
}

/// Returns which of `documents` the caller may still read, in no order.
///
/// # Errors
/// See [`Error`].
pub async fn existing(
    client: &Client,
    caller: &Caller,
    documents: &[DocumentId],
) -> Result<Vec<DocumentId>, Error> {
    let sql = format!("select d.id from {OF_CALLER} where d.id = any($2)");
    let documents: Vec<Uuid> = documents.iter().map(|id| id.0).collect();
    let rows = client.query(&sql, &[&caller.user().0, &documents]).await?;
    Ok(rows.iter().map(|row| DocumentId(row.get(0))).collect())
}

/// What became of a change to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made.
    Done,
    /// The caller may read the document, but not change it.
    Forbidden,
    /// There is no such document for the caller.
    Missing,
    /// The document's state does not admit it.
    Unfitting,
}

/// Deletes a document: from the commit on no search shows it. Its original is removed later.
///
/// # Errors
/// See [`Error`].
pub async fn delete(client: &Client, caller: &Caller, id: DocumentId) -> Result<Outcome, Error> {
    let sql = "
        with gone as (
            delete from documents d using members m
            where d.id = $2 and m.collection_id = d.collection_id and m.user_id = $1
              and m.role in ('editor', 'owner')
            returning d.id, d.blob
        ), logged as (
            insert into index_log (document_id) select id from gone
        )
        insert into blob_removals (blob) select blob from gone on conflict do nothing";
    if client.execute(sql, &[&caller.user().0, &id.0]).await? > 0 {
        return Ok(Outcome::Done);
    }
    let remaining = find(client, caller, id).await?;
    Ok(remaining.map_or(Outcome::Missing, |_| Outcome::Forbidden))
}

/// Queues a failed document again, with all its attempts.
///
/// # Errors
/// See [`Error`].
pub async fn retry(client: &Client, caller: &Caller, id: DocumentId) -> Result<Outcome, Error> {
    let sql = "
        with d as (
            update documents d set status = 'queued', reason = null, progress = 0, updated_at = now()
            from members m
            where d.id = $2 and d.status = 'failed' and m.collection_id = d.collection_id and m.user_id = $1
              and m.role in ('editor', 'owner')
            returning d.id
        )
        insert into jobs (id, kind, document_id) select $3, 'ingest', id from d
        on conflict (kind, document_id) do update set attempts = 0, run_after = now()";
    if client.execute(sql, &[&caller.user().0, &id.0, &Uuid::now_v7()]).await? > 0 {
        return Ok(Outcome::Done);
    }
    Ok(match find(client, caller, id).await? {
        None => Outcome::Missing,
        Some(document) if !document.may_edit => Outcome::Forbidden,
        Some(_) => Outcome::Unfitting,
    })
}

/// The pattern that finds `text` anywhere, its own wildcards taken literally.
fn contains(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_in_a_search_are_literal() {
        assert_eq!(contains(r"50%_a\b"), r"%50\%\_a\\b%");
    }
}
