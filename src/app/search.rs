//! `POST /api/search/`: the passages that match words or a vector best.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::body::Body;
use super::error::{ApiError, FieldErrors};
use super::fields::{Fields, Form, TextRule};
use super::request::Reading;
use crate::index::{self, K_MAX};
use crate::rag::retrieve::{self, Corpus, Found, Request, retrieve};
use crate::store::ids::{ChunkId, CollectionId, DocumentId};

/// Passages where the client does not say.
const K_DEFAULT: usize = 10;

/// Characters of a query at most.
const QUERY_CHARS_MAX: usize = 8_000;

/// When the embedding queue, full now, will have room again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Numbers in a vector at most; more than any model has.
const VECTOR_NUMBERS_MAX: usize = 8_192;

/// Collections or documents that a search may be limited to at most.
const IDS_MAX: usize = 1_000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(search))
}

/// What to look for: a query or a vector, not both.
#[derive(ToSchema)]
struct SearchForm {
    /// Words or a question.
    query: Option<String>,
    /// A vector of the model that the documents were embedded with, of any length but zero.
    vector: Option<Vec<f32>>,
    /// Passages wanted, 1 to 100; 10 by default.
    #[schema(value_type = Option<usize>)]
    k: usize,
    /// Only in these collections.
    collections: Option<Vec<CollectionId>>,
    /// Only in these documents.
    documents: Option<Vec<DocumentId>>,
}

impl Form for SearchForm {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let query = fields.optional_text("query", TextRule::line(QUERY_CHARS_MAX));
        let vector = fields.optional_numbers("vector", VECTOR_NUMBERS_MAX);
        if fields.has("query") == fields.has("vector") {
            fields.error(FieldErrors::NON_FIELD, "Give either a query or a vector.");
        }
        let k = fields.optional_integer("k", 1..=i64::try_from(K_MAX).unwrap_or(i64::MAX));
        let k = k.and_then(|k| usize::try_from(k).ok()).unwrap_or(K_DEFAULT);
        let collections = fields.optional_ids("collections", IDS_MAX);
        let documents = fields.optional_ids("documents", IDS_MAX);
        Some(Self { query, vector, k, collections, documents })
    }
}

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
struct Results {
    /// Best first.
    results: Vec<Passage>,
}

/// A passage.
#[derive(Debug, Serialize, ToSchema)]
struct Passage {
    document: DocumentId,
    /// The document's title.
    title: String,
    chunk: ChunkId,
    text: String,
    /// The page, where the document has pages.
    page: Option<i32>,
    /// Unicode scalar offsets of `text` in the document's text, start and end.
    span: [i32; 2],
    /// Higher is better: cosine similarity for a vector, a sum of reciprocal ranks for a query.
    score: f32,
}

impl From<Found> for Passage {
    fn from(Found { passage, score, .. }: Found) -> Self {
        let document = passage.document;
        let (title, chunk, text) = (passage.title, passage.chunk, passage.text);
        Self { document, title, chunk, text, page: passage.page, span: passage.span, score }
    }
}

/// Finds passages
#[utoipa::path(
    post, path = "/api/search/", tag = "search", request_body = SearchForm,
    responses((status = 200, body = Results)),
)]
async fn search(
    State(app): State<App>,
    Reading(access): Reading,
    Body(form): Body<SearchForm>,
) -> Result<Json<Results>, ApiError> {
    let SearchForm { query, vector, k, collections, documents } = form;
    let access = match collections {
        Some(wanted) => access.narrowed(&wanted),
        None => access,
    };
    let corpus = Corpus { store: &app.store, index: &app.index, embedder: app.model.get() };
    let found =
        retrieve(corpus, &access, Request { text: query, vector, k, documents }).await.map_err(refused)?;
    Ok(Json(Results { results: found.into_iter().map(Passage::from).collect() }))
}

fn refused(error: retrieve::Error) -> ApiError {
    match error {
        retrieve::Error::Query(index::Error::Dimension { expected, .. }) => {
            ApiError::validation("vector", format!("Expected {expected} numbers."))
        }
        retrieve::Error::Query(index::Error::NotFinite) => {
            ApiError::validation("vector", "Expected finite numbers.")
        }
        retrieve::Error::Query(index::Error::ZeroVector) => {
            ApiError::validation("vector", "Expected a vector that is not zero.")
        }
        retrieve::Error::Store(error) => error.into(),
        error if error.is_transient() => ApiError::unavailable(RETRY_AFTER).because(&error),
        error => ApiError::internal(&error),
    }
}
