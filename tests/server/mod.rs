//! The accept loop under clients that are slow, silent, rude or many.

mod drain;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use agent::server::{Drained, Limits, Listener, PeerAddress, Readiness, RequestId, TlsFiles, serve};
use agent::telemetry::metrics;
use agent::telemetry::tasks::Tasks;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::raw_http::RawClient;

/// Short enough for a test, long enough for a busy machine to do what is in time.
const SHORT: Duration = Duration::from_millis(500);

/// Asks a copy of this binary to be [`serves_with_few_descriptors`].
const HELPER_VARIABLE: &str = "AGENT_TEST_FEW_DESCRIPTORS";

struct TestServer {
    address: SocketAddr,
    readiness: Readiness,
    stop: CancellationToken,
    running: JoinHandle<Drained>,
}

impl TestServer {
    fn start(router: Router, limits: Limits) -> Self {
        Self::start_on(Listener::bind(([127, 0, 0, 1], 0).into()).unwrap(), router, limits)
    }

    fn start_on(listener: Listener, router: Router, limits: Limits) -> Self {
        let address = listener.address().unwrap();
        let readiness = Readiness::new("test", &[]);
        let stop = CancellationToken::new();
        let running = Tasks::new().spawn(serve(listener, router, limits, readiness.clone(), stop.clone()));
        Self { address, readiness, stop, running }
    }

    async fn client(&self) -> RawClient {
        RawClient::connect(self.address).await
    }

    /// Drains the server and returns how that went and how long it took.
    async fn drain(self) -> (Drained, Duration) {
        let started_at = Instant::now();
        self.stop.cancel();
        (self.running.await.unwrap(), started_at.elapsed())
    }
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" })).route(
        "/later",
        get(|| async {
            sleep(Duration::from_millis(50)).await;
            "hello"
        }),
    )
}

/// `POST /` answers how many bytes came.
fn count() -> Router {
    Router::new()
        .route("/", post(|body: Bytes| async move { body.len().to_string() }))
        .layer(DefaultBodyLimit::max(64 * 1024))
}

/// `GET /` answers what is sent into the channel, as it comes.
fn relay() -> (mpsc::UnboundedSender<&'static str>, Router) {
    let (sender, receiver) = mpsc::unbounded_channel::<&'static str>();
    let receiver = std::sync::Arc::new(tokio::sync::Mutex::new(Some(receiver)));
    let answer = move || async move {
        let mut receiver = receiver.lock().await.take().expect("asked once");
        let parts = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        Body::from_stream(parts.map(Ok::<_, std::convert::Infallible>))
    };
    (sender, Router::new().route("/", get(answer)))
}

#[tokio::test]
async fn a_request_after_70_idle_seconds_on_the_same_connection_is_answered() {
    let server = TestServer::start(hello(), Limits::default());
    let mut fresh = server.client().await;
    let mut used = server.client().await;
    assert_eq!(used.get("/").await.text(), "hello");
    sleep(Duration::from_secs(70)).await;
    assert_eq!(used.get("/").await.text(), "hello");
    assert_eq!(fresh.get("/").await.text(), "hello");
}

#[tokio::test]
async fn half_a_head_is_cut_10_seconds_after_its_first_byte() {
    let server = TestServer::start(hello(), Limits::default());
    let mut client = server.client().await;
    assert_eq!(client.get("/").await.status, 200);
    // The time before the first byte does not count.
    sleep(Duration::from_secs(3)).await;
    let started_at = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: loc").await;
    let (status, _) = client.head().await;
    let took = started_at.elapsed();
    assert_eq!((status, client.rest().await.len()), (408, 0));
    assert!((Duration::from_secs(9)..Duration::from_secs(15)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_head_that_trickles_gets_no_more_time() {
    let server = TestServer::start(hello(), Limits { head_timeout: SHORT, ..Limits::default() });
    let mut client = server.client().await;
    let started_at = Instant::now();
    client.send("GET / HTTP/1.1\r\n").await;
    while client.try_send("X-Slow: 1\r\n").await.is_ok() && started_at.elapsed() < 20 * SHORT {
        sleep(SHORT / 10).await;
    }
    assert!(started_at.elapsed() < 10 * SHORT);
}

#[tokio::test]
async fn an_idle_connection_is_closed_quietly_in_the_end() {
    let server = TestServer::start(hello(), Limits { idle_timeout: SHORT, ..Limits::default() });
    let mut silent = server.client().await;
    let mut used = server.client().await;
    let mut waited = server.client().await;
    assert_eq!(used.get("/").await.status, 200);
    assert_eq!(waited.get("/later").await.status, 200);
    // Line ends are no request and hold nothing open.
    silent.send("\r\n\r\n").await;
    for mut client in [silent, used, waited] {
        assert!(client.rest().await.is_empty());
    }
}

#[tokio::test]
async fn a_body_that_stops_or_trickles_is_answered_408() {
    let server = TestServer::start(count(), Limits { body_timeout: SHORT, ..Limits::default() });
    let mut stopped = server.client().await;
    stopped.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nsome").await;
    let response = stopped.response().await;
    assert_eq!((response.status, response.header("connection")), (408, Some("close")));
    stopped.rest().await;

    let mut trickling = server.client().await;
    trickling.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n").await;
    let started_at = Instant::now();
    let answered = async {
        while trickling.try_send("x").await.is_ok() {
            sleep(SHORT / 10).await
        }
    };
    let _ = timeout(4 * SHORT, answered).await;
    assert_eq!(trickling.response().await.status, 408);
    assert!(started_at.elapsed() < 20 * SHORT);
}

#[tokio::test]
async fn a_body_that_makes_progress_may_take_its_time() {
    let server = TestServer::start(count(), Limits { body_timeout: SHORT, ..Limits::default() });
    let mut client = server.client().await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 12288\r\n\r\n").await;
    for _ in 0..12 {
        sleep(SHORT / 4).await;
        client.send([b'x'; 1024]).await;
    }
    assert_eq!(client.response().await.text(), "12288");
}

#[tokio::test]
async fn a_client_that_is_still_sending_can_read_the_refusal() {
    let server = TestServer::start(count(), Limits::default());
    let mut client = server.client().await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n").await;
    // More than the buffers on the way hold: without somebody to read it, a reset would destroy the answer.
    for _ in 0..20 {
        client.send(vec![b'x'; 100_000]).await;
    }
    assert_eq!(client.response().await.status, 413);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_let_go() {
    let router = Router::new().route("/", get(|| async { vec![0_u8; 32 << 20] }));
    let server = TestServer::start(router, Limits { write_timeout: SHORT, ..Limits::default() });
    let mut client = server.client().await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.head().await;
    sleep(4 * SHORT).await;
    assert!(client.rest().await.len() < 32 << 20);
    let (drained, _) = server.drain().await;
    assert_eq!(drained.cut, 0);
}

#[tokio::test]
async fn too_many_or_too_long_headers_are_answered_431() {
    let server = TestServer::start(hello(), Limits::default());
    for (count, length) in [(101, 1), (1, 70_000)] {
        let mut client = server.client().await;
        let headers = format!("X-Many: {}\r\n", "x".repeat(length)).repeat(count);
        client.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n")).await;
        assert_eq!(client.response().await.status, 431);
        client.rest().await;
    }
    let headers = "X-Many: x\r\n".repeat(90);
    let mut client = server.client().await;
    client.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n")).await;
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let router =
        Router::new().route("/{n}", get(|axum::extract::Path(n): axum::extract::Path<String>| async { n }));
    let server = TestServer::start(router, Limits::default());
    let mut client = server.client().await;
    let requests: String = (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    client.send(requests).await;
    for n in 0..50 {
        assert_eq!(client.response().await.text(), n.to_string());
    }
}

#[tokio::test]
async fn a_panic_is_answered_500_and_the_connection_lives() {
    let router = hello().route(
        "/panic",
        get(|| async {
            if true {
                panic!("on purpose")
            }
        }),
    );
    let server = TestServer::start(router, Limits::default());
    let panics = metrics::PANICS.get();
    let mut client = server.client().await;
    let response = client.get("/panic").await;
    assert_eq!((response.status, response.text()), (500, "{\"error\":\"Server Error (500)\"}"));
    assert!(response.header("x-request-id").is_some());
    assert_eq!(client.get("/").await.text(), "hello");
    assert_eq!(metrics::PANICS.get(), panics + 1);
}

#[tokio::test]
async fn handlers_see_the_request_id_and_the_peer_address() {
    let echo = |Extension(id): Extension<RequestId>, Extension(peer): Extension<PeerAddress>| async move {
        format!("{} {}", id.as_str(), peer.0.ip())
    };
    let server = TestServer::start(Router::new().route("/", get(echo)), Limits::default());
    let mut client = server.client().await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: from-the-balancer\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.header("x-request-id"), Some("from-the-balancer"));
    assert_eq!(response.text(), "from-the-balancer 127.0.0.1");
    assert_ne!(client.get("/").await.header("x-request-id"), Some("from-the-balancer"));
}

#[tokio::test]
async fn at_the_connection_limit_further_clients_wait_their_turn() {
    let server = TestServer::start(hello(), Limits { connections_max: 1, ..Limits::default() });
    let mut first = server.client().await;
    assert_eq!(first.get("/").await.status, 200);
    let mut second = server.client().await;
    assert!(timeout(SHORT, second.get("/")).await.is_err());
    drop(first);
    assert_eq!(second.response().await.text(), "hello");
}

#[tokio::test]
async fn tls_answers_and_a_silent_handshake_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = TlsFiles { certificates: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    std::fs::write(&files.certificates, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap().with_tls(&files).unwrap();
    let limits = Limits { handshake_timeout: 2 * SHORT, handshakes_max: 1, ..Limits::default() };
    let server = TestServer::start_on(listener, hello(), limits);

    let mut silent = server.client().await;
    assert!(silent.rest().await.is_empty());

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    assert_eq!(RawClient::on(stream).get("/").await.text(), "hello");

    std::fs::write(&files.key, "nothing").unwrap();
    let error = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap().with_tls(&files).unwrap_err();
    assert!(error.to_string().contains("key.pem"), "{error}");
}

/// The server of the next test: this binary again, with room for few open files. As a test it is nothing.
#[tokio::test]
async fn serves_with_few_descriptors() {
    if std::env::var_os(HELPER_VARIABLE).is_none() {
        return;
    }
    let failed = || async { metrics::ACCEPT_FAILED.get().to_string() };
    let server = TestServer::start(Router::new().route("/", get(failed)), Limits::default());
    std::io::stdout().write_all(format!("\n{}\n", server.address).as_bytes()).unwrap();
    server.running.await.unwrap();
}

#[tokio::test]
async fn out_of_descriptors_the_loop_pauses_and_recovers() {
    let program = std::env::current_exe().unwrap();
    let mut helper = std::process::Command::new("/bin/sh")
        .args(["-c", "ulimit -n 40; exec \"$0\" --exact server::serves_with_few_descriptors --nocapture --test-threads=1"])
        .arg(program)
        .env(HELPER_VARIABLE, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(helper.stdout.take().unwrap());
    let address = stdout.lines().map_while(Result::ok).find_map(|line| line.parse().ok()).unwrap();

    let clients = join_all((0..60).map(|_| RawClient::connect(address))).await;
    sleep(2 * SHORT).await;
    drop(clients);
    let failures: u64 = RawClient::connect(address).await.get("/").await.text().parse().unwrap();
    // At most ten attempts a second, over the time from the first failure to the answer.
    assert!((1..100).contains(&failures), "{failures}");
    helper.kill().unwrap();
    helper.wait().unwrap();
}
