//! One connection: hyper over a timed socket, until either side is done or the drain closes it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::exchange::Exchange;
use super::phase::{Phase, Shared};
use super::timed::Timed;
use super::{Limits, Readiness};

/// What all connections of a listener share.
#[derive(Clone)]
pub(super) struct Service {
    pub router: axum::Router,
    pub readiness: Readiness,
    pub limits: Limits,
}

/// Serves HTTP on `socket` until it ends. Once `draining` fires, it ends after the request that is in progress, of
/// which only the first byte need have arrived; at once if there is none.
pub(super) async fn run(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    peer: Option<SocketAddr>,
    service: Service,
    draining: &CancellationToken,
) {
    let Service { router, readiness, limits } = service;
    let shared = Shared::default();
    let socket = TokioIo::new(Timed::new(socket, shared.clone(), limits));
    let exchange = Exchange { router, readiness, limits, peer, shared: shared.clone() };
    let answer = service_fn(move |request| {
        let exchange = exchange.clone();
        async move { Ok::<_, Infallible>(exchange.answer(request).await) }
    });
    // No hyper timer: see `timed`. No `pipeline_flush`: it lets answers pile up in memory for a client that does not
    // read them.
    let connection = http1::Builder::new()
        .max_header_size(limits.head_bytes_max)
        .max_buf_size(limits.head_bytes_max)
        .header_read_timeout(None)
        .serve_connection(socket, answer);
    let mut connection = pin!(connection);
    let mut drained = pin!(draining.cancelled());
    let mut is_closing = false;
    let ended = poll_fn(|cx| {
        if !shared.is_draining() && drained.as_mut().poll(cx).is_ready() {
            shared.drain();
        }
        loop {
            // First, so that a request that has arrived already is answered rather than closed upon.
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            // hyper does not always read again when it becomes idle, and the socket's idle timer starts with a read.
            if shared.has_become_idle() {
                continue;
            }
            // Asked while a head is arriving, hyper would throw it away and close.
            if !shared.is_draining() || is_closing || shared.phase() == Phase::Head {
                return Poll::Pending;
            }
            is_closing = true;
            connection.as_mut().graceful_shutdown();
        }
    });
    if let Err(error) = ended.await {
        // Clients go away at every moment; that is no event.
        log::trace!("connection broke: {error}");
    }
}
