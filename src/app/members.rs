//! `/api/collections/{id}/members/`: who shares a collection.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::account_rules::{USERNAME_CHARS_MAX, normalize_username};
use super::body::Body;
use super::collections::allowed;
use super::error::ApiError;
use super::fields::{Fields, Form, TextRule};
use super::page::{Page, PageQuery};
use super::request::{Authenticated, Id};
use super::time::Time;
use crate::store::collections::Role;
use crate::store::ids::{CollectionId, UserId};
use crate::store::members::{self, NotAdded};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(change, remove))
}

/// A member of a collection.
#[derive(Debug, Serialize, ToSchema)]
struct Member {
    user: UserId,
    username: String,
    /// `viewer`, `editor` or `owner`.
    role: &'static str,
    created_at: Time,
}

impl From<members::Member> for Member {
    fn from(stored: members::Member) -> Self {
        let members::Member { user, username, role, created_at } = stored;
        Self { user, username, role: role.as_str(), created_at: Time(created_at) }
    }
}

/// Somebody to share with.
#[derive(ToSchema)]
struct MemberForm {
    username: String,
    /// `viewer`, `editor` or `owner`.
    #[schema(value_type = String)]
    role: Role,
}

impl Form for MemberForm {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let username = fields.text("username", TextRule::line(USERNAME_CHARS_MAX));
        let role = read_role(fields);
        Some(Self { username: normalize_username(&username?), role: role? })
    }
}

/// Another role for a member.
#[derive(ToSchema)]
struct RoleForm {
    /// `viewer`, `editor` or `owner`.
    #[schema(value_type = String)]
    role: Role,
}

impl Form for RoleForm {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { role: read_role(fields)? })
    }
}

fn read_role(fields: &mut Fields<'_>) -> Option<Role> {
    fields.choice("role", &["viewer", "editor", "owner"]).and_then(Role::parse)
}

/// Lists the members of a collection
#[utoipa::path(
    get, path = "/api/collections/{id}/members/", tag = "collections",
    params(("id" = CollectionId, Path), super::page::PageParameters),
    responses((status = 200, body = Page<Member>)),
)]
async fn list(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id(id): Id<CollectionId>,
    query: PageQuery,
) -> Result<Json<Page<Member>>, ApiError> {
    let client = app.store.primary().await?;
    let page = query.fetch(|window| members::list(&client, &caller, id, window)).await?;
    // A collection always has a member; none to be seen means that it is not there for the caller.
    if page.count == 0 {
        return Err(ApiError::not_found());
    }
    Ok(Json(page.map(Member::from)))
}

/// Shares a collection with somebody, for owners
#[utoipa::path(
    post, path = "/api/collections/{id}/members/", tag = "collections", params(("id" = CollectionId, Path)),
    request_body = MemberForm, responses((status = 201, body = Member)),
)]
async fn add(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id(id): Id<CollectionId>,
    Body(form): Body<MemberForm>,
) -> Result<(StatusCode, Json<Member>), ApiError> {
    let mut client = app.store.primary().await?;
    match allowed(members::add(&mut client, &caller, id, &form.username, form.role).await?)? {
        Ok(member) => Ok((StatusCode::CREATED, Json(member.into()))),
        Err(NotAdded::UnknownUser) => {
            let message = format!("Object with username={} does not exist.", form.username);
            Err(ApiError::validation("username", message))
        }
        Err(NotAdded::AlreadyMember) => {
            Err(ApiError::validation("username", "This user is already a member."))
        }
    }
}

/// Gives a member another role, for owners
#[utoipa::path(
    patch, path = "/api/collections/{id}/members/{user}/", tag = "collections",
    params(("id" = CollectionId, Path), ("user" = UserId, Path)),
    request_body = RoleForm, responses((status = 200, body = Member)),
)]
async fn change(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id((id, user)): Id<(CollectionId, UserId)>,
    Body(form): Body<RoleForm>,
) -> Result<Json<Member>, ApiError> {
    let mut client = app.store.primary().await?;
    Ok(Json(allowed(members::change(&mut client, &caller, id, user, form.role).await?)?.into()))
}

/// Ends a membership
///
/// An owner may remove anybody, everybody may leave; the last owner stays.
#[utoipa::path(
    delete, path = "/api/collections/{id}/members/{user}/", tag = "collections",
    params(("id" = CollectionId, Path), ("user" = UserId, Path)),
    responses((status = 204)),
)]
async fn remove(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id((id, user)): Id<(CollectionId, UserId)>,
) -> Result<StatusCode, ApiError> {
    let mut client = app.store.primary().await?;
    allowed(members::remove(&mut client, &caller, id, user).await?)?;
    Ok(StatusCode::NO_CONTENT)
}
