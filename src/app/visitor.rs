//! A request to an endpoint that needs no login, and the session of one that a person's browser must make.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::error::ApiError;
use super::request::{Authenticated, has_token};
use super::{App, cookies, csrf};
use crate::server::client_address::{PeerAddress, client_address};
use crate::store::access::Caller;

/// Whoever asks, without a login: throttled by address, and refused where a foreign page makes the request.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The client's address behind the trusted proxies.
    pub address: IpAddr,
    /// Whether cookies must be `Secure`.
    pub secure: bool,
    /// The session key that came along, checked by nobody.
    pub session: Option<String>,
    /// The CSRF secret that came along, well-formed.
    pub csrf_secret: Option<String>,
}

impl FromRequestParts<App> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let address = address_of(parts, app);
        app.throttles.anonymous(limited(address))?;
        let site = app.sites.of(&parts.headers).ok_or_else(ApiError::bad_request)?;
        if !parts.method.is_safe() {
            csrf::check_origin(&parts.headers, site, &app.sites)?;
        }
        Ok(Self {
            address,
            secure: site.https,
            session: cookies::get(&parts.headers, cookies::SESSION).map(str::to_owned),
            csrf_secret: csrf::secret(&parts.headers),
        })
    }
}

/// A caller with a session cookie. Tokens are refused with 403: one that leaks must not open or close other doors.
#[derive(Clone, Debug)]
pub struct InSession {
    /// The user.
    pub caller: Caller,
    /// The session's key.
    pub key: String,
    /// The client's address behind the trusted proxies.
    pub address: IpAddr,
    /// Whether cookies must be `Secure`.
    pub secure: bool,
}

impl FromRequestParts<App> for InSession {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, app).await?;
        if has_token(&parts.headers) {
            return Err(ApiError::permission_denied());
        }
        let key = cookies::get(&parts.headers, cookies::SESSION).unwrap_or_default().to_owned();
        let secure = app.sites.of(&parts.headers).is_some_and(|site| site.https);
        Ok(Self { caller, key, address: address_of(parts, app), secure })
    }
}

/// Returns the client's address behind the trusted proxies. A request that came over no socket counts under the
/// unspecified address.
pub(super) fn address_of(parts: &Parts, app: &App) -> IpAddr {
    let peer =
        parts.extensions.get::<PeerAddress>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    client_address(peer, &parts.headers, &app.settings.trusted_proxies)
}

/// The address that limits apply to: this machine itself, when it forwards for nobody, has none.
pub(super) fn limited(address: IpAddr) -> Option<IpAddr> {
    (!address.to_canonical().is_loopback()).then_some(address)
}
