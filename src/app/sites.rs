//! Under which names the service is reached, and which pages may call it.
//!
//! Two load balancers stand in front and rewrite `X-Forwarded-Proto` and `-Host`, so neither is read: `public_urls`
//! alone decides the scheme, the allowed hosts and the allowed origins. In profile `local` loopback names and
//! addresses are allowed as well; a foreign name that resolves to loopback (DNS rebinding) is not.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{HOST, ORIGIN};

use crate::config::{Origin, Profile, Settings};

/// The service's own names.
#[derive(Clone, Debug)]
pub struct Sites {
    origins: Vec<String>,
    loopback: bool,
}

/// The name under which one request reached the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site<'a> {
    /// Whether the client speaks HTTPS to the outermost balancer.
    pub https: bool,
    /// Host and, where it is not the scheme's own, port.
    pub host: &'a str,
}

impl Site<'_> {
    /// Returns the scheme as URLs have it.
    pub fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
}

impl Sites {
    /// * `public_urls`: origins in lower case, without path and without the scheme's own port.
    /// * `loopback`: whether names and addresses of this machine are allowed too.
    pub fn new<'a>(public_urls: impl IntoIterator<Item = &'a str>, loopback: bool) -> Self {
        Self { origins: public_urls.into_iter().map(str::to_owned).collect(), loopback }
    }

    /// Reads the names out of the settings; an absent `public_urls` leaves profile `local` with loopback names.
    pub fn from_settings(settings: &Settings) -> Self {
        let origins = settings.public_urls.iter().map(Origin::as_str);
        Self::new(origins, settings.profile == Profile::Local)
    }

    /// Returns the site that the request's `Host` names, or `None` where it is none of ours.
    pub fn of<'a>(&self, headers: &'a HeaderMap) -> Option<Site<'a>> {
        let host = headers.get(HOST)?.to_str().ok()?;
        for origin in &self.origins {
            let (scheme, own) = origin.split_once("://")?;
            let https = scheme == "https";
            let bare = host.strip_suffix(if https { ":443" } else { ":80" }).unwrap_or(host);
            if bare.eq_ignore_ascii_case(own) {
                return Some(Site { https, host: bare });
            }
        }
        (self.loopback && is_loopback(host)).then_some(Site { https: false, host })
    }

    /// Returns whether a page of `origin` may call the API under `site`.
    pub fn trusts(&self, origin: &str, site: Site<'_>) -> bool {
        let same = origin
            .split_once("://")
            .is_some_and(|(scheme, host)| scheme == site.scheme() && host.eq_ignore_ascii_case(site.host));
        same || self.origins.iter().any(|own| own == origin)
    }

    /// Returns whether `host`, out of a Referer, is one of our names or the request's own.
    pub fn trusts_host(&self, host: &str, site: Site<'_>) -> bool {
        host.eq_ignore_ascii_case(site.host)
            || self.origins.iter().any(|own| own.split_once("://").is_some_and(|(_, own)| own == host))
    }
}

/// Returns the request's `Origin`, if it sent one; an unreadable one is empty and thus never trusted.
pub fn origin(headers: &HeaderMap) -> Option<&str> {
    headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default())
}

/// Returns whether a `Host` value names this machine.
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn host(host: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))])
    }

    #[test]
    fn a_public_url_decides_the_scheme_and_other_names_are_refused() {
        let sites = Sites::new(["https://chat.example.org"], false);
        let https = Site { https: true, host: "chat.example.org" };
        assert_eq!(sites.of(&host("chat.example.org")), Some(https));
        assert_eq!(sites.of(&host("chat.example.org:443")), Some(https));
        assert_eq!(sites.of(&host("chat.example.org.evil.net")), None);
        assert_eq!(sites.of(&host("127.0.0.1:8000")), None);
        assert_eq!(sites.of(&HeaderMap::new()), None);
    }

    #[test]
    fn loopback_is_ours_in_local_but_a_name_that_resolves_to_it_is_not() {
        let sites = Sites::new([], true);
        for name in ["localhost:8000", "127.0.0.1", "127.9.9.9:1", "[::1]:8000", "app.localhost"] {
            assert!(sites.of(&HeaderMap::from_iter([(HOST, name.parse().unwrap())])).is_some(), "{name}");
        }
        assert!(sites.of(&host("rebound.example.net:8000")).is_none());
        assert!(sites.of(&host("127.0.0.1.example.net")).is_none());
    }

    #[test]
    fn an_origin_is_trusted_when_it_is_the_sites_own_or_public() {
        let sites = Sites::new(["https://chat.example.org"], true);
        let local = Site { https: false, host: "localhost:8000" };
        assert!(sites.trusts("http://localhost:8000", local));
        assert!(sites.trusts("https://chat.example.org", local));
        assert!(!sites.trusts("http://localhost:3000", local));
        assert!(!sites.trusts("http://chat.example.org", local));
        assert!(!sites.trusts("null", local));
    }
}
