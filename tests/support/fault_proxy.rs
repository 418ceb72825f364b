//! A wire between the store and Postgres that can be cut, silenced, and wrapped in TLS.
//!
//! Outages are made here and not by mocking the driver: what is tested is what the driver does when the network fails.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use agent::telemetry::tasks::Tasks;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// What the wire does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Forward,
    /// Connections are closed, and new ones as soon as they are accepted.
    Cut,
    /// Connections stay open and nothing passes: a host that vanished.
    Silent,
}

/// A TCP listener on loopback that forwards to a Postgres on a Unix socket.
pub struct FaultProxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    tasks: Tasks,
    target: tokio_postgres::Config,
}

impl FaultProxy {
    /// Starts a proxy in front of the database at `url`.
    pub async fn new(url: &str) -> Self {
        Self::start(url, None).await
    }

    /// Starts a proxy that speaks TLS to its clients, as a Postgres with `ssl = on` does.
    pub async fn with_tls(url: &str, tls: TlsAcceptor) -> Self {
        Self::start(url, Some(tls)).await
    }

    async fn start(url: &str, tls: Option<TlsAcceptor>) -> Self {
        let target: tokio_postgres::Config = url.parse().unwrap();
        let [tokio_postgres::config::Host::Unix(directory)] = target.get_hosts() else {
            panic!("the test database is on a Unix socket");
        };
        let port = target.get_ports().first().copied().unwrap_or(5432);
        let socket = Arc::new(directory.join(format!(".s.PGSQL.{port}")));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = watch::channel(Mode::Forward);
        let tasks = Tasks::new();
        let connections = tasks.clone();
        tasks.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(forward(client, Arc::clone(&socket), tls.clone(), modes.clone()));
            }
        });
        Self { address, mode, tasks, target }
    }

    /// Returns a connection string that goes through the proxy, naming it `host`.
    pub fn url_of(&self, host: &str) -> String {
        format!(
            "host={host} port={} user={} dbname={}",
            self.address.port(),
            self.target.get_user().unwrap(),
            self.target.get_dbname().unwrap()
        )
    }

    /// Returns a connection string that goes through the proxy.
    pub fn url(&self) -> String {
        self.url_of("127.0.0.1")
    }

    /// Closes every connection, and new ones at once.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Lets nothing pass any more, without closing anything.
    pub fn silence(&self) {
        self.mode.send_replace(Mode::Silent);
    }

    /// Forwards again; connections that were silenced stay lost, as after a host came back.
    pub fn restore(&self) {
        self.mode.send_replace(Mode::Forward);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.tasks.stopping().cancel();
    }
}

async fn forward(
    mut client: TcpStream,
    socket: Arc<PathBuf>,
    tls: Option<TlsAcceptor>,
    modes: watch::Receiver<Mode>,
) {
    if *modes.borrow() == Mode::Cut {
        return;
    }
    let server = UnixStream::connect(&*socket).await.unwrap();
    let Some(tls) = tls else {
        return pump(client, server, modes).await;
    };
    // SSLRequest: length 8 and a magic number; the answer is one byte.
    let mut request = [0; 8];
    if client.read_exact(&mut request).await.is_err() || client.write_all(b"S").await.is_err() {
        return;
    }
    if let Ok(client) = tls.accept(client).await {
        pump(client, server, modes).await;
    }
}

async fn pump<S>(mut client: S, mut server: UnixStream, mut modes: watch::Receiver<Mode>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let silenced = tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => false,
        mode = modes.wait_for(|mode| *mode != Mode::Forward) => mode.is_ok_and(|mode| *mode == Mode::Silent),
    };
    if silenced {
        // Held open until the test ends or cuts the wire.
        let _ = modes.wait_for(|mode| *mode == Mode::Cut).await;
    }
}
