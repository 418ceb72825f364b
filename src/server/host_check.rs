//! Refuses requests that were addressed to somebody else.
//!
//! A web page can make a browser ask our loopback port under the page's own name (DNS rebinding). The name is then in the
//! Host header, which the page cannot choose. An address cannot be rebound, so whoever asks by address is admitted.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Uri};

/// Returns whether a request names no more than one host: a second Host header, or another host in a target that is a
/// whole URL, may be what a proxy in front went by (RFC 9112, 3.2).
pub fn names_one_host(headers: &HeaderMap, target: &Uri) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().map_or(&b""[..], |host| host.as_bytes());
    let is_same = |authority: &Authority| authority.as_str().as_bytes().eq_ignore_ascii_case(host);
    hosts.next().is_none() && target.authority().is_none_or(is_same)
}

/// The names under which a listener may be asked, besides `localhost` and addresses.
#[derive(Clone, Debug)]
pub(super) struct Hosts(Arc<[String]>);

impl Hosts {
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Passes the request on, or answers 421 (Misdirected Request), or 400 where it is addressed to several.
    pub async fn check(self, request: Request, next: Next) -> Response {
        if !names_one_host(request.headers(), request.uri()) {
            return (StatusCode::BAD_REQUEST, "the request names more than one host\n").into_response();
        }
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
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_request_names_one_host() {
        let names_one = |hosts: &[&'static str], target: &'static str| {
            let hosts = hosts.iter().map(|host| (HOST, HeaderValue::from_static(host)));
            let mut headers = HeaderMap::new();
            hosts.for_each(|(name, host)| _ = headers.append(name, host));
            names_one_host(&headers, &Uri::from_static(target))
        };
        assert!(names_one(&["a.example:8000"], "/path/"));
        assert!(names_one(&["a.example:8000"], "http://A.example:8000/path/"));
        assert!(names_one(&[], "/path/"));
        assert!(!names_one(&["a.example", "b.example"], "/path/"));
        assert!(!names_one(&["a.example", "a.example"], "/path/"));
        assert!(!names_one(&["a.example"], "http://b.example/path/"));
        assert!(!names_one(&[], "http://b.example/path/"));
    }

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
