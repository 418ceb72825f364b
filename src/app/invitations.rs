//! `/api/auth/invitations/`: letting somebody register where registration is by invitation.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ApiError;
use super::time::Time;
use super::visitor::InSession;
use super::{App, secrets};
use crate::store::invitations;

/// How long an invitation is good for.
const AGE: Duration = Duration::from_secs(7 * 86_400);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create))
}

/// An invitation as it is shown once.
#[derive(Debug, Serialize, ToSchema)]
struct Invitation {
    /// To be given as `invitation` when registering. Not shown again.
    code: String,
    expires_at: Time,
}

/// Makes an invitation
///
/// For staff. It lets one person register within seven days.
#[utoipa::path(
    post, path = "/api/auth/invitations/", tag = "auth", responses((status = 201, body = Invitation)),
)]
async fn create(
    State(app): State<App>,
    session: InSession,
) -> Result<(StatusCode, Json<Invitation>), ApiError> {
    if !session.caller.is_staff() {
        return Err(ApiError::permission_denied());
    }
    let code = secrets::invitation_code();
    let expires_at = invitations::create(&app.store.primary().await?, &session.caller, &code, AGE).await?;
    Ok((StatusCode::CREATED, Json(Invitation { code, expires_at: Time(expires_at) })))
}
