//! Cross-site request forgery: Django's double-submit cookie, with its rules and its words.
//!
//! The cookie holds a secret of 32 characters; an unsafe request must repeat it in `X-CSRFToken`, bare or masked (64
//! characters, so that a compressed page does not leak it). On top, `Origin` must be ours where it is sent; over
//! HTTPS a request without one must have a Referer of ours.

use http::header::REFERER;
use http::{HeaderMap, Method};
use subtle::ConstantTimeEq;

use super::cookies;
use super::error::ApiError;
use super::secrets::ALPHANUMERIC as ALPHABET;
use super::sites::{self, Site, Sites};

const SECRET_CHARS: usize = 32;
const HEADER: &str = "x-csrftoken";

/// Returns the secret that the request's cookie holds, if it is a well-formed one.
pub fn secret(headers: &HeaderMap) -> Option<String> {
    cookies::get(headers, cookies::CSRF).and_then(|cookie| unmask(cookie).ok())
}

/// Refuses an unsafe request that may come from another site.
///
/// # Errors
/// 403 with Django's reason.
pub fn check(method: &Method, headers: &HeaderMap, site: Site<'_>, sites: &Sites) -> Result<(), ApiError> {
    if method.is_safe() {
        return Ok(());
    }
    check_origin(headers, site, sites)?;
    if site.https && sites::origin(headers).is_none() {
        check_referer(headers, site, sites)?;
    }
    check_token(headers)
}

/// Refuses a request whose `Origin`, where it sends one, is not ours.
///
/// # Errors
/// 403 with Django's reason.
pub fn check_origin(headers: &HeaderMap, site: Site<'_>, sites: &Sites) -> Result<(), ApiError> {
    match sites::origin(headers) {
        Some(origin) if !sites.trusts(origin, site) => Err(ApiError::csrf(&format!(
            "Origin checking failed - {origin} does not match any trusted origins."
        ))),
        _ => Ok(()),
    }
}

fn check_referer(headers: &HeaderMap, site: Site<'_>, sites: &Sites) -> Result<(), ApiError> {
    let failed = |why: &str| Err(ApiError::csrf(&format!("Referer checking failed - {why}")));
    let Some(referer) = headers.get(REFERER).map(|value| value.to_str().unwrap_or_default()) else {
        return failed("no Referer.");
    };
    let Some((scheme, rest)) = referer.split_once("://") else {
        return failed("Referer is malformed.");
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if scheme.is_empty() || host.is_empty() {
        return failed("Referer is malformed.");
    }
    if !scheme.eq_ignore_ascii_case("https") {
        return failed("Referer is insecure while host is secure.");
    }
    if !sites.trusts_host(host, site) {
        return failed(&format!("{referer} does not match any trusted origins."));
    }
    Ok(())
}

fn check_token(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(cookie) = cookies::get(headers, cookies::CSRF) else {
        return Err(ApiError::csrf("CSRF cookie not set."));
    };
    let expected = unmask(cookie).map_err(|reason| ApiError::csrf(&format!("CSRF cookie {reason}.")))?;
    let Some(sent) = headers.get(HEADER) else {
        return Err(ApiError::csrf("CSRF token missing."));
    };
    let bad = |reason| ApiError::csrf(&format!("CSRF token from the 'X-Csrftoken' HTTP header {reason}."));
    let sent = sent.to_str().map_err(|_| bad("has invalid characters"))?;
    let sent = unmask(sent).map_err(bad)?;
    if bool::from(sent.as_bytes().ct_eq(expected.as_bytes())) { Ok(()) } else { Err(bad("incorrect")) }
}

/// Returns the secret inside a token, bare or masked, or what is wrong with its form.
fn unmask(token: &str) -> Result<String, &'static str> {
    if token.len() != SECRET_CHARS && token.len() != 2 * SECRET_CHARS {
        return Err("has incorrect length");
    }
    let positions: Option<Vec<usize>> =
        token.bytes().map(|byte| ALPHABET.iter().position(|letter| *letter == byte)).collect();
    let positions = positions.ok_or("has invalid characters")?;
    if token.len() == SECRET_CHARS {
        return Ok(token.to_owned());
    }
    let (mask, cipher) = positions.split_at(SECRET_CHARS);
    let letters =
        cipher.iter().zip(mask).map(|(cipher, mask)| (cipher + ALPHABET.len() - mask) % ALPHABET.len());
    Ok(letters.map(|position| char::from(ALPHABET[position])).collect())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{COOKIE, ORIGIN};

    use super::*;

    const SECRET: &str = "lcccccccX2kcccccccY2jcccccccssIC";
    // Django's own test vectors (tests/csrf_tests): two masked forms of the same secret.
    const MASKED: [&str; 2] = [
        "1bcdefghij2bcdefghij3bcdefghij4bcdefghij5bcdefghij6bcdefghijABCD",
        "2JgchWvM1tpxT2lfz9aydoXW9yT1DN3NdLiejYxOOlzzV4nhBbYqmqZYbAV3V5Bf",
    ];
    const LOCAL: Site<'static> = Site { https: false, host: "localhost:8000" };
    const PUBLIC: Site<'static> = Site { https: true, host: "chat.example.org" };

    fn sites() -> Sites {
        Sites::new(["https://chat.example.org"], true)
    }

    fn headers(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse::<HeaderValue>().unwrap())).collect()
    }

    fn token(cookie: &str, header: &str) -> Result<(), String> {
        let cookie = format!("csrftoken={cookie}");
        let headers = headers(&[(COOKIE, &cookie), (http::HeaderName::from_static(HEADER), header)]);
        check(&Method::POST, &headers, LOCAL, &sites()).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn djangos_masked_tokens_unmask_to_their_secret() {
        for masked in MASKED {
            assert_eq!(unmask(masked).unwrap(), SECRET);
            token(SECRET, masked).unwrap();
            token(masked, SECRET).unwrap();
        }
    }

    #[test]
    fn a_wrong_token_is_refused_with_djangos_reason() {
        let other = crate::app::secrets::csrf_secret();
        let header = "CSRF Failed: CSRF token from the 'X-Csrftoken' HTTP header";
        assert!(token(SECRET, &other).unwrap_err().contains(&format!("{header} incorrect.")));
        assert!(token(SECRET, "short").unwrap_err().contains(&format!("{header} has incorrect length.")));
        let odd = "!".repeat(32);
        assert!(token(SECRET, &odd).unwrap_err().contains(&format!("{header} has invalid characters.")));
        assert!(token("short", SECRET).unwrap_err().contains("CSRF cookie has incorrect length."));
        let bare = headers(&[(COOKIE, "csrftoken=lcccccccX2kcccccccY2jcccccccssIC")]);
        let missing = check(&Method::DELETE, &bare, LOCAL, &sites()).unwrap_err();
        assert!(format!("{missing:?}").contains("CSRF token missing."));
        let unset = check(&Method::POST, &HeaderMap::new(), LOCAL, &sites()).unwrap_err();
        assert!(format!("{unset:?}").contains("CSRF cookie not set."));
        check(&Method::GET, &HeaderMap::new(), LOCAL, &sites()).unwrap();
    }

    #[test]
    fn over_https_a_request_without_origin_needs_a_referer_of_ours() {
        let refused = |referer: Option<&str>| {
            let headers = referer.map_or_else(HeaderMap::new, |referer| headers(&[(REFERER, referer)]));
            format!("{:?}", check(&Method::POST, &headers, PUBLIC, &sites()).unwrap_err())
        };
        assert!(refused(None).contains("Referer checking failed - no Referer."));
        assert!(refused(Some("nonsense")).contains("Referer is malformed."));
        assert!(
            refused(Some("http://chat.example.org/")).contains("Referer is insecure while host is secure.")
        );
        assert!(
            refused(Some("https://evil.net/?chat.example.org"))
                .contains("does not match any trusted origins.")
        );
        assert!(refused(Some("https://chat.example.org/chats?x")).contains("CSRF cookie not set."));
    }

    #[test]
    fn a_foreign_origin_is_refused_before_the_token_is_looked_at() {
        let foreign = headers(&[(ORIGIN, "https://evil.net")]);
        let error = check(&Method::POST, &foreign, PUBLIC, &sites()).unwrap_err();
        let reason = "Origin checking failed - https://evil.net does not match any trusted origins.";
        assert!(format!("{error:?}").contains(reason));
    }
}
