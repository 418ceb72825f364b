//! What holds for every request of the API, around its handler: the host allow-list, the media types on offer,
//! Django's security headers, and the one log line of a failure.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::App;
use super::error::{ApiError, Failure};
use crate::server::host_check::names_one_host;

/// JSON runs nothing and loads nothing; endpoints that answer something else set their own policy.
const JSON_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// Ends of the paths that answer something other than JSON, and so decide for themselves what is acceptable.
const NOT_JSON: [&str; 5] = ["/stream/", "/events/", "/content/", "/text/", "/docs/"];

/// The outermost layer of the API.
pub async fn edge(State(app): State<App>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let uri = request.uri().clone();
    let request_id = request.headers().get("x-request-id").cloned();
    let mut response = match admit(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    if let Some(Failure(cause)) = response.extensions_mut().remove() {
        log_failure(&response, &method, uri.path(), request_id.as_ref(), &cause);
    }
    secure(response.headers_mut());
    response
}

fn admit(app: &App, request: &Request) -> Result<(), ApiError> {
    if !names_one_host(request.headers(), request.uri()) || app.sites.of(request.headers()).is_none() {
        return Err(ApiError::bad_request());
    }
    let path = request.uri().path();
    if !accepts_json(request.headers()) && !NOT_JSON.iter().any(|end| path.ends_with(end)) {
        return Err(ApiError::not_acceptable());
    }
    Ok(())
}

fn accepts_json(headers: &HeaderMap) -> bool {
    let Some(accept) = headers.get(ACCEPT) else {
        return true;
    };
    let Ok(accept) = accept.to_str() else {
        return false;
    };
    let mut offers = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
    accept.trim().is_empty()
        || offers.any(|range| matches!(range, "*/*" | "application/*" | "application/json"))
}

/// Django's headers of `SecurityMiddleware` and `XFrameOptionsMiddleware`, and a policy for JSON.
fn secure(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(JSON_POLICY);
    // Everything here depends on who asks; a cache in between must not hand it to somebody else.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    headers.entry(VARY).or_insert(HeaderValue::from_static("Accept, Authorization, Cookie"));
}

fn log_failure(
    response: &Response,
    method: &Method,
    path: &str,
    request_id: Option<&HeaderValue>,
    cause: &str,
) {
    let status = response.status().as_u16();
    let request_id = request_id.and_then(|id| id.to_str().ok()).unwrap_or("-");
    // 500 is a defect that someone must look at; 503 and 507 are the world's doing and pass.
    let level = if status == 500 { log::Level::Error } else { log::Level::Warn };
    log::log!(
        level, request_id, status, path;
        "cannot answer {method} {path} with more than {status} (request {request_id}): {cause}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_acceptable_where_a_range_covers_it() {
        let accepts = |text: &str| accepts_json(&HeaderMap::from_iter([(ACCEPT, text.parse().unwrap())]));
        assert!(accepts("text/html, application/xhtml+xml, */*;q=0.8"));
        assert!(accepts("application/json; charset=utf-8"));
        assert!(accepts(""));
        assert!(accepts_json(&HeaderMap::new()));
        assert!(!accepts("text/html"));
        assert!(!accepts("application/xml"));
    }
}
