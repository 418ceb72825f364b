//! Uploading documents and waiting for what becomes of them.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Method;
use serde_json::Value;
use tokio::sync::oneshot;

use super::api::{Answer, Browser, TestApi};

/// Far more than any document takes; a megabyte with vectors takes half a minute on two idle cores.
const SETTLED_WITHIN: Duration = Duration::from_secs(300);

/// Separates the fields of a form.
pub const BOUNDARY: &str = "----a-test-boundary";

/// A form that is sent as `multipart/form-data`.
#[derive(Default)]
pub struct Form(Vec<u8>);

impl Form {
    /// Adds a text field.
    pub fn text(mut self, name: &str, value: &str) -> Self {
        let head =
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        self.0.extend_from_slice(head.as_bytes());
        self
    }

    /// Adds a file field.
    pub fn file(mut self, name: &str, file_name: &str, content: &[u8]) -> Self {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"\r\n\
             Content-Type: text/plain\r\n\r\n"
        );
        self.0.extend_from_slice(head.as_bytes());
        self.0.extend_from_slice(content);
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// Returns the body without its end.
    pub fn unfinished(self) -> Vec<u8> {
        self.0
    }

    /// Returns the whole body.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        self.0
    }
}

/// Returns a form that stops after its start, what says that it was begun to be read, and what lets it go on.
pub fn slow_form(content: &[u8]) -> (Body, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let mut form = Bytes::from(Form::default().file("file", "a.txt", content).finish());
    let start = form.split_to(10);
    let (started, has_started) = oneshot::channel();
    let (finish, may_finish) = oneshot::channel::<()>();
    let start = async move {
        started.send(()).unwrap();
        Ok::<_, std::io::Error>(start)
    };
    let rest = async move {
        may_finish.await.unwrap();
        Ok(form)
    };
    (Body::from_stream(stream::once(start).chain(stream::once(rest))), has_started, finish)
}

/// Sends a form's body to `/api/documents/`.
pub async fn submit(browser: &mut Browser, body: impl Into<Body>) -> Answer {
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    browser.send(Method::POST, "/api/documents/", body.into(), Some(&content_type)).await
}

/// Uploads a file.
pub async fn upload(browser: &mut Browser, file_name: &str, content: &[u8]) -> Answer {
    submit(browser, Form::default().file("file", file_name, content).finish()).await
}

/// Uploads a file that must be accepted. Returns the document's id.
pub async fn accepted(browser: &mut Browser, file_name: &str, content: &[u8]) -> String {
    let answer = upload(browser, file_name, content).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// Waits until a document is `ready` or `failed`. Returns it as the API shows it.
pub async fn settled(api: &TestApi, browser: &mut Browser, id: &str) -> Value {
    let mut changes = api.app.ingest.changes();
    let wait = async {
        loop {
            changes.mark_unchanged();
            let document = browser.get(&format!("/api/documents/{id}/")).await.json();
            if document["status"] == "ready" || document["status"] == "failed" {
                return document;
            }
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(SETTLED_WITHIN, wait).await.expect("every document is settled")
}
