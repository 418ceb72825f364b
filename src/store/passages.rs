//! Passages by id, as searches show them: the check that nothing stale or foreign leaves the house.

use std::collections::HashMap;

use uuid::Uuid;

use super::access::ReadAccess;
use super::ids::{ChunkId, DocumentId};
use super::{Client, Error};

/// A passage of a document's published version.
#[derive(Clone, Debug)]
pub struct Passage {
    /// Its id.
    pub chunk: ChunkId,
    /// The document it is from.
    pub document: DocumentId,
    /// The document's title.
    pub title: String,
    /// The headings above it, outermost first; may be empty.
    pub heading: String,
    /// Its text.
    pub text: String,
    /// Unicode scalar offsets of `text` in the document's text.
    pub span: [i32; 2],
    /// The page it is on, where the document has pages.
    pub page: Option<i32>,
}

/// Loads the passages that exist now, belong to their document's published version, and are in a collection that
/// the user of `access` is a member of at this moment. The others are left out.
///
/// # Errors
/// See [`Error`].
pub async fn hydrate(
    client: &Client,
    access: &ReadAccess,
    chunks: &[ChunkId],
) -> Result<HashMap<ChunkId, Passage>, Error> {
    let sql = "select c.id, c.document_id, d.title, c.heading, c.text, c.span_start, c.span_end, c.page
               from chunks c
               join documents d on d.id = c.document_id and d.version = c.version
               join members m on m.collection_id = d.collection_id and m.user_id = $2
               where c.id = any($1)";
    let ids: Vec<Uuid> = chunks.iter().map(|id| id.0).collect();
    let rows = client.query(sql, &[&ids, &access.user().0]).await?;
    let passages = rows.iter().map(|row| Passage {
        chunk: ChunkId(row.get(0)),
        document: DocumentId(row.get(1)),
        title: row.get(2),
        heading: row.get(3),
        text: row.get(4),
        span: [row.get(5), row.get(6)],
        page: row.get(7),
    });
    Ok(passages.map(|passage| (passage.chunk, passage)).collect())
}
