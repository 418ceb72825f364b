//! `/api/auth/`: registering, logging in and out, who am I, changing the password.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::account_rules::{
    EMAIL_CHARS_MAX, PASSWORD_CHARS_MAX, USERNAME_CHARS_MAX, check_email, check_password, check_username,
    normalize_username,
};
use super::accounts::FIRST_COLLECTION;
use super::body::Body;
use super::error::ApiError;
use super::fields::{Fields, Form, TextRule};
use super::request::Authenticated;
use super::time::Time;
use super::visitor::{InSession, Visitor};
use super::{App, cookies, secrets};
use crate::config::Registration;
use crate::store::ids::UserId;
use crate::store::login_attempts::{self, Attempt};
use crate::store::sessions::{self, NewSession};
use crate::store::users::{self, CreateError, Credentials, NewUser, User};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(csrf))
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(logout))
        .routes(routes!(me))
        .routes(routes!(password))
}

/// An account as its owner sees it.
#[derive(Debug, Serialize, ToSchema)]
struct Account {
    id: UserId,
    username: String,
    email: String,
    is_staff: bool,
    created_at: Time,
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        let User { id, username, email, is_staff, created_at } = user;
        Self { id, username, email, is_staff, created_at: created_at.into() }
    }
}

/// Sets the CSRF cookie
///
/// The secret in `csrftoken` is to be sent back as `X-CSRFToken` with every unsafe request of a session.
#[utoipa::path(get, path = "/api/auth/csrf/", tag = "auth", security(()), responses((status = 204)))]
async fn csrf(visitor: Visitor) -> Response {
    let secret = visitor.csrf_secret.unwrap_or_else(secrets::csrf_secret);
    let mut response = StatusCode::NO_CONTENT.into_response();
    cookies::set_csrf(response.headers_mut(), &secret, visitor.secure);
    response
}

/// A person who wants an account.
#[derive(ToSchema)]
struct Register {
    /// Letters, digits and `@ . + - _`, at most 150 characters, unique without regard to case.
    username: String,
    /// May be left out.
    #[schema(required = false)]
    email: String,
    /// At least 8 characters, not common, not like the username.
    password: String,
    /// Needed where registration is by invitation.
    invitation: Option<String>,
}

impl Form for Register {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let username = fields.text("username", TextRule::line(USERNAME_CHARS_MAX));
        let email = fields.optional_text("email", TextRule::blank(EMAIL_CHARS_MAX)).unwrap_or_default();
        let password = fields.text("password", TextRule::exact(PASSWORD_CHARS_MAX));
        let invitation = fields.optional_text("invitation", TextRule::line(100));
        let username = username.map(|username| normalize_username(&username));
        if let Some(wrong) = username.as_deref().and_then(check_username) {
            fields.error("username", wrong);
        }
        if let Some(wrong) = Some(&*email).filter(|email| !email.is_empty()).and_then(check_email) {
            fields.error("email", wrong);
        }
        for wrong in check_password(password.as_deref()?, username.as_deref()?, &email) {
            fields.error("password", wrong);
        }
        Some(Self { username: username?, email, password: password?, invitation })
    }
}

/// Makes an account
///
/// It starts with a collection of its own. Where registration is by invitation, one must be given; where it is closed,
/// the answer is 403.
#[utoipa::path(
    post, path = "/api/auth/register/", tag = "auth", security(()),
    request_body = Register, responses((status = 201, body = Account)),
)]
async fn register(
    State(app): State<App>,
    _visitor: Visitor,
    Body(form): Body<Register>,
) -> Result<Response, ApiError> {
    let invitation = match app.settings.registration {
        Registration::Closed => {
            return Err(ApiError::detail(StatusCode::FORBIDDEN, "Registration is closed."));
        }
        Registration::Open => None,
        Registration::Invite => match &form.invitation {
            Some(code) => Some(code.as_str()),
            None => return Err(ApiError::validation("invitation", "This field is required.")),
        },
    };
    let password_hash = app.passwords.hash(form.password).await?;
    let new = NewUser {
        username: &form.username,
        email: &form.email,
        password_hash: &password_hash,
        is_staff: false,
        collection: FIRST_COLLECTION,
    };
    let mut client = app.store.primary().await?;
    let user = users::create(&mut client, &new, invitation).await.map_err(|error| match error {
        CreateError::UsernameTaken => {
            ApiError::validation("username", "A user with that username already exists.")
        }
        CreateError::Invitation => {
            ApiError::validation("invitation", "This invitation is unknown, used or expired.")
        }
        CreateError::Store(error) => error.into(),
    })?;
    Ok((StatusCode::CREATED, Json(Account::from(user))).into_response())
}

/// A username and a password.
#[derive(ToSchema)]
struct Login {
    username: String,
    password: String,
}

impl Form for Login {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let username = fields.text("username", TextRule::line(USERNAME_CHARS_MAX));
        let password = fields.text("password", TextRule::exact(PASSWORD_CHARS_MAX));
        Some(Self { username: normalize_username(&username?), password: password? })
    }
}

/// Starts a session
///
/// Sets the cookies `sessionid` and `csrftoken`, both new. A session that came along ends.
#[utoipa::path(
    post, path = "/api/auth/login/", tag = "auth", security(()),
    request_body = Login, responses((status = 200, body = Account)),
)]
async fn login(
    State(app): State<App>,
    visitor: Visitor,
    Body(form): Body<Login>,
) -> Result<Response, ApiError> {
    let address = visitor.address.to_string();
    let refused = || ApiError::authentication_failed("Incorrect authentication credentials.");
    let verified =
        check_credentials(&app, &form.username, form.password, &address).await?.ok_or_else(refused)?;
    let (user, hash) = (verified.user, &verified.password_hash);
    let key = start_session(&app, user.id, hash, visitor.session.as_deref()).await?.ok_or_else(refused)?;
    let mut response = Json(Account::from(user)).into_response();
    hand_over(response.headers_mut(), &key, app.settings.session_age, visitor.secure);
    Ok(response)
}

/// Returns the active user whose password this is, with its hash. Attempts are counted per account and address for all nodes
/// together, and an unknown name takes as long as a wrong password.
async fn check_credentials(
    app: &App,
    username: &str,
    password: String,
    address: &str,
) -> Result<Option<Credentials>, ApiError> {
    let mut client = app.store.primary().await?;
    if app.throttles.is_enabled() {
        let limit = app.settings.throttle.login_per_minute;
        if let Attempt::TooMany(wait) = login_attempts::count(&mut client, username, address, limit).await? {
            return Err(app.throttles.refuse_login(wait));
        }
    }
    let found = users::credentials(&client, username).await?;
    // Hashing waits in a queue; the connection does not wait with it.
    drop(client);
    let hash = found.as_ref().map(|found| found.password_hash.clone());
    if !app.passwords.verify(password, hash).await? {
        return Ok(None);
    }
    let Some(verified) = found.filter(|found| found.is_active) else { return Ok(None) };
    if app.throttles.is_enabled() {
        login_attempts::forget(&app.store.primary().await?, username, address).await?;
    }
    Ok(Some(verified))
}

/// Starts a session of `user` in place of `previous`. Returns its key; `None` if the password is not the one of
/// `password_hash` any more.
async fn start_session(
    app: &App,
    user: UserId,
    password_hash: &str,
    previous: Option<&str>,
) -> Result<Option<String>, ApiError> {
    let key = secrets::session_key();
    let client = app.store.primary().await?;
    let age = app.settings.session_age;
    let new = NewSession { user, password_hash, key: &key, age, previous };
    Ok(sessions::start(&client, &new).await?.then_some(key))
}

/// Sets the cookies of a new session; the CSRF secret changes with it, as in Django.
fn hand_over(headers: &mut HeaderMap, key: &str, age: Duration, secure: bool) {
    cookies::set_session(headers, key, age, secure);
    cookies::set_csrf(headers, &secrets::csrf_secret(), secure);
}

/// Ends the session
#[utoipa::path(post, path = "/api/auth/logout/", tag = "auth", responses((status = 204)))]
async fn logout(State(app): State<App>, session: InSession) -> Result<Response, ApiError> {
    sessions::end(&app.store.primary().await?, &session.key).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    cookies::clear_session(response.headers_mut());
    Ok(response)
}

/// Shows the caller's account
#[utoipa::path(get, path = "/api/auth/me/", tag = "auth", responses((status = 200, body = Account)))]
async fn me(State(app): State<App>, Authenticated(caller): Authenticated) -> Result<Json<Account>, ApiError> {
    let user = users::me(&app.store.primary().await?, &caller).await?;
    user.map(|user| Json(user.into())).ok_or_else(ApiError::not_authenticated)
}

/// The password that is, and the one that shall be.
#[derive(ToSchema)]
struct PasswordChange {
    current_password: String,
    new_password: String,
}

impl Form for PasswordChange {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let current = fields.text("current_password", TextRule::exact(PASSWORD_CHARS_MAX));
        let new = fields.text("new_password", TextRule::exact(PASSWORD_CHARS_MAX));
        Some(Self { current_password: current?, new_password: new? })
    }
}

/// Changes the password
///
/// Ends all sessions of the user and starts a new one for this browser. API tokens stay.
#[utoipa::path(
    post, path = "/api/auth/password/", tag = "auth", request_body = PasswordChange, responses((status = 204)),
)]
async fn password(
    State(app): State<App>,
    session: InSession,
    Body(form): Body<PasswordChange>,
) -> Result<Response, ApiError> {
    let address = session.address.to_string();
    let username = session.caller.username();
    let refused = || {
        let wrong = "Your old password was entered incorrectly. Please enter it again.";
        ApiError::validation("current_password", wrong)
    };
    let verified =
        check_credentials(&app, username, form.current_password, &address).await?.ok_or_else(refused)?;
    let user = verified.user;
    let wrong = check_password(&form.new_password, &user.username, &user.email);
    if !wrong.is_empty() {
        return Err(ApiError::field("new_password", wrong));
    }
    let hash = app.passwords.hash(form.new_password).await?;
    let mut client = app.store.primary().await?;
    if !users::set_password(&mut client, user.id, Some(&verified.password_hash), &hash).await? {
        return Err(refused());
    }
    drop(client);
    let key = start_session(&app, user.id, &hash, None).await?.ok_or_else(ApiError::not_authenticated)?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    hand_over(response.headers_mut(), &key, app.settings.session_age, session.secure);
    Ok(response)
}
