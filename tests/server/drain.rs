//! The end of a listener: what is finished, what is closed, what is cut.

use std::time::Duration;

use agent::server::{Drained, Limits};
use agent::telemetry::tasks::Tasks;
use axum::Router;
use axum::routing::get;
use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::{SHORT, TestServer, hello, relay};

#[tokio::test]
async fn drain_finishes_a_streaming_answer() {
    let (sender, router) = relay();
    let server = TestServer::start(router, Limits::default());
    let mut client = server.client().await;
    sender.send("begun ").unwrap();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(head.0, 200);
    let address = server.address;
    let draining = Tasks::new().spawn(server.drain());
    timeout(Duration::from_secs(20), async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the listener closes");
    sender.send("and finished").unwrap();
    drop(sender);
    let rest = String::from_utf8(client.rest().await).unwrap();
    assert!(rest.contains("begun ") && rest.ends_with("and finished\r\n0\r\n\r\n"), "{rest:?}");
    assert_eq!(draining.await.unwrap().0, Drained { cut: 0 });
}

#[tokio::test]
async fn drain_cuts_nothing_of_an_answer_that_a_slow_client_still_reads() {
    const SIZE: usize = 16 << 20;
    let router = Router::new().route("/", get(|| async { vec![b'x'; SIZE] }));
    let server = TestServer::start(router, Limits::default());
    let mut client = server.client().await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.head().await;
    let draining = Tasks::new().spawn(server.drain());
    sleep(SHORT).await;
    assert_eq!(client.rest().await.len(), SIZE);
    assert_eq!(draining.await.unwrap().0.cut, 0);
}

#[tokio::test]
async fn drain_answers_a_request_of_which_only_the_first_bytes_have_come() {
    let server = TestServer::start(hello(), Limits::default());
    let mut client = server.client().await;
    assert_eq!(client.get("/").await.status, 200);
    client.send("GET / HT").await;
    sleep(SHORT).await;
    let draining = Tasks::new().spawn(server.drain());
    sleep(SHORT).await;
    client.send("TP/1.1\r\nHost: x\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!((response.text(), response.header("connection")), ("hello", Some("close")));
    assert_eq!(draining.await.unwrap().0.cut, 0);
}

#[tokio::test]
async fn drain_closes_200_idle_connections_at_once() {
    let server = TestServer::start(hello(), Limits::default());
    let mut clients = join_all((0..200).map(|_| server.client())).await;
    for client in clients.iter_mut().step_by(2) {
        assert_eq!(client.get("/").await.status, 200);
    }
    let (drained, took) = server.drain().await;
    assert_eq!(drained.cut, 0);
    assert!(took < Duration::from_secs(5), "{took:?}");
    for client in &mut clients {
        assert!(client.rest().await.is_empty());
    }
}

#[tokio::test]
async fn drain_cuts_what_outlasts_the_deadline_and_says_how_much() {
    let (sender, router) = relay();
    let server = TestServer::start(router, Limits { drain_timeout: SHORT, ..Limits::default() });
    let mut client = server.client().await;
    sender.send("begun ").unwrap();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.head().await;
    assert_eq!(server.drain().await.0, Drained { cut: 1 });
    assert!(!client.rest().await.ends_with(b"0\r\n\r\n"), "a cut answer must not look whole");
}

#[tokio::test]
async fn a_node_that_wants_no_more_traffic_still_answers_and_says_close() {
    let server = TestServer::start(hello(), Limits::default());
    let mut client = server.client().await;
    assert_eq!(client.get("/").await.header("connection"), None);
    server.readiness.drain();
    let response = client.get("/").await;
    assert_eq!((response.text(), response.header("connection")), ("hello", Some("close")));
    assert_eq!(server.client().await.get("/").await.text(), "hello");
}
