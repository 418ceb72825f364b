//! From a question to passages: one embedding, one search of the index, one statement that loads the text and checks
//! access. Used by the search endpoint and by answers alike.

use std::collections::HashMap;
use std::sync::Arc;

use crate::index::{self, Hit, Index, Mode, Query};
use crate::rag::embed::{self, Embedder};
use crate::store::access::ReadAccess;
use crate::store::ids::{ChunkId, DocumentId};
use crate::store::passages::{self, Passage};
use crate::store::{self, Store};

/// Passages that are searched on the runtime's own thread: up to this many a search takes less than half a millisecond,
/// which is what handing it to another thread may cost under load. (figure: benches/search.rs)
const INLINE_PASSAGES_MAX: usize = 10_000;

/// Damps the first ranks when lists are joined; the usual constant of reciprocal rank fusion.
const FUSION_K: f32 = 60.0;

/// What answers and searches read from.
#[derive(Clone, Copy)]
pub struct Corpus<'a> {
    /// Where the text is.
    pub store: &'a Store,
    /// What finds it.
    pub index: &'a Arc<Index>,
    /// What understands a question's meaning; without it only its words count.
    pub embedder: Option<&'a Embedder>,
}

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Words to look for.
    pub text: Option<String>,
    /// A vector of the corpus's own model; where it is missing, the text is embedded.
    pub vector: Option<Vec<f32>>,
    /// Passages wanted, 1 to [`index::K_MAX`].
    pub k: usize,
    /// Only these documents, if set.
    pub documents: Option<Vec<DocumentId>>,
}

/// A passage found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The passage.
    pub passage: Passage,
    /// Higher is better: the cosine for a search by vector alone, else the sum of reciprocal ranks.
    pub score: f32,
    /// Cosine similarity with the question, where the index compared them.
    pub cosine: Option<f32>,
}

/// What was found for a question.
#[derive(Clone, Debug)]
pub struct Retrieved {
    /// The passages, best first.
    pub found: Vec<Found>,
    /// The vectors that were searched with; none without a model.
    pub questions: Vec<Vec<f32>>,
}

/// Why nothing could be retrieved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The vector or `k` is unusable: the caller's mistake.
    #[error("unusable query")]
    Query(#[source] index::Error),
    /// The question could not be embedded.
    #[error("cannot embed the question")]
    Embedding(#[source] embed::Error),
    /// The passages could not be loaded.
    #[error("cannot load passages")]
    Store(#[from] store::Error),
}

impl Error {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Query(_) => false,
            Self::Embedding(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
        }
    }
}

/// Finds the passages that match a request best, in the collections of `access`, best first.
///
/// Returns at most `k`; fewer where the index is behind the database. No database client is held while it computes.
///
/// # Errors
/// See [`Error`].
pub async fn retrieve(
    corpus: Corpus<'_>,
    access: &ReadAccess,
    request: Request,
) -> Result<Vec<Found>, Error> {
    let (hits, _) = find(corpus, access, request).await?;
    hydrate(corpus.store, access, &hits).await
}

/// Finds passages for a question that follows `previous` in a chat: by the question as it is and by both together,
/// since "and for trains?" means little alone. There is no model here that could rewrite it.
///
/// # Errors
/// See [`Error`].
pub async fn retrieve_follow_up(
    corpus: Corpus<'_>,
    access: &ReadAccess,
    question: &str,
    previous: Option<&str>,
    k: usize,
) -> Result<Retrieved, Error> {
    let request = |text: String| Request { text: Some(text), k, ..Request::default() };
    let (mut hits, vector) = find(corpus, access, request(question.to_owned())).await?;
    let mut questions = Vec::from_iter(vector);
    if let Some(previous) = previous {
        let (both, vector) = find(corpus, access, request(format!("{previous}\n{question}"))).await?;
        hits = fuse(&[hits, both], k);
        questions.extend(vector);
    }
    Ok(Retrieved { found: hydrate(corpus.store, access, &hits).await?, questions })
}

/// Searches, and returns the vector that was searched with, too.
async fn find(
    corpus: Corpus<'_>,
    access: &ReadAccess,
    request: Request,
) -> Result<(Vec<Hit>, Option<Vec<f32>>), Error> {
    let Request { text, mut vector, k, documents } = request;
    if let (None, Some(text), Some(embedder)) = (&vector, &text, corpus.embedder) {
        vector = Some(embedder.query(text.clone()).await.map_err(Error::Embedding)?);
    }
    let mode = if text.is_none() { Mode::Vector } else { Mode::Fusion };
    let search = move |index: &Index, access: &ReadAccess| {
        let query = Query {
            text: text.as_deref(),
            vector: vector.as_deref(),
            k,
            documents: documents.as_deref(),
            mode,
        };
        index.search(access, &query).map(|hits| (hits, vector))
    };
    let found = if corpus.index.rows(access) <= INLINE_PASSAGES_MAX {
        search(corpus.index, access)
    } else {
        let (index, access) = (Arc::clone(corpus.index), access.clone());
        tokio::task::spawn_blocking(move || search(&index, &access)).await.expect("a search does not panic")
    };
    found.map_err(Error::Query)
}

async fn hydrate(store: &Store, access: &ReadAccess, hits: &[Hit]) -> Result<Vec<Found>, Error> {
    if hits.is_empty() {
        return Ok(Vec::new());
    }
    let chunks: Vec<ChunkId> = hits.iter().map(|hit| hit.chunk).collect();
    let mut passages = passages::hydrate(&store.primary().await?, access, &chunks).await?;
    let found = hits.iter().filter_map(|hit| {
        let passage = passages.remove(&hit.chunk)?;
        Some(Found { passage, score: hit.score, cosine: hit.cosine })
    });
    Ok(found.collect())
}

/// Joins ranked lists by reciprocal rank; a passage keeps its best cosine.
fn fuse(lists: &[Vec<Hit>], k: usize) -> Vec<Hit> {
    let mut fused: HashMap<ChunkId, Hit> = HashMap::new();
    for list in lists {
        let mut share = FUSION_K;
        for hit in list {
            share += 1.0;
            let entry = fused.entry(hit.chunk).or_insert(Hit { score: 0.0, ..*hit });
            entry.score += 1.0 / share;
            entry.cosine = entry.cosine.into_iter().chain(hit.cosine).reduce(f32::max);
        }
    }
    let mut hits: Vec<Hit> = fused.into_values().collect();
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.chunk.cmp(&b.chunk)));
    hits.truncate(k);
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(chunk: u128, cosine: Option<f32>) -> Hit {
        Hit {
            chunk: ChunkId(uuid::Uuid::from_u128(chunk)),
            document: DocumentId(uuid::Uuid::nil()),
            score: 1.0,
            vector_rank: None,
            text_rank: None,
            cosine,
        }
    }

    #[test]
    fn a_passage_in_both_lists_comes_first_and_keeps_its_best_cosine() {
        let fused =
            fuse(&[vec![hit(1, Some(0.2)), hit(2, Some(0.4))], vec![hit(2, None), hit(3, Some(0.9))]], 2);
        assert_eq!(fused.iter().map(|hit| hit.chunk.0.as_u128()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(fused[0].cosine, Some(0.4));
    }

    #[test]
    fn equal_scores_are_ordered_by_id() {
        let fused = fuse(&[vec![hit(9, None)], vec![hit(4, None)]], 10);
        assert_eq!(fused.iter().map(|hit| hit.chunk.0.as_u128()).collect::<Vec<_>>(), [4, 9]);
    }
}
