//! `/api/documents/`: adding, watching, reading and deleting documents.
//!
//! [`upload`] streams a file to the object store, [`content`] streams it back, [`events`] tells a person's pages what
//! becomes of their documents. What makes a document searchable is [`crate::rag::ingest`].

mod content;
mod events;
mod upload;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, FieldErrors};
use super::page::{Page, PageParameters, PageQuery};
use super::request::{Authenticated, Id};
use super::time::Time;
use crate::store::documents::{self, Filter, Outcome, Status};
use crate::store::ids::{CollectionId, DocumentId};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, upload::upload))
        .routes(routes!(events::events))
        .routes(routes!(get, remove))
        .routes(routes!(retry))
        .routes(routes!(content::content))
        .routes(routes!(content::text))
}

/// A document as a member of its collection sees it.
#[derive(Debug, Serialize, ToSchema)]
struct Document {
    id: DocumentId,
    collection: CollectionId,
    /// The title that the document gives itself, else the file's name.
    title: String,
    file_name: String,
    /// What the content turned out to be; until then what the upload said.
    media_type: String,
    size_bytes: i64,
    /// `queued`, `extracting`, `embedding`, `ready` (searchable) or `failed`.
    status: &'static str,
    /// Why it failed; one of a fixed list of codes.
    reason: Option<String>,
    /// How much of the current step is done, 0 to 1.
    progress: f32,
    /// Passages that searches find.
    chunk_count: i32,
    created_at: Time,
    updated_at: Time,
}

impl From<documents::Document> for Document {
    fn from(stored: documents::Document) -> Self {
        Self {
            id: stored.id,
            collection: stored.collection,
            title: stored.title,
            file_name: stored.file_name,
            media_type: stored.media_type,
            size_bytes: stored.size_bytes,
            status: stored.status.as_str(),
            reason: stored.reason,
            progress: stored.progress,
            chunk_count: stored.chunk_count,
            created_at: stored.created_at.into(),
            updated_at: stored.updated_at.into(),
        }
    }
}

/// Which documents are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListParameters {
    /// Only those in this collection.
    collection: Option<String>,
    /// Only those in this state.
    status: Option<String>,
    /// Only those with this in their title or file name.
    search: Option<String>,
}

impl ListParameters {
    fn filter(self) -> Result<Filter, ApiError> {
        let mut errors = FieldErrors::default();
        let given = |value: Option<String>| value.filter(|value| !value.is_empty());
        let collection = given(self.collection).map(|text| text.parse().map(CollectionId));
        if matches!(collection, Some(Err(_))) {
            errors.push("collection", "Enter a valid UUID.");
        }
        let status = given(self.status).map(|word| (Status::parse(&word), word));
        if let Some((None, word)) = &status {
            let message = format!("Select a valid choice. {word} is not one of the available choices.");
            errors.push("status", message);
        }
        // Postgres has no NUL in texts; nothing has it in its title either.
        let search = given(self.search).map(|text| text.replace('\0', "\u{fffd}"));
        if !errors.is_empty() {
            return Err(errors.into());
        }
        let collection = collection.and_then(Result::ok);
        Ok(Filter { collection, status: status.and_then(|(status, _)| status), search })
    }
}

/// Lists the documents that the caller may read, newest first
#[utoipa::path(
    get, path = "/api/documents/", tag = "documents", params(ListParameters, PageParameters),
    responses((status = 200, body = Page<Document>)),
)]
async fn list(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    parameters: Result<Query<ListParameters>, QueryRejection>,
    query: PageQuery,
) -> Result<Json<Page<Document>>, ApiError> {
    let Query(parameters) = parameters.map_err(|_| ApiError::parse("Malformed request."))?;
    let filter = parameters.filter()?;
    let client = app.store.primary().await?;
    let page = query.fetch(|window| documents::list(&client, &caller, &filter, window)).await?;
    Ok(Json(page.map(Document::from)))
}

/// Shows a document
#[utoipa::path(
    get, path = "/api/documents/{id}/", tag = "documents", params(("id" = DocumentId, Path)),
    responses((status = 200, body = Document)),
)]
async fn get(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id(id): Id<DocumentId>,
) -> Result<Json<Document>, ApiError> {
    let found = documents::find(&app.store.primary().await?, &caller, id).await?;
    found.map(|found| Json(found.into())).ok_or_else(ApiError::not_found)
}

/// Deletes a document, for editors and owners of its collection
///
/// From the answer on no search finds it; the uploaded file is removed soon after.
#[utoipa::path(
    delete, path = "/api/documents/{id}/", tag = "documents", params(("id" = DocumentId, Path)),
    responses((status = 204)),
)]
async fn remove(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id(id): Id<DocumentId>,
) -> Result<StatusCode, ApiError> {
    allowed(documents::delete(&app.store.primary().await?, &caller, id).await?)?;
    app.ingest.note_deletion();
    Ok(StatusCode::NO_CONTENT)
}

/// Tries a failed document again, for editors and owners of its collection
#[utoipa::path(
    post, path = "/api/documents/{id}/retry/", tag = "documents", params(("id" = DocumentId, Path)),
    responses((status = 202, body = Document), (status = 409, description = "The document has not failed")),
)]
async fn retry(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id(id): Id<DocumentId>,
) -> Result<(StatusCode, Json<Document>), ApiError> {
    let client = app.store.primary().await?;
    allowed(documents::retry(&client, &caller, id).await?)?;
    let found = documents::find(&client, &caller, id).await?.ok_or_else(ApiError::not_found)?;
    app.ingest.note_upload();
    Ok((StatusCode::ACCEPTED, Json(found.into())))
}

fn allowed(outcome: Outcome) -> Result<(), ApiError> {
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Missing => Err(ApiError::not_found()),
        Outcome::Forbidden => Err(ApiError::permission_denied()),
        Outcome::Unfitting => Err(ApiError::conflict("Only a failed document can be tried again.")),
    }
}
