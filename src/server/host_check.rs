//! Refuses requests that were addressed to somebody else.
//!
//! A web page can make a browser ask our loopback port under the page's own name (DNS rebinding). The name is then in the
//! Host header, which the page cannot choose. An address cannot be rebound, so whoever asks by address is admitted.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::HOST;
use http::uri::Authority;

/// The names under which a listener may be asked, besides `localhost` and addresses.
#[derive(Clone, Debug)]
pub(super) struct Hosts(Arc<[String]>);

impl Hosts {
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Passes the request on, or answers 421 (Misdirected Request).
    pub async fn check(self, request: Request, next: Next) -> Response {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        if host.is_some_and(|host| self.admits(host)) {
            return next.run(request).await;
        }
        (StatusCode::MISDIRECTED_REQUEST, "this listener is not known by that name\n").into_response()
    }

    fn admits(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        name.parse::<IpAddr>().is_ok() || name == "localhost" || self.0.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_configured_names_are_admitted() {
        let hosts = Hosts::new(["Node-1.internal".to_owned()]);
        for host in ["localhost:9600", "127.0.0.1", "[::1]:9600", "10.0.1.7:9601", "node-1.INTERNAL"] {
            assert!(hosts.admits(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a b"] {
            assert!(!hosts.admits(host), "{host}");
        }
    }
}
