//! `/api/auth/tokens/`: API tokens for programs.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::Body;
use super::error::ApiError;
use super::fields::{Fields, Form, TextRule};
use super::page::{Page, PageQuery};
use super::request::{Authenticated, Id};
use super::time::Time;
use super::visitor::InSession;
use super::{App, secrets};
use crate::store::ids::TokenId;
use crate::store::tokens::{self, ApiToken};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(remove))
}

/// A token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct Token {
    id: TokenId,
    name: String,
    created_at: Time,
    /// Null: never.
    expires_at: Option<Time>,
    /// To the minute; null: not yet.
    last_used_at: Option<Time>,
}

/// A token as it is shown once.
#[derive(Debug, Serialize, ToSchema)]
struct NewToken {
    /// 40 hexadecimal digits, for `Authorization: Token …`. Not shown again.
    token: String,
    #[serde(flatten)]
    stored: Token,
}

impl From<ApiToken> for Token {
    fn from(token: ApiToken) -> Self {
        let ApiToken { id, name, created_at, expires_at, last_used_at } = token;
        let [expires_at, last_used_at] = [expires_at, last_used_at].map(|time| time.map(Time));
        Self { id, name, created_at: Time(created_at), expires_at, last_used_at }
    }
}

/// A token to be made.
#[derive(ToSchema)]
struct TokenForm {
    /// What the token is for.
    name: String,
    /// When it stops working; left out: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

impl Form for TokenForm {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.text("name", TextRule::line(100));
        let expires_at = if fields.is_null("expires_at") { None } else { fields.optional_time("expires_at") };
        if expires_at.is_some_and(|time| time <= Timestamp::now()) {
            fields.error("expires_at", "Ensure this moment is in the future.");
        }
        Some(Self { name: name?, expires_at })
    }
}

/// Lists the caller's tokens
#[utoipa::path(
    get, path = "/api/auth/tokens/", tag = "auth", params(super::page::PageParameters),
    responses((status = 200, body = Page<Token>)),
)]
async fn list(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    query: PageQuery,
) -> Result<Json<Page<Token>>, ApiError> {
    let client = app.store.primary().await?;
    let page = query.fetch(|window| tokens::list(&client, &caller, window)).await?;
    Ok(Json(page.map(Token::from)))
}

/// Makes a token
///
/// Only a session may: a token that leaked must not make others.
#[utoipa::path(
    post, path = "/api/auth/tokens/", tag = "auth", request_body = TokenForm,
    responses((status = 201, body = NewToken)),
)]
async fn create(
    State(app): State<App>,
    session: InSession,
    Body(form): Body<TokenForm>,
) -> Result<(StatusCode, Json<NewToken>), ApiError> {
    let token = secrets::api_token();
    let client = app.store.primary().await?;
    let stored = tokens::create(&client, &session.caller, &form.name, &token, form.expires_at).await?;
    Ok((StatusCode::CREATED, Json(NewToken { token, stored: stored.into() })))
}

/// Revokes a token
#[utoipa::path(
    delete, path = "/api/auth/tokens/{id}/", tag = "auth", params(("id" = TokenId, Path)),
    responses((status = 204)),
)]
async fn remove(
    State(app): State<App>,
    session: InSession,
    Id(id): Id<TokenId>,
) -> Result<StatusCode, ApiError> {
    match tokens::delete(&app.store.primary().await?, &session.caller, id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::not_found()),
    }
}
