//! What goes into the index and what comes out of it.

use crate::store::ids::{ChunkId, CollectionId, DocumentId};

/// Most hits that one search may ask for.
pub const K_MAX: usize = 100;

/// What an index may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Length of every vector, at least 1: the embedding model's dimension.
    pub dimension: usize,
    /// Most chunks held at once; a document that would exceed it is refused. At most `u32::MAX`.
    pub chunks_max: usize,
}

impl Default for Limits {
    /// MiniLM's dimension, and as many chunks as take about 4 GB with their vectors and postings.
    fn default() -> Self {
        Self { dimension: 384, chunks_max: 2_500_000 }
    }
}

/// One version of one document, whole.
#[derive(Debug, Clone)]
pub struct DocumentEntry {
    /// The collection whose readers may find it.
    pub collection: CollectionId,
    /// The document.
    pub document: DocumentId,
    /// Grows with every publish; the higher one wins.
    pub version: i32,
    /// Its passages; may be empty.
    pub chunks: Vec<ChunkEntry>,
}

/// One passage of a document.
#[derive(Debug, Clone)]
pub struct ChunkEntry {
    /// The passage's row.
    pub id: ChunkId,
    /// Heading and text; tokenised, not kept.
    pub text: String,
    /// The embedding: finite, not zero, of [`Limits::dimension`]; any length (it is normalised). `None` without a
    /// model: the chunk is found by its words only.
    pub vector: Option<Vec<f32>>,
}

/// What ranks the hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Reciprocal rank fusion of the vector list and the text list; either may be missing.
    #[default]
    Fusion,
    /// Cosine similarity.
    Vector,
    /// BM25.
    Text,
}

/// One search.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The words; needed by [`Mode::Text`].
    pub text: Option<&'a str>,
    /// The query's embedding, as [`ChunkEntry::vector`]; needed by [`Mode::Vector`].
    pub vector: Option<&'a [f32]>,
    /// Hits wanted, 1 to [`K_MAX`].
    pub k: usize,
    /// Only these documents' passages, if set.
    pub documents: Option<&'a [DocumentId]>,
    /// What ranks the hits.
    pub mode: Mode,
}

/// One passage found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The passage.
    pub chunk: ChunkId,
    /// Its document.
    pub document: DocumentId,
    /// Cosine, BM25 or reciprocal rank sum, by the query's mode; higher is better.
    pub score: f32,
    /// Place in the vector list, from 1; `None` when not in it.
    pub vector_rank: Option<u32>,
    /// Place in the text list, from 1; `None` when not in it.
    pub text_rank: Option<u32>,
    /// Cosine similarity, -1 to 1, when in the vector list.
    pub cosine: Option<f32>,
}

/// What the index holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Live documents, empty ones included.
    pub documents: usize,
    /// Live chunks.
    pub chunks: usize,
    /// Stored vectors, those of tombstones included.
    pub vectors: usize,
    /// Stored (term, chunk) pairs, those of tombstones included.
    pub postings: usize,
    /// Heap bytes of codes, ids and postings.
    pub bytes: usize,
    /// Chunks deleted but not yet compacted away.
    pub tombstones: usize,
    /// Immutable segments over all partitions.
    pub segments: usize,
}

/// Why an entry or a query was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The vector is another model's.
    #[error("vector has {found} dimensions, the index {expected}")]
    Dimension { expected: usize, found: usize },
    /// The vector contains NaN or an infinity.
    #[error("vector contains a number that is not finite")]
    NotFinite,
    /// The vector has no direction.
    #[error("vector is zero")]
    ZeroVector,
    /// The query asks for no hits or too many.
    #[error("k is {0}, allowed are 1 to {K_MAX}")]
    K(usize),
    /// The query lacks what its mode ranks by.
    #[error("query has no {0}")]
    Missing(&'static str),
    /// The document does not fit any more.
    #[error("index is full: {chunks_max} chunks")]
    Full { chunks_max: usize },
}
