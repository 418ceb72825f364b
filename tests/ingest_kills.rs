//! kill -9 at any moment: what was acknowledged is settled after the restart, once.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use agent::store::cluster;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::documents::{BOUNDARY, Form};
use crate::support::node::{Node, data_folder};
use crate::support::tiny_model;

const KILLS: u32 = 20;

/// Enough work that the kill meets a node that reads, extracts, embeds, publishes or does several of these.
const UPLOADS_PER_ROUND: u32 = 5;

/// The kill comes at a random moment of this time after the first upload begins.
const KILL_WITHIN: Duration = Duration::from_millis(1500);

/// Far more than the work that is left takes, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(300);

/// A person whose requests may fail at any point.
#[derive(Default)]
struct Person {
    cookies: String,
    csrf_token: String,
}

impl Person {
    async fn register(node: SocketAddr) -> Self {
        let mut person = Self::default();
        let account = json!({ "username": "ann", "password": "blue-kettle-71" }).to_string();
        for path in ["/api/auth/register/", "/api/auth/login/"] {
            let body = account.clone().into();
            let answer = person.send(node, Method::POST, path, "application/json", body).await.unwrap();
            assert!(answer.0.is_success(), "{path}: {}", answer.0);
            person.keep_cookies(&answer.1);
        }
        person
    }

    fn keep_cookies(&mut self, headers: &HeaderMap) {
        for cookie in headers.get_all(SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            self.cookies = format!("{}{pair}; ", self.cookies);
            if let Some(token) = pair.strip_prefix("csrftoken=") {
                token.clone_into(&mut self.csrf_token);
            }
        }
    }

    /// Returns status, headers and body, or nothing if the node went away before the answer was whole.
    async fn send(
        &self,
        node: SocketAddr,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Option<(StatusCode, HeaderMap, Bytes)> {
        let stream = TcpStream::connect(node).await.ok()?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, node.to_string())
            .header(CONTENT_TYPE, content_type)
            .header(COOKIE, self.cookies.trim_end_matches("; "))
            .header("x-csrftoken", &self.csrf_token)
            .body(Full::new(body))
            .unwrap();
        let exchange = async {
            let (head, body) = sender.send_request(request).await.ok()?.into_parts();
            Some((head.status, head.headers, body.collect().await.ok()?.to_bytes()))
        };
        tokio::select! {
            biased;
            answer = exchange => answer,
            _ = connection => None,
        }
    }

    /// Uploads a file. Returns the id if the node said that it has it.
    async fn upload(&self, node: SocketAddr, text: &str) -> Option<String> {
        let form = Form::default().file("file", "report.md", text.as_bytes()).finish();
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        let (status, _, body) =
            self.send(node, Method::POST, "/api/documents/", &content_type, form.into()).await?;
        assert_eq!(status, StatusCode::ACCEPTED, "{}", String::from_utf8_lossy(&body));
        let document: Value = serde_json::from_slice(&body).unwrap();
        Some(document["id"].as_str().unwrap().to_owned())
    }

    async fn status_of(&self, node: SocketAddr, id: &str) -> Value {
        let path = format!("/api/documents/{id}/");
        let (status, _, body) =
            self.send(node, Method::GET, &path, "application/json", Bytes::new()).await.unwrap();
        assert_eq!(status, StatusCode::OK, "an acknowledged document is gone");
        serde_json::from_slice(&body).unwrap()
    }
}

fn report(round: u32, upload: u32) -> String {
    let sentences =
        (0..200 * (1 + upload)).map(|i| format!("Pump {i} of report {round}-{upload} runs well. "));
    format!("# Report {round}-{upload}\n\n{}", sentences.collect::<String>())
}

fn start(folder: &Path, model: &str) -> Node {
    let settings =
        [("throttle.enabled", "false"), ("ingest.lease", "3s"), ("model.dir", model), ("log_level", "error")];
    tokio::task::block_in_place(|| Node::start(folder, &settings))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_upload_is_settled_after_twenty_kills_and_no_passage_is_there_twice() {
    let folder = data_folder();
    // A model whose passages are so short that each report has hundreds.
    let model = tempfile::tempdir().unwrap();
    tiny_model::write(model.path());
    let model = model.path().to_str().unwrap();
    let mut accepted = Vec::new();
    let mut person = None;
    for round in 0..KILLS {
        let mut node = start(folder.path(), model);
        if person.is_none() {
            person = Some(Person::register(node.address).await);
        }
        let (person, address) = (person.as_ref().unwrap(), node.address);
        let uploads = async {
            for upload in 0..UPLOADS_PER_ROUND {
                let Some(id) = person.upload(address, &report(round, upload)).await else { return };
                accepted.push(id);
            }
        };
        let kill = async {
            tokio::time::sleep(KILL_WITHIN.mul_f64(rand::random())).await;
            node.signal(Signal::SIGKILL);
        };
        tokio::join!(uploads, kill);
        node.wait();
    }

    let node = start(folder.path(), model);
    let person = person.unwrap();
    assert!(accepted.len() >= KILLS as usize, "only {} uploads were acknowledged", accepted.len());
    let mut ready = 0;
    let settle = async {
        for id in &accepted {
            loop {
                let document = person.status_of(node.address, id).await;
                match document["status"].as_str().unwrap() {
                    "ready" => break ready += 1,
                    // It was met by the kill in every attempt.
                    "failed" => break assert_eq!(document["reason"], "crashed"),
                    _ => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, settle).await.expect("everything is settled");
    assert!(ready * 10 >= accepted.len() * 8, "only {ready} of {} are ready", accepted.len());
    check_tables(folder.path()).await;
    assert_eq!(tokio::task::block_in_place(|| node.stop()), Some(0));
}

/// Nothing is in the tables that no document shows, or twice.
async fn check_tables(data_dir: &Path) {
    let url = cluster::url_in_use(data_dir).expect("the node runs its private Postgres");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let checks = async {
        for (what, sql) in [
            (
                "passages of no published version",
                "select count(*) from chunks c join documents d on d.id = c.document_id where c.version <> d.version",
            ),
            (
                "passages that are there twice",
                "select count(*) - count(distinct (document_id, span_start)) from chunks",
            ),
            (
                "passages that are missing or too many",
                "select count(*) from documents d where d.chunk_count <> (select count(*) from chunks where document_id = d.id)",
            ),
            ("passages without a vector", "select count(*) from chunks where embedding is null"),
            (
                "documents that nobody works on",
                "select count(*) from documents d where d.status not in ('ready', 'failed')
              and not exists (select from jobs where document_id = d.id)",
            ),
        ] {
            let row = client.query_one(sql, &[]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0), 0, "{what}");
        }
    };
    tokio::select! {
        () = checks => {}
        _ = connection => panic!("the database went away"),
    }
}
