//! What surrounds one request, whatever it asks: its id, a panic's answer, the metrics, the access line.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;
use tower::ServiceExt;

use super::phase::{Phase, Shared};
use super::request_body::RequestBody;
use super::request_id::{self, RequestId};
use super::{Limits, PeerAddress, Readiness, health};
use crate::telemetry::metrics;

/// What all requests of a connection share.
#[derive(Clone)]
pub(super) struct Exchange {
    pub router: axum::Router,
    pub readiness: Readiness,
    pub limits: Limits,
    /// `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    pub shared: Shared,
}

impl Exchange {
    /// Answers one request. Dropped before the end, as when the client goes away, it drops the handler.
    pub async fn answer(self, request: Request<Incoming>) -> Response<AnswerBody> {
        self.shared.begin_request();
        let (mut parts, body) = request.into_parts();
        let id = RequestId::of(&parts.headers);
        let mut ongoing = Ongoing::start(&parts, id.clone(), self.shared.clone());
        // Behind here the header is as good as the extension.
        parts.headers.insert(request_id::HEADER, id.header_value());
        parts.extensions.insert(id.clone());
        if let Some(peer) = self.peer {
            parts.extensions.insert(PeerAddress(peer));
        }
        let body = Body::new(RequestBody::new(body, self.shared.clone(), self.limits));

        let handler = self.router.oneshot(Request::from_parts(parts, body));
        let mut response = match AssertUnwindSafe(handler).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => answer_panic(&id),
        };
        if self.shared.is_body_late() {
            // The handler saw a body that broke off and may call that the client's mistake; the client should know.
            response =
                json(StatusCode::REQUEST_TIMEOUT, "{\"detail\":\"The request's body arrived too slowly.\"}");
        }
        let headers = response.headers_mut();
        headers.insert(request_id::HEADER, id.header_value());
        if self.shared.is_draining() || self.shared.is_body_late() || self.readiness.is_draining() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        ongoing.head_is_ready(response.status());
        response.map(|body| AnswerBody { body, ongoing })
    }
}

/// Answers as Django does when a view raises. The panic hook has logged the place; this line ties it to the request.
fn answer_panic(id: &RequestId) -> Response {
    metrics::PANICS.add(1);
    log::error!(request_id = id.as_str(); "the handler of request {} has panicked", id.as_str());
    json(StatusCode::INTERNAL_SERVER_ERROR, "{\"error\":\"Server Error (500)\"}")
}

fn json(status: StatusCode, body: &'static str) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

/// A request from its head to its answer's last byte; dropped then, or when the connection breaks.
struct Ongoing {
    method: Method,
    /// Without the query, which may hold what a user typed.
    path: String,
    id: RequestId,
    shared: Shared,
    started_at: Instant,
    status: Option<StatusCode>,
    size_bytes: usize,
    _in_flight: metrics::Held,
}

impl Ongoing {
    fn start(parts: &http::request::Parts, id: RequestId, shared: Shared) -> Self {
        Self {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            id,
            shared,
            started_at: Instant::now(),
            status: None,
            size_bytes: 0,
            _in_flight: metrics::REQUESTS_IN_FLIGHT.hold(),
        }
    }

    fn head_is_ready(&mut self, status: StatusCode) {
        self.status = Some(status);
        if !self.is_about_the_node() {
            metrics::REQUEST_DURATION.record(self.started_at.elapsed());
            metrics::REQUESTS.at(usize::from(status.as_u16() / 100).saturating_sub(1)).add(1);
        }
    }

    fn is_about_the_node(&self) -> bool {
        health::PATHS.contains(&self.path.as_str())
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.shared.set_phase(Phase::Flushing);
        if self.status.is_none() {
            metrics::REQUESTS_ABANDONED.add(1);
        }
        if self.is_about_the_node() {
            return;
        }
        // 0: the client went away before the answer's head.
        let status = self.status.map_or(0, |status| status.as_u16());
        let duration_ms = u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        log::info!(
            target: "access",
            request_id = self.id.as_str(), status = status, duration_ms = duration_ms, size_bytes = self.size_bytes;
            "{} {} {status} {duration_ms} ms {}", self.method, self.path, self.id.as_str()
        );
    }
}

/// An answer's body, whose end is the request's.
pub(super) struct AnswerBody {
    body: Body,
    ongoing: Ongoing,
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            this.ongoing.size_bytes += frame.data_ref().map_or(0, Bytes::len);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
