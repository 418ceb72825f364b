//! A bound socket: accepting, and what to do when that fails.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

use super::{TlsError, TlsFiles, tls};
use crate::telemetry::metrics;

/// Connections that the kernel completes ahead of us; it cuts this down to its own limit (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// The pause after a failure that the next attempt would meet again, such as too many open files.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Such failures come many at a time; one line in this time is enough.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// A socket that accepts connections, with or without TLS.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    logged_at: Option<Instant>,
}

impl Listener {
    /// Binds `address`; port 0 lets the system choose one.
    ///
    /// # Errors
    /// The address is in use or not this machine's, or the port needs a privilege.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not wait for the old connections' last packets.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket.listen(BACKLOG)?.into())
    }

    /// Answers with the certificate in `files` from now on.
    ///
    /// # Errors
    /// A file is missing, or is not what it should be.
    pub fn with_tls(self, files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self { tls: Some(tls::config(files)?), ..self })
    }

    /// Returns the bound address.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Returns what turns an accepted stream into TLS, where that is wanted.
    pub(super) fn tls(&self) -> Option<TlsAcceptor> {
        self.tls.clone().map(TlsAcceptor::from)
    }

    /// Returns the next connection, however long it takes and whatever fails meanwhile.
    ///
    /// # Cancellation
    /// No connection is lost.
    pub(super) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    // Answers are written whole; waiting for more to send only delays their end. A socket that cannot
                    // be told has been closed by its client already.
                    let _ = stream.set_nodelay(true);
                    return (stream, peer);
                }
                Err(error) if is_the_connections_own(&error) => {}
                Err(error) => self.back_off(&error).await,
            }
        }
    }

    async fn back_off(&mut self, error: &io::Error) {
        metrics::ACCEPT_FAILED.add(1);
        if self.logged_at.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            self.logged_at = Some(Instant::now());
            log::error!("cannot accept connections, trying on every {BACK_OFF:?}: {error}");
        }
        sleep(BACK_OFF).await;
    }
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self { socket, tls: None, logged_at: None }
    }
}

/// Tells a failure of the one connection from one of the machine: accept(2) reports what went wrong on a connection
/// before it was accepted.
fn is_the_connections_own(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(
            Errno::ECONNABORTED
                | Errno::ECONNRESET
                | Errno::EINTR
                | Errno::EPERM
                | Errno::EPROTO
                | Errno::ENETDOWN
                | Errno::ENETUNREACH
                | Errno::EHOSTDOWN
                | Errno::EHOSTUNREACH
                | Errno::ENOPROTOOPT
                | Errno::EOPNOTSUPP
        )
    )
}
