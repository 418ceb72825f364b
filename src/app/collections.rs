//! `/api/collections/`: what belongs together and is shared as one.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::body::Body;
use super::error::ApiError;
use super::fields::{Fields, Form, TextRule};
use super::page::{Page, PageQuery};
use super::request::{Authenticated, Id};
use super::time::Time;
use crate::store::collections::{self, Outcome};
use crate::store::ids::CollectionId;

/// Characters of a name at most.
const NAME_CHARS_MAX: usize = 200;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, rename, remove))
}

/// A collection as one of its members sees it.
#[derive(Debug, Serialize, ToSchema)]
struct Collection {
    id: CollectionId,
    name: String,
    /// What the caller may do: `viewer` reads, `editor` also adds and deletes documents, `owner` also shares.
    role: &'static str,
    /// Documents in it, whatever their state.
    document_count: i64,
    created_at: Time,
    updated_at: Time,
}

impl From<collections::Collection> for Collection {
    fn from(stored: collections::Collection) -> Self {
        let collections::Collection { id, name, role, document_count, created_at, updated_at } = stored;
        let [created_at, updated_at] = [created_at, updated_at].map(Time);
        Self { id, name, role: role.as_str(), document_count, created_at, updated_at }
    }
}

/// What a collection is called.
#[derive(ToSchema)]
struct CollectionForm {
    /// At most 200 characters.
    name: String,
}

impl Form for CollectionForm {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { name: fields.text("name", TextRule::line(NAME_CHARS_MAX))? })
    }
}

/// Unwraps what only owners may do.
pub(super) fn allowed<T>(outcome: Outcome<T>) -> Result<T, ApiError> {
    match outcome {
        Outcome::Done(value) => Ok(value),
        Outcome::Missing => Err(ApiError::not_found()),
        Outcome::Forbidden => Err(ApiError::permission_denied()),
        Outcome::LastOwner => Err(ApiError::conflict("A collection needs at least one owner.")),
    }
}

/// Lists the caller's collections, oldest first
#[utoipa::path(
    get, path = "/api/collections/", tag = "collections", params(super::page::PageParameters),
    responses((status = 200, body = Page<Collection>)),
)]
async fn list(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    query: PageQuery,
) -> Result<Json<Page<Collection>>, ApiError> {
    let client = app.store.primary().await?;
    let page = query.fetch(|window| collections::list(&client, &caller, window)).await?;
    Ok(Json(page.map(Collection::from)))
}

/// Makes a collection that the caller owns
#[utoipa::path(
    post, path = "/api/collections/", tag = "collections", request_body = CollectionForm,
    responses((status = 201, body = Collection)),
)]
async fn create(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Body(form): Body<CollectionForm>,
) -> Result<(StatusCode, Json<Collection>), ApiError> {
    let made = collections::create(&app.store.primary().await?, &caller, &form.name).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Shows a collection
#[utoipa::path(
    get, path = "/api/collections/{id}/", tag = "collections", params(("id" = CollectionId, Path)),
    responses((status = 200, body = Collection)),
)]
async fn get(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id(id): Id<CollectionId>,
) -> Result<Json<Collection>, ApiError> {
    let found = collections::get(&app.store.primary().await?, &caller, id).await?;
    found.map(|found| Json(found.into())).ok_or_else(ApiError::not_found)
}

/// Renames a collection, for owners
#[utoipa::path(
    patch, path = "/api/collections/{id}/", tag = "collections", params(("id" = CollectionId, Path)),
    request_body = CollectionForm, responses((status = 200, body = Collection)),
)]
async fn rename(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id(id): Id<CollectionId>,
    Body(form): Body<CollectionForm>,
) -> Result<Json<Collection>, ApiError> {
    let mut client = app.store.primary().await?;
    Ok(Json(allowed(collections::rename(&mut client, &caller, id, &form.name).await?)?.into()))
}

/// Deletes a collection with all its documents, for owners
#[utoipa::path(
    delete, path = "/api/collections/{id}/", tag = "collections", params(("id" = CollectionId, Path)),
    responses((status = 204)),
)]
async fn remove(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id(id): Id<CollectionId>,
) -> Result<StatusCode, ApiError> {
    let mut client = app.store.primary().await?;
    allowed(collections::delete(&mut client, &caller, id).await?)?;
    Ok(StatusCode::NO_CONTENT)
}
