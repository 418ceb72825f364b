//! The accept loop and the drain.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::connection::{self, Service};
use super::{Late, Limits, Listener, Readiness};
use crate::telemetry::metrics;
use crate::telemetry::tasks::Tasks;

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still busy at the deadline and were cut.
    pub cut: usize,
}

/// Serves `router` on `listener` until `stop` fires, then drains and returns.
///
/// The drain closes the listener and all idle connections at once, finishes what is being answered, and after
/// [`Limits::drain_timeout`] cuts what is left. Already while `readiness` says that the node is draining, which begins
/// earlier, answers carry `Connection: close`, so that balancers take their connections elsewhere.
pub async fn serve(
    mut listener: Listener,
    router: axum::Router,
    limits: Limits,
    readiness: Readiness,
    stop: CancellationToken,
) -> Drained {
    let service = Service { router, readiness, limits };
    let connections = Tasks::new();
    let cut = CancellationToken::new();
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let handshakes = Arc::new(Semaphore::new(limits.handshakes_max));
    while let Some((stream, peer, permit)) = next(&mut listener, &permits, &stop).await {
        let (service, cut, draining) = (service.clone(), cut.clone(), connections.stopping().clone());
        let (tls, handshakes) = (listener.tls(), handshakes.clone());
        connections.spawn(async move {
            let _open = (permit, metrics::CONNECTIONS_OPEN.hold());
            let served = async {
                match tls {
                    None => connection::run(stream, Some(peer), service, &draining).await,
                    Some(tls) => {
                        if let Some(stream) = handshake(stream, &tls, &handshakes, &limits).await {
                            connection::run(stream, Some(peer), service, &draining).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = served => {}
                () = cut.cancelled() => metrics::CONNECTIONS_CUT.add(1),
            }
        });
    }
    drop(listener);
    let left = connections.stop(limits.drain_timeout).await;
    cut.cancel();
    Drained { cut: left }
}

/// Returns the next connection, or `None` when the server is to stop.
///
/// The permit comes first: at the limit, clients wait in the kernel's queue rather than with a descriptor each.
async fn next(
    listener: &mut Listener,
    permits: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let accepted = async {
        let permit = match permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                metrics::CONNECTION_LIMIT_HIT.add(1);
                permits.clone().acquire_owned().await.expect("the semaphore is never closed")
            }
        };
        let (stream, peer) = listener.accept().await;
        metrics::CONNECTIONS_ACCEPTED.add(1);
        (stream, peer, permit)
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        accepted = accepted => Some(accepted),
    }
}

/// Runs the TLS handshake within its limits; `None` where it fails.
async fn handshake(
    stream: TcpStream,
    tls: &TlsAcceptor,
    handshakes: &Semaphore,
    limits: &Limits,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let shaken = async {
        let _turn = handshakes.acquire().await.expect("the semaphore is never closed");
        tls.accept(stream).await
    };
    match timeout(limits.handshake_timeout, shaken).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            log::debug!("TLS handshake failed: {error}");
            None
        }
        Err(_) => {
            Late::Handshake.count();
            None
        }
    }
}
