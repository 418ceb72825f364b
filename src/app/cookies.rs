//! The two cookies of the API, with Django's names and flags.

use std::time::Duration;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

/// Holds the session key.
pub const SESSION: &str = "sessionid";
/// Holds the CSRF secret; readable by the page's scripts, which echo it in `X-CSRFToken`.
pub const CSRF: &str = "csrftoken";

/// How long a browser keeps the CSRF secret: Django's 364 days.
const CSRF_AGE: Duration = Duration::from_secs(31_449_600);

/// Returns the value of the cookie `name`, if the request has it.
pub fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then(|| value.trim_matches('"')))
}

/// Sets the session cookie for `age`; `secure` keeps it off plain HTTP.
pub fn set_session(headers: &mut HeaderMap, key: &str, age: Duration, secure: bool) {
    set(headers, SESSION, key, age, if secure { "; HttpOnly; Secure" } else { "; HttpOnly" });
}

/// Sets the CSRF cookie; `secure` keeps it off plain HTTP.
pub fn set_csrf(headers: &mut HeaderMap, secret: &str, secure: bool) {
    set(headers, CSRF, secret, CSRF_AGE, if secure { "; Secure" } else { "" });
}

/// Tells the browser to forget the session cookie.
pub fn clear_session(headers: &mut HeaderMap) {
    set(headers, SESSION, "\"\"", Duration::ZERO, "; HttpOnly");
}

/// Appends a cookie. `value` must be made of cookie-safe ASCII.
fn set(headers: &mut HeaderMap, name: &str, value: &str, age: Duration, flags: &str) {
    let age = age.as_secs();
    let cookie = format!("{name}={value}; Path=/; Max-Age={age}; SameSite=Lax{flags}");
    headers.append(SET_COOKIE, HeaderValue::try_from(cookie).expect("our values are cookie-safe ASCII"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_and_across_headers() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; csrftoken=abc ;xsessionid=no"));
        headers.append(COOKIE, HeaderValue::from_static("sessionid=key"));
        assert_eq!(get(&headers, CSRF), Some("abc"));
        assert_eq!(get(&headers, SESSION), Some("key"));
        assert_eq!(get(&headers, "b"), None);
    }

    #[test]
    fn the_session_cookie_is_out_of_reach_of_scripts() {
        let mut headers = HeaderMap::new();
        set_session(&mut headers, "key", Duration::from_secs(60), true);
        assert_eq!(headers[SET_COOKIE], "sessionid=key; Path=/; Max-Age=60; SameSite=Lax; HttpOnly; Secure");
    }
}
