//! The operations listeners: health and metrics over TCP, read-only; commands over a Unix socket.
//!
//! They run on their own thread and runtime, so that they answer while the role's own is saturated.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router, middleware};
use futures_util::future::join_all;
use http::header::CONTENT_TYPE;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::host_check::Hosts;
use super::{Limits, Listener, Readiness, health, ops_socket, serve};
use crate::telemetry::metrics;

/// Where operations are served.
#[derive(Clone, Debug)]
pub struct Options {
    /// The loopback address.
    pub listen: SocketAddr,
    /// The private address for other nodes, where they may ask.
    pub peer_listen: Option<SocketAddr>,
    /// Further names under which these listeners are known.
    pub hosts: Vec<String>,
    /// The Unix socket for commands, mode 0600.
    pub socket: Option<PathBuf>,
}

/// What can be asked of a node over its command socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Drain and exit, as at SIGTERM.
    Drain,
}

/// An address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for operations")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the kernel said.
    pub source: io::Error,
}

/// The running listeners. They end with [`Ops::stop`], else with the process.
#[derive(Debug)]
pub struct Ops {
    address: SocketAddr,
    peer_address: Option<SocketAddr>,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl Ops {
    /// Binds the addresses and starts the thread. Commands go into `commands`; while it is full, they are refused.
    ///
    /// A command socket that cannot be bound is logged and gone without.
    ///
    /// # Errors
    /// [`BindError`]: most often the port is another process's.
    pub fn start(
        options: Options,
        readiness: Readiness,
        commands: mpsc::Sender<Command>,
    ) -> Result<Self, BindError> {
        let (listener, address) = bind(options.listen)?;
        let peer = options.peer_listen.map(bind).transpose()?;
        let peer_address = peer.as_ref().map(|(_, address)| *address);
        let service = (router(readiness.clone(), Hosts::new(options.hosts)), readiness);
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let listeners = [Some(listener), peer.map(|(listener, _)| listener)];
        let run = move || -> io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(listeners, options.socket, service, commands, stopping))
        };
        let thread = thread::Builder::new().name("ops".into()).spawn(|| {
            if let Err(error) = run() {
                log::error!("the operations listeners have ended: {error}");
            }
        });
        let thread = thread.map_err(|source| BindError { address, source })?;
        Ok(Self { address, peer_address, stop, thread })
    }

    /// The loopback listener's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for other nodes.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.peer_address
    }

    /// Closes the listeners; blocks for as long as answers are in flight, at most a second.
    pub fn stop(self) {
        self.stop.cancel();
        if self.thread.join().is_err() {
            log::error!("the operations thread has panicked");
        }
    }
}

/// Binds before the thread starts, so that an address in use ends the start of the node.
fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|source| BindError { address, source })
}

/// Serves everything until `stop`.
async fn run(
    listeners: [Option<TcpListener>; 2],
    socket: Option<PathBuf>,
    (router, readiness): (Router, Readiness),
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut serving = Vec::new();
    for listener in listeners.into_iter().flatten() {
        let listener = Listener::from(tokio::net::TcpListener::from_std(listener)?);
        serving.push(serve(listener, router.clone(), limits(), readiness.clone(), stop.clone()));
    }
    let commanding = async {
        if let Some(path) = &socket {
            ops_socket::run(path, limits(), readiness.clone(), commands, &stop).await;
        }
    };
    tokio::join!(join_all(serving), commanding);
    Ok(())
}

/// Few ask here, and none may hold up the end.
fn limits() -> Limits {
    Limits { connections_max: 64, drain_timeout: Duration::from_secs(1), ..Limits::default() }
}

fn router(readiness: Readiness, hosts: Hosts) -> Router {
    let deep = {
        let readiness = readiness.clone();
        async move || Json(readiness.health())
    };
    let text = || async { ([(CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::prometheus_text()) };
    health::router(readiness)
        .route("/healthz/deep", get(deep))
        .route("/metrics", get(text))
        .layer(middleware::from_fn(move |request, next| hosts.clone().check(request, next)))
}
