//! Who asks and for what: the extractors that every endpoint starts with.

use axum::extract::{FromRequestParts, Path};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use super::visitor::{address_of, limited};
use super::{App, cookies, csrf};
use crate::store::access::{Caller, ReadAccess};
use crate::store::ids::UserId;
use crate::store::tokens::TokenOwner;
use crate::store::{self, Client, collections, sessions, tokens};

/// The user behind a request, by session cookie (then CSRF-checked) or by API token; without one the answer is 401.
#[derive(Clone, Debug)]
pub struct Authenticated(pub Caller);

impl FromRequestParts<App> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        // A header that only a program of ours can set goes first; a browser's cookie needs the CSRF check as well.
        let found = match bearer(&parts.headers)? {
            Some(token) => by_token(app, token).await?,
            None => by_session(app, parts, sessions::authenticate).await?,
        };
        let caller = admit(parts, app, found, Caller::user)?;
        Ok(Self(caller))
    }
}

/// What the user behind a request may read. Like [`Authenticated`], and for a session no statement more.
#[derive(Clone, Debug)]
pub struct Reading(pub ReadAccess);

impl FromRequestParts<App> for Reading {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        if bearer(&parts.headers)?.is_some() {
            let Authenticated(caller) = Authenticated::from_request_parts(parts, app).await?;
            let client = app.store.primary().await?;
            return Ok(Self(collections::readable(&client, &caller).await?));
        }
        let found = by_session(app, parts, sessions::authenticate_reader).await?;
        let access = admit(parts, app, found, ReadAccess::user)?;
        Ok(Self(access))
    }
}

/// Counts the request against its user's limit, or against its address's where the credentials were wrong.
fn admit<T>(
    parts: &Parts,
    app: &App,
    found: Result<T, ApiError>,
    user: impl Fn(&T) -> UserId,
) -> Result<T, ApiError> {
    match found {
        Ok(found) => {
            app.throttles.user(user(&found))?;
            Ok(found)
        }
        // Wrong credentials cost a look into the database, so guessing them has a limit.
        Err(refused) => {
            app.throttles.anonymous(limited(address_of(parts, app)))?;
            Err(refused)
        }
    }
}

/// The token or session key of a request, for an answer that outlasts it.
pub struct Credential(Secret);

enum Secret {
    Token(String),
    Session(String),
}

impl Credential {
    /// Reads what [`Authenticated`] goes by.
    ///
    /// # Errors
    /// 401 without any.
    pub fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let secret = match bearer(headers)? {
            Some(token) => Secret::Token(token.to_owned()),
            None => Secret::Session(session_key(headers)?.to_owned()),
        };
        Ok(Self(secret))
    }

    /// Asks the database whether it still lets its user in.
    ///
    /// # Errors
    /// That of a database that cannot be asked.
    pub async fn is_valid(&self, app: &App) -> Result<bool, ApiError> {
        match &self.0 {
            Secret::Token(token) => Ok(by_token(app, token).await?.is_ok()),
            Secret::Session(key) => {
                let client = app.store.primary().await?;
                Ok(sessions::authenticate(&client, key).await?.is_some())
            }
        }
    }
}

async fn by_session<T>(
    app: &App,
    parts: &Parts,
    authenticate: impl AsyncFnOnce(&Client, &str) -> Result<Option<T>, store::Error>,
) -> Result<Result<T, ApiError>, ApiError> {
    let key = session_key(&parts.headers)?;
    let client = app.store.primary().await?;
    let Some(found) = authenticate(&client, key).await? else {
        return Ok(Err(ApiError::not_authenticated()));
    };
    let site = app.sites.of(&parts.headers).ok_or_else(ApiError::bad_request)?;
    csrf::check(&parts.method, &parts.headers, site, &app.sites)?;
    Ok(Ok(found))
}

async fn by_token(app: &App, token: &str) -> Result<Result<Caller, ApiError>, ApiError> {
    let client = app.store.primary().await?;
    Ok(match tokens::authenticate(&client, token).await? {
        Some(TokenOwner::Active(caller)) => Ok(caller),
        Some(TokenOwner::Inactive) => Err(ApiError::authentication_failed("User inactive or deleted.")),
        None => Err(ApiError::authentication_failed("Invalid token.")),
    })
}

fn session_key(headers: &HeaderMap) -> Result<&str, ApiError> {
    cookies::get(headers, cookies::SESSION).ok_or_else(ApiError::not_authenticated)
}

/// Returns whether the request carries an API token, of whatever worth.
pub(super) fn has_token(headers: &HeaderMap) -> bool {
    !matches!(bearer(headers), Ok(None))
}

/// Returns the API token of an `Authorization: Token …` header; another scheme is none of ours.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let invalid = |why| Err(ApiError::authentication_failed(why));
    let Some(header) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let mut words = header.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    if !words.next().is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"token")) {
        return Ok(None);
    }
    let Some(token) = words.next() else {
        return invalid("Invalid token header. No credentials provided.");
    };
    if words.next().is_some() {
        return invalid("Invalid token header. Token string should not contain spaces.");
    }
    match std::str::from_utf8(token) {
        Ok(token) => Ok(Some(token)),
        Err(_) => invalid("Invalid token header. Token string should not contain invalid characters."),
    }
}

/// Ids out of the path: one, or a tuple of several. A malformed id is answered like an unknown one.
#[derive(Clone, Copy, Debug)]
pub struct Id<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, app).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(ApiError::not_found()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_well_formed_token_passes() {
        let parse = |text: &str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, text.parse().unwrap())]);
            bearer(&headers).map(|token| token.map(str::to_owned)).map_err(|error| format!("{error:?}"))
        };
        assert_eq!(parse("Token abc").unwrap().as_deref(), Some("abc"));
        assert_eq!(parse("token  abc ").unwrap().as_deref(), Some("abc"));
        assert_eq!(parse("Basic abc").unwrap(), None);
        assert!(parse("Token").unwrap_err().contains("No credentials provided."));
        assert!(parse("Token a b").unwrap_err().contains("should not contain spaces."));
    }
}
