//! `/api/chats/`: a person's chats, the last used first.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::body::Body;
use super::error::ApiError;
use super::fields::{Fields, Form, TextRule};
use super::page::{Page, PageQuery};
use super::request::{Authenticated, Id};
use super::time::Time;
use crate::store::access::Caller;
use crate::store::chats::{self, Change};
use crate::store::ids::{ChatId, CollectionId};
use crate::store::{Client, collections};

/// Characters of a title at most.
pub(super) const TITLE_CHARS_MAX: usize = 200;

/// Collections that a chat may be limited to at most.
const COLLECTIONS_MAX: usize = 100;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, change, remove))
}

/// A chat.
#[derive(Debug, Serialize, ToSchema)]
struct Chat {
    id: ChatId,
    /// Empty until the first question names the chat.
    title: String,
    /// Where answers may come from; null is everything that the caller may read.
    collections: Option<Vec<CollectionId>>,
    created_at: Time,
    /// When a message was last added.
    updated_at: Time,
}

impl From<chats::Chat> for Chat {
    fn from(stored: chats::Chat) -> Self {
        let chats::Chat { id, title, collections, created_at, updated_at } = stored;
        Self { id, title, collections, created_at: created_at.into(), updated_at: updated_at.into() }
    }
}

/// What can be set of a chat. Everything may be left out.
#[derive(ToSchema)]
struct ChatForm {
    /// At most 200 characters; an empty one is replaced by the first question.
    title: Option<String>,
    /// Where answers may come from; null for everything that the caller may read.
    #[schema(value_type = Option<Vec<CollectionId>>)]
    collections: Option<Option<Vec<CollectionId>>>,
}

impl Form for ChatForm {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let title = fields.optional_text("title", TextRule::blank(TITLE_CHARS_MAX));
        let collections = if fields.is_null("collections") {
            Some(None)
        } else {
            fields.optional_ids("collections", COLLECTIONS_MAX).map(Some)
        };
        Some(Self { title, collections })
    }
}

impl ChatForm {
    /// Returns the form as a change, if the caller may read every collection that it names.
    async fn checked(self, client: &Client, caller: &Caller) -> Result<Change, ApiError> {
        if let Some(Some(wanted)) = &self.collections {
            let access = collections::readable(client, caller).await?;
            if let Some(unknown) = wanted.iter().find(|id| !access.collections().contains(id)) {
                let message = format!("Invalid pk \"{unknown}\" - object does not exist.");
                return Err(ApiError::validation("collections", message));
            }
        }
        Ok(Change { title: self.title, collections: self.collections })
    }
}

/// Which chats are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only chats with this text in their title, in any case.
    search: Option<String>,
}

/// Lists the caller's chats, the last used first
#[utoipa::path(
    get, path = "/api/chats/", tag = "chats", params(super::page::PageParameters, Filter),
    responses((status = 200, body = Page<Chat>)),
)]
async fn list(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    filter: Result<Query<Filter>, QueryRejection>,
    query: PageQuery,
) -> Result<Json<Page<Chat>>, ApiError> {
    let Query(filter) = filter.map_err(|_| ApiError::parse("Malformed request."))?;
    // PostgreSQL has no text with a NUL in it, so no title has one either.
    let search = filter.search.map(|text| text.trim().replace('\0', "")).filter(|text| !text.is_empty());
    let client = app.store.primary().await?;
    let page = match &search {
        None => query.fetch(|window| chats::list(&client, &caller, window)).await?,
        Some(text) => query.fetch(|window| chats::search(&client, &caller, text, window)).await?,
    };
    Ok(Json(page.map(Chat::from)))
}

/// Starts a chat
#[utoipa::path(
    post, path = "/api/chats/", tag = "chats", request_body = ChatForm, responses((status = 201, body = Chat)),
)]
async fn create(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Body(form): Body<ChatForm>,
) -> Result<(StatusCode, Json<Chat>), ApiError> {
    let client = app.store.primary().await?;
    let Change { title, collections } = form.checked(&client, &caller).await?;
    let title = title.unwrap_or_default();
    let made = chats::create(&client, &caller, &title, collections.flatten().as_deref()).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Shows a chat
#[utoipa::path(
    get, path = "/api/chats/{id}/", tag = "chats", params(("id" = ChatId, Path)),
    responses((status = 200, body = Chat)),
)]
async fn get(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id(id): Id<ChatId>,
) -> Result<Json<Chat>, ApiError> {
    let found = chats::get(&app.store.primary().await?, &caller, id).await?;
    found.map(|found| Json(found.into())).ok_or_else(ApiError::not_found)
}

/// Renames a chat or changes where its answers come from
#[utoipa::path(
    patch, path = "/api/chats/{id}/", tag = "chats", params(("id" = ChatId, Path)), request_body = ChatForm,
    responses((status = 200, body = Chat)),
)]
async fn change(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id(id): Id<ChatId>,
    Body(form): Body<ChatForm>,
) -> Result<Json<Chat>, ApiError> {
    let client = app.store.primary().await?;
    let change = form.checked(&client, &caller).await?;
    let changed = chats::update(&client, &caller, id, &change).await?;
    changed.map(|changed| Json(changed.into())).ok_or_else(ApiError::not_found)
}

/// Deletes a chat with its messages
#[utoipa::path(
    delete, path = "/api/chats/{id}/", tag = "chats", params(("id" = ChatId, Path)), responses((status = 204)),
)]
async fn remove(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id(id): Id<ChatId>,
) -> Result<StatusCode, ApiError> {
    match chats::delete(&mut app.store.primary().await?, &caller, id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::not_found()),
    }
}
