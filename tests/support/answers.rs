//! Streams of answers as a browser reads them, and a generator whose every word the test decides.

use std::sync::Arc;

use agent::llm::{Error, Generator, Piece, Prompt};
use axum::body::BodyDataStream;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::api::Browser;

/// What the generator says next; dropping it breaks the answer off.
pub type Pen = mpsc::UnboundedSender<Result<Piece, Error>>;

/// Returns a generator, and its answers as they are asked for.
pub fn dictated() -> (Generator, mpsc::UnboundedReceiver<(Prompt, Pen)>) {
    let (asked, answers) = mpsc::unbounded_channel();
    let generate = move |prompt: Prompt| {
        let (pen, pieces) = mpsc::unbounded_channel();
        let _ = asked.send((prompt, pen));
        stream::unfold(pieces, |mut pieces| async { Some((pieces.recv().await?, pieces)) }).boxed()
    };
    (Generator::Supplied(Arc::new(generate)), answers)
}

/// Writes text.
pub fn say(pen: &Pen, text: &str) {
    pen.send(Ok(Piece::Text(text.to_owned()))).unwrap();
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub id: u64,
    pub name: String,
    pub data: Value,
}

/// An open stream.
pub struct EventStream {
    body: BodyDataStream,
    buffer: String,
}

impl EventStream {
    /// Opens `path`, after the event `last_event_id` if there is one. Panics unless the answer is 200.
    pub async fn open(browser: &Browser, path: &str, last_event_id: Option<u64>) -> Self {
        let mut browser = browser.clone();
        if let Some(id) = last_event_id {
            browser = browser.with("last-event-id", &id.to_string());
        }
        let response = browser.open(path).await;
        assert_eq!(response.status(), StatusCode::OK);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/event-stream");
        assert_eq!(header("cache-control"), "no-cache, no-transform");
        assert_eq!(header("x-accel-buffering"), "no");
        Self { body: response.into_body().into_data_stream(), buffer: String::new() }
    }

    /// Returns the next event, `None` when the stream is over.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let event = parse(block);
                self.buffer = rest.to_owned();
                if event.is_some() {
                    return event;
                }
            }
            let bytes = self.body.next().await?.unwrap();
            self.buffer.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    /// Returns all events up to the end.
    pub async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// Reads a block of lines; comments and `retry` alone are no event.
fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = serde_json::from_str(field("data")?).unwrap();
    Some(Event { id: field("id")?.parse().unwrap(), name: field("event")?.to_owned(), data })
}

/// The text that the deltas of a stream make.
pub fn text(events: &[Event]) -> String {
    events.iter().filter(|event| event.name == "delta").map(|e| e.data["text"].as_str().unwrap()).collect()
}

/// Starts a chat and returns its path.
pub async fn chat(browser: &mut Browser) -> String {
    let chat = browser.post("/api/chats/", &json!({})).await;
    assert_eq!(chat.status, StatusCode::CREATED, "{}", chat.text());
    format!("/api/chats/{}/", chat.json()["id"].as_str().unwrap())
}

/// Asks a question; returns the paths of the answer's message and of its stream.
pub async fn ask(browser: &mut Browser, chat: &str, question: &str) -> (String, String) {
    let asked = browser.post(&format!("{chat}messages/"), &json!({ "content": question })).await;
    assert_eq!(asked.status, StatusCode::CREATED, "{}", asked.text());
    announced(chat, &asked.json())
}

/// Returns the paths of an announced answer's message and of its stream.
pub fn announced(chat: &str, asked: &Value) -> (String, String) {
    let id = asked["answer"]["id"].as_str().unwrap();
    let stream = asked["answer"]["stream_url"].as_str().unwrap();
    (format!("{chat}messages/{id}/"), stream.to_owned())
}
