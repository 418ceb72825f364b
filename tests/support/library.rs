//! Published documents without the way there: rows and index entries, as ingestion leaves them.

use agent::index::{ChunkEntry, DocumentEntry};
use agent::store::ids::{ChunkId, CollectionId, DocumentId};

use super::api::{Browser, TestApi};

/// Returns the caller's first collection.
pub async fn own_collection(browser: &mut Browser) -> CollectionId {
    let list = browser.get("/api/collections/").await.json();
    serde_json::from_value(list["results"][0]["id"].clone()).unwrap()
}

/// Publishes a document of one passage for each of `passages`, each with its vector if it has one.
pub async fn publish(
    api: &TestApi,
    collection: CollectionId,
    title: &str,
    passages: &[(&str, Option<Vec<f32>>)],
) -> DocumentId {
    let document = DocumentId::new();
    let client = api.app.store.primary().await.unwrap();
    let sql =
        "insert into documents (id, collection_id, title, file_name, media_type, size_bytes, sha256, blob,
                                      status, version, chunk_count)
               values ($1, $2, $3, $3, 'text/plain', 1, sha256($3::text::bytea), $3, 'ready', 1, 1)";
    client.execute(sql, &[&document.0, &collection.0, &title]).await.unwrap();
    let mut chunks = Vec::new();
    for (ordinal, (text, vector)) in passages.iter().enumerate() {
        let id = ChunkId::new();
        let sql =
            "insert into chunks (id, document_id, version, ordinal, heading, text, span_start, span_end)
                   values ($1, $2, 1, $3, '', $4, 0, length($4))";
        let ordinal = i32::try_from(ordinal).unwrap();
        client.execute(sql, &[&id.0, &document.0, &ordinal, text]).await.unwrap();
        chunks.push(ChunkEntry { id, text: (*text).to_owned(), vector: vector.clone() });
    }
    api.app.index.put(DocumentEntry { collection, document, version: 1, chunks }).unwrap();
    document
}

/// Puts every published passage of the database into the node's index.
pub async fn index_everything(api: &TestApi) {
    let client = api.app.store.primary().await.unwrap();
    let sql = "select d.collection_id, d.id, d.version, c.id, c.heading, c.text, c.embedding
               from documents d join chunks c on c.document_id = d.id and c.version = d.version
               order by d.id, c.ordinal";
    let mut entries: Vec<DocumentEntry> = Vec::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let document = DocumentId(row.get(1));
        if entries.last().is_none_or(|entry| entry.document != document) {
            let collection = CollectionId(row.get(0));
            entries.push(DocumentEntry { collection, document, version: row.get(2), chunks: Vec::new() });
        }
        let bytes: Option<Vec<u8>> = row.get(6);
        let floats = |bytes: Vec<u8>| {
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
        };
        let text = format!("{}\n{}", row.get::<_, String>(4), row.get::<_, String>(5));
        let chunk = ChunkEntry { id: ChunkId(row.get(3)), text, vector: bytes.map(floats) };
        entries.last_mut().unwrap().chunks.push(chunk);
    }
    for entry in entries {
        api.app.index.put(entry).unwrap();
    }
}
