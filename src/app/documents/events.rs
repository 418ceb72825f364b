//! `GET /api/documents/events/`: what becomes of a person's documents, as server-sent events.
//!
//! The stream is a view of the database, not a queue: each round reads what is unfinished or changed lately and tells
//! what differs from what was told before. A round that fails, a node that stops or an event that nobody saw costs
//! nothing but time, and it does not matter which node does the work. Changes of this node wake the stream at once,
//! those of others show within a second.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Document;
use crate::app::App;
use crate::app::error::ApiError;
use crate::app::request::Authenticated;
use crate::app::sse;
use crate::store::access::Caller;
use crate::store::documents::{self, Status};
use crate::store::ids::DocumentId;

/// How often the database is asked while nothing happens here: the other nodes' changes show that late.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Shortest time between two looks, however much happens: enough for a progress bar.
const POLL_INTERVAL_MIN: Duration = Duration::from_millis(200);

/// Changes are looked for this far back, so that one whose transaction took long is not missed.
const RECENT_SECONDS: f64 = 15.0;

/// A client that comes back is told what changed meanwhile, at most this far back.
const MISSED_SECONDS_MAX: f64 = 3600.0;

/// Documents that one stream follows at a time; of more, the newest.
const DOCUMENTS_MAX: i64 = 1000;

/// A document is announced as ready once searches on this node find it, or after this time: an index that cannot keep
/// up must not look like a document that hangs.
const INDEX_WAIT_SECONDS_MAX: f64 = 5.0;

/// A stream ends after this time. The browser comes back by itself and shows who it is again: a session that was
/// closed meanwhile sees nothing more.
const STREAM_TIME_MAX: Duration = Duration::from_secs(300);

/// Streams what becomes of the caller's documents
///
/// Server-sent events: first `snapshot` `{documents}` with those that are not finished (after a reconnect with
/// `Last-Event-ID` also those that changed meanwhile), then `document` for each change and `deleted` `{id}`. A document
/// that is announced as `ready` is found by searches on this node. The stream ends after five minutes; come back.
#[utoipa::path(
    get, path = "/api/documents/events/", tag = "documents",
    params(("Last-Event-ID" = Option<i64>, Header, description = "The last event that the client has")),
    responses((status = 200, content_type = "text/event-stream", body = String)),
)]
pub(super) async fn events(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let changes = app.ingest.changes();
    let ends_at = Instant::now() + STREAM_TIME_MAX;
    let mut watcher = Watcher { app, caller, changes, told: HashMap::new(), is_waiting: false, ends_at };
    let opening = watcher.open(last).await?;
    Ok(sse::response(Body::from_stream(relay(opening, watcher))))
}

fn relay(opening: String, watcher: Watcher) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let news = stream::unfold(watcher, |mut watcher| async move { Some((watcher.next().await?, watcher)) });
    stream::iter([sse::OPENING, Bytes::from(opening)]).chain(news).map(Ok)
}

/// One client's view of its documents.
struct Watcher {
    app: App,
    caller: Caller,
    changes: watch::Receiver<u64>,
    told: HashMap<DocumentId, Told>,
    /// A document is ready, but not yet in this node's index.
    is_waiting: bool,
    ends_at: Instant,
}

/// What was told of a document.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Told {
    updated_at: Timestamp,
    is_final: bool,
}

impl Told {
    fn of(document: &documents::Document) -> Self {
        Self { updated_at: document.updated_at, is_final: document.status.is_final() }
    }
}

impl Watcher {
    /// Returns the first events: everything unfinished, and what a client that comes back has missed.
    async fn open(&mut self, last: Option<i64>) -> Result<String, ApiError> {
        let last = last.and_then(|id| Timestamp::from_microsecond(id).ok());
        let missed = last.map(|last| (Timestamp::now() - last).total(jiff::Unit::Second).unwrap_or(0.0));
        let recent = RECENT_SECONDS + missed.unwrap_or(0.0).clamp(0.0, MISSED_SECONDS_MAX);
        let found = self.look(&[], recent).await?;
        let mut shown = Vec::new();
        for document in found {
            self.told.insert(document.id, Told::of(&document));
            if !document.status.is_final() || last.is_some_and(|last| document.updated_at > last) {
                shown.push(Document::from(document));
            }
        }
        let id = Timestamp::now().as_microsecond();
        Ok(event(id, "snapshot", &json!({ "documents": shown })))
    }

    /// Waits for news, or long enough for a heartbeat. Returns `None` when the stream ends.
    async fn next(&mut self) -> Option<Bytes> {
        let silent_until = Instant::now() + sse::HEARTBEAT_INTERVAL;
        let stopping = self.app.tasks.stopping().clone();
        while Instant::now() < silent_until {
            tokio::time::sleep(POLL_INTERVAL_MIN).await;
            let pause = if self.is_waiting { Duration::ZERO } else { POLL_INTERVAL - POLL_INTERVAL_MIN };
            tokio::select! {
                () = stopping.cancelled() => return None,
                () = tokio::time::sleep(pause) => {}
                changed = self.changes.changed() => changed.ok()?,
            }
            if Instant::now() > self.ends_at {
                return None;
            }
            // While the database is away there is no news; the client sees a heartbeat and waits on.
            if let Some(news) = self.news().await.ok().filter(|news| !news.is_empty()) {
                return Some(Bytes::from(news));
            }
        }
        Some(sse::HEARTBEAT)
    }

    async fn news(&mut self) -> Result<String, ApiError> {
        let watched: Vec<DocumentId> =
            self.told.iter().filter(|(_, told)| !told.is_final).map(|(id, _)| *id).collect();
        let found = self.look(&watched, RECENT_SECONDS).await?;
        let is_whole = i64::try_from(found.len()).is_ok_and(|count| count < DOCUMENTS_MAX);
        let id = Timestamp::now().as_microsecond();
        self.is_waiting = false;
        let mut news = String::new();
        let mut seen = HashMap::with_capacity(found.len());
        for document in found.into_iter().rev() {
            let told = Told::of(&document);
            let before = self.told.get(&document.id).copied();
            if before == Some(told) {
                seen.insert(document.id, told);
            } else if self.is_findable(&document) {
                seen.insert(document.id, told);
                news.push_str(&event(id, "document", &Document::from(document)));
            } else {
                self.is_waiting = true;
                seen.extend(before.map(|before| (document.id, before)));
            }
        }
        for document in watched.iter().filter(|document| is_whole && !seen.contains_key(document)) {
            news.push_str(&event(id, "deleted", &json!({ "id": document })));
        }
        self.told = seen;
        Ok(news)
    }

    fn is_findable(&self, document: &documents::Document) -> bool {
        let age = (Timestamp::now() - document.updated_at).total(jiff::Unit::Second).unwrap_or(0.0);
        document.status != Status::Ready
            || age > INDEX_WAIT_SECONDS_MAX
            || self.app.index.version(document.id).is_some_and(|version| version >= document.version)
    }

    async fn look(
        &self,
        watched: &[DocumentId],
        recent_seconds: f64,
    ) -> Result<Vec<documents::Document>, ApiError> {
        let client = self.app.store.primary().await?;
        Ok(documents::news(&client, &self.caller, watched, recent_seconds, DOCUMENTS_MAX).await?)
    }
}

fn event(id: i64, name: &str, data: &impl serde::Serialize) -> String {
    let data = serde_json::to_string(data).expect("a document is always JSON");
    sse::event(id, name, &data)
}
