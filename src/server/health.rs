//! `/livez` and `/readyz`, on the traffic port and the operations listeners alike.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CACHE_CONTROL;

use super::Readiness;

/// Paths that machines ask every few seconds, about the node rather than for anybody: neither counted nor logged.
pub(super) const PATHS: [&str; 4] = ["/livez", "/readyz", "/healthz/deep", "/metrics"];

/// Returns the two endpoints: 200 `ok`, or 503 and a line for each reason.
///
/// `/livez` answers as long as the process does. `/readyz` is what target groups ask.
pub fn router(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(|| async { answer(Ok(())) }))
        .route("/readyz", get(move || async move { answer(readiness.check()) }))
}

fn answer(state: Result<(), Vec<String>>) -> Response {
    let (status, text) = match state {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
    };
    (status, [(CACHE_CONTROL, "no-store")], text).into_response()
}
