//! The operations listeners: what they tell, to whom, and who may command.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use agent::server::Readiness;
use agent::server::ops::{Command, Ops, Options};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::support::raw_http::{RawClient, RawResponse};

/// Tells [`asks_the_command_socket`] where the socket is.
const HELPER_VARIABLE: &str = "AGENT_TEST_COMMAND_SOCKET";

struct TestOps {
    ops: Ops,
    readiness: Readiness,
    commands: mpsc::Receiver<Command>,
    dir: tempfile::TempDir,
}

impl TestOps {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let any_port: SocketAddr = ([127, 0, 0, 1], 0).into();
        let options = Options {
            listen: any_port,
            peer_listen: Some(any_port),
            hosts: vec!["node-1.internal".into()],
            socket: Some(dir.path().join("ops.sock")),
        };
        let readiness = Readiness::new("app", &["index"]);
        let (sender, commands) = mpsc::channel(1);
        let ops = Ops::start(options, readiness.clone(), sender).unwrap();
        Self { ops, readiness, commands, dir }
    }

    async fn get(&self, path: &str) -> RawResponse {
        RawClient::connect(self.ops.address()).await.get(path).await
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("ops.sock")
    }
}

async fn command(socket: &Path, request_line: &str) -> RawResponse {
    // The thread binds the socket after it has started.
    let stream = loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    };
    let mut client = RawClient::on(stream);
    client.send(format!("{request_line} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    client.response().await
}

#[tokio::test]
async fn readiness_says_why_not() {
    let test = TestOps::start();
    assert_eq!(test.get("/livez").await.text(), "ok\n");
    let response = test.get("/readyz").await;
    assert_eq!((response.status, response.text()), (503, "starting index\n"));
    test.readiness.started("index");
    assert_eq!(test.get("/readyz").await.status, 200);
    test.readiness.drain();
    assert_eq!(test.get("/readyz").await.text(), "draining\n");
    assert_eq!(test.get("/livez").await.status, 200);
}

#[tokio::test]
async fn the_deep_check_reports_parts_with_status_200() {
    let test = TestOps::start();
    test.readiness.report("database", "unreachable for 3 s");
    let response = test.get("/healthz/deep").await;
    assert_eq!(response.status, 200);
    let health: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    let expected = serde_json::json!({
        "role": "app", "ready": false, "reasons": ["starting index"], "parts": {"database": "unreachable for 3 s"}
    });
    assert_eq!(health, expected);
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let test = TestOps::start();
    let response = test.get("/metrics").await;
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4"));
    assert!(response.text().contains("# TYPE agent_requests_total counter\n"));
    assert!(response.text().contains("agent_connections_open "));
}

#[tokio::test]
async fn a_request_under_a_strange_name_is_refused_on_both_listeners() {
    let test = TestOps::start();
    for address in [test.ops.address(), test.ops.peer_address().unwrap()] {
        let hosts = [
            ("rebound.example", 421),
            ("node-1.internal:9600", 200),
            ("localhost", 200),
            ("localhost\r\nHost: rebound.example", 400),
        ];
        for (host, status) in hosts {
            let mut client = RawClient::connect(address).await;
            client.send(format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!(client.response().await.status, status, "{host}");
        }
    }
}

#[tokio::test]
async fn nothing_can_be_changed_over_tcp() {
    let test = TestOps::start();
    for path in ["/drain", "/status", "/readyz"] {
        let mut client = RawClient::connect(test.ops.address()).await;
        client.send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")).await;
        assert!([404, 405].contains(&client.response().await.status), "{path}");
    }
}

#[tokio::test]
async fn commands_go_over_a_socket_of_our_own() {
    let mut test = TestOps::start();
    let status = command(&test.socket(), "GET /status").await;
    assert!(status.text().contains("\"starting index\""));
    assert_eq!(std::fs::metadata(test.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(command(&test.socket(), "POST /drain").await.status, 202);
    assert_eq!(test.commands.recv().await, Some(Command::Drain));
    let socket = test.socket();
    test.ops.stop();
    assert!(!socket.exists());
}

/// The child of the next test: this binary again. As a test it is nothing.
#[tokio::test]
async fn asks_the_command_socket() {
    let Some(socket) = std::env::var_os(HELPER_VARIABLE) else { return };
    let mut client = RawClient::on(UnixStream::connect(socket).await.unwrap());
    let _ = client.try_send("GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(client.rest().await.is_empty(), "a child was answered");
}

#[tokio::test]
async fn a_child_of_the_agent_is_refused() {
    let test = TestOps::start();
    assert_eq!(command(&test.socket(), "GET /status").await.status, 200);
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ops::asks_the_command_socket", "--test-threads=1"])
        .env(HELPER_VARIABLE, test.socket())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it() {
    let test = TestOps::start();
    let options = Options { listen: test.ops.address(), peer_listen: None, hosts: vec![], socket: None };
    let error = Ops::start(options, Readiness::new("app", &[]), mpsc::channel(1).0).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {} for operations", test.ops.address()));
}
