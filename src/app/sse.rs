//! Server-sent events: what every stream of them has in common.

use std::fmt::Display;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};

/// Longest silence on a stream: well below the 60 s after which balancers close.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);

/// A sign of life, which clients pass over.
pub(super) const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// What a stream starts with: tells browsers to come back a second after it broke off.
pub(super) const OPENING: Bytes = Bytes::from_static(b"retry: 1000\n\n");

/// Writes an event as it goes over the wire.
///
/// * `data`: one line, as JSON always is.
pub(super) fn event(id: impl Display, name: &str, data: &str) -> String {
    format!("id: {id}\nevent: {name}\ndata: {data}\n\n")
}

/// A response of server-sent events that no proxy holds back or changes.
pub(super) fn response(events: Body) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, events).into_response()
}
