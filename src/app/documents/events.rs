//! `GET /api/documents/events/`: what becomes of a person's documents, as server-sent events.
//!
//! The stream is a view of the database, not a queue: each round reads what is unfinished or changed lately and tells
//! what differs from what was told before. A round that fails, a node that stops or an event that nobody saw costs
//! nothing but time, and it does not matter which node does the work. Changes of this node wake the stream at once,
//! those of others show within a second.

use std::collections::{HashMap, HashSet};
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
use crate::app::request::{Authenticated, Credential};
use crate::app::sse;
use crate::store::access::Caller;
use crate::store::documents::{self, Status};
use crate::store::ids::DocumentId;

/// How often the database is asked while nothing happens here: the other nodes' changes show that late.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Shortest time between two looks, however much happens: enough for a progress bar. What happens may be of others'
/// documents: after a look that it caused for nothing the next one waits for [`POLL_INTERVAL`], so that one person's
/// ingestion does not make everybody's pages ask the database five times a second.
const POLL_INTERVAL_MIN: Duration = Duration::from_millis(200);

/// How often is asked which finished documents still exist, and whether the client may still see them: nothing else
/// tells that a document, a token or a session was deleted.
const DELETION_INTERVAL: Duration = Duration::from_secs(5);

/// Changes are looked for this far back, so that one whose transaction took long is not missed.
const RECENT_SECONDS: f64 = 15.0;

/// A client that comes back is told what changed meanwhile, at most this far back.
const MISSED_SECONDS_MAX: f64 = 3600.0;

/// Documents that one stream follows at a time; of more, the newest.
const DOCUMENTS_MAX: i64 = 1000;

/// A document is announced as ready once searches on this node find it, or after this time: an index that cannot keep
/// up must not look like a document that hangs.
const INDEX_WAIT_MAX: Duration = Duration::from_secs(5);

/// A stream ends after this time; the browser comes back by itself, perhaps to a node that has less to do.
const STREAM_TIME_MAX: Duration = Duration::from_secs(300);

/// Streams what becomes of the caller's documents
///
/// Server-sent events: first `snapshot` `{documents}` with those that are not finished (after a reconnect with
/// `Last-Event-ID` also those that changed meanwhile), then `document` for each change and `deleted` `{id}`. A document
/// that is announced as `ready` is found by searches on this node, unless its index is more than five seconds behind. The
/// stream ends after five minutes; come back. It ends within five seconds of its token's or session's end.
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
    let mut watcher = Watcher::new(app, caller, Credential::of(&headers)?);
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
    credential: Credential,
    credential_checked_at: Instant,
    changes: watch::Receiver<u64>,
    /// What was told of the documents that are unfinished or changed lately.
    told: HashMap<DocumentId, Told>,
    /// Documents that are ready, but not in this node's index, since they were seen first.
    waiting: HashMap<DocumentId, Instant>,
    /// What the client may show, to tell it what is gone.
    known: HashSet<DocumentId>,
    known_checked_at: Instant,
    /// How long nothing is looked at after the last look.
    rest: Duration,
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
    fn new(app: App, caller: Caller, credential: Credential) -> Self {
        Self {
            changes: app.ingest.changes(),
            app,
            caller,
            credential,
            credential_checked_at: Instant::now(),
            told: HashMap::new(),
            waiting: HashMap::new(),
            known: HashSet::new(),
            known_checked_at: Instant::now(),
            rest: POLL_INTERVAL_MIN,
            ends_at: Instant::now() + STREAM_TIME_MAX,
        }
    }

    /// Returns the first event: everything unfinished, and what a client that comes back has missed.
    async fn open(&mut self, last: Option<i64>) -> Result<String, ApiError> {
        let last = last.and_then(|id| Timestamp::from_microsecond(id).ok());
        let missed = last.map(|last| (Timestamp::now() - last).total(jiff::Unit::Second).unwrap_or(0.0));
        let recent = RECENT_SECONDS + missed.unwrap_or(0.0).clamp(0.0, MISSED_SECONDS_MAX);
        let found = self.look(&[], recent).await?;
        let client = self.app.store.primary().await?;
        self.known = documents::newest(&client, &self.caller, DOCUMENTS_MAX).await?.into_iter().collect();
        drop(client);
        let mut shown = Vec::new();
        for document in found {
            if let Some(since) = self.waits_since(&document) {
                self.waiting.insert(document.id, since);
                continue;
            }
            self.told.insert(document.id, Told::of(&document));
            // Some of these the client has seen already: an event's id says when its change was seen, the change itself
            // has the time of its statement, and what lies between the two must not be lost.
            if last.is_some() || !document.status.is_final() {
                shown.push(Document::from(document));
            }
        }
        Ok(event(now(), "snapshot", &json!({ "documents": shown })))
    }

    /// Waits for news, or long enough for a heartbeat. Returns `None` when the stream ends.
    async fn next(&mut self) -> Option<Bytes> {
        let silent_until = Instant::now() + sse::HEARTBEAT_INTERVAL;
        while Instant::now() < silent_until {
            let was_woken = self.wait().await?;
            if Instant::now() > self.ends_at || self.is_locked_out().await {
                return None;
            }
            // While the database is away there is no news; the client sees a heartbeat and waits on.
            let news = self.news().await.unwrap_or_default();
            let was_for_others = was_woken && news.is_empty() && self.waiting.is_empty();
            self.rest = if was_for_others { POLL_INTERVAL } else { POLL_INTERVAL_MIN };
            if !news.is_empty() {
                return Some(Bytes::from(news));
            }
        }
        Some(sse::HEARTBEAT)
    }

    /// Waits until it is time to look again. Returns whether that is because something changed on this node; `None` when
    /// the node stops.
    async fn wait(&mut self) -> Option<bool> {
        let stopping = self.app.tasks.stopping().clone();
        let longest = if self.waiting.is_empty() { POLL_INTERVAL } else { POLL_INTERVAL_MIN };
        let wait = async {
            tokio::time::sleep(self.rest).await;
            tokio::select! {
                biased;
                changed = self.changes.changed() => changed.ok().map(|()| true),
                () = tokio::time::sleep(longest.saturating_sub(self.rest)) => Some(false),
            }
        };
        tokio::select! {
            () = stopping.cancelled() => None,
            woken = wait => woken,
        }
    }

    /// Returns whether the client's token or session is known to be worth nothing any more.
    async fn is_locked_out(&mut self) -> bool {
        if self.credential_checked_at.elapsed() < DELETION_INTERVAL {
            return false;
        }
        // A database that cannot be asked has no news to tell either.
        let Ok(is_valid) = self.credential.is_valid(&self.app).await else { return false };
        self.credential_checked_at = Instant::now();
        !is_valid
    }

    async fn news(&mut self) -> Result<String, ApiError> {
        let unfinished = self.told.iter().filter(|(_, told)| !told.is_final).map(|(id, _)| id);
        let watched: Vec<DocumentId> = unfinished.chain(self.waiting.keys()).copied().collect();
        let found = self.look(&watched, RECENT_SECONDS).await?;
        let is_whole = i64::try_from(found.len()).is_ok_and(|count| count < DOCUMENTS_MAX);
        let mut gone = self.gone().await?;
        if is_whole {
            let found: HashSet<DocumentId> = found.iter().map(|document| document.id).collect();
            gone.extend(watched.iter().filter(|id| !found.contains(*id)));
        }
        let id = now();
        let mut news = String::new();
        let mut told_now = HashMap::with_capacity(found.len());
        let mut waiting_now = HashMap::new();
        for document in found.into_iter().rev().filter(|document| !gone.contains(&document.id)) {
            let told = Told::of(&document);
            let before = self.told.get(&document.id).copied();
            if before == Some(told) {
                told_now.insert(document.id, told);
            } else if let Some(since) = self.waits_since(&document) {
                waiting_now.insert(document.id, since);
                told_now.extend(before.map(|before| (document.id, before)));
            } else {
                told_now.insert(document.id, told);
                self.known.insert(document.id);
                news.push_str(&event(id, "document", &Document::from(document)));
            }
        }
        for document in gone {
            self.known.remove(&document);
            news.push_str(&event(id, "deleted", &json!({ "id": document })));
        }
        (self.told, self.waiting) = (told_now, waiting_now);
        Ok(news)
    }

    /// Returns since when a document that is ready waits for this node's index; `None` if it need not wait any more.
    fn waits_since(&self, document: &documents::Document) -> Option<Instant> {
        if document.status != Status::Ready
            || self.app.index.version(document.id).is_some_and(|version| version >= document.version)
        {
            return None;
        }
        let since = self.waiting.get(&document.id).copied().unwrap_or_else(Instant::now);
        (since.elapsed() < INDEX_WAIT_MAX).then_some(since)
    }

    /// Returns which of the known documents do not exist for the caller any more, if it is time to look for them.
    async fn gone(&mut self) -> Result<HashSet<DocumentId>, ApiError> {
        if self.known_checked_at.elapsed() < DELETION_INTERVAL {
            return Ok(HashSet::new());
        }
        let mut gone = self.known.clone();
        let known: Vec<DocumentId> = self.known.iter().copied().collect();
        let client = self.app.store.primary().await?;
        for existing in documents::existing(&client, &self.caller, &known).await? {
            gone.remove(&existing);
        }
        self.known_checked_at = Instant::now();
        Ok(gone)
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

/// The id of an event that is told now: the microseconds since 1970.
fn now() -> i64 {
    Timestamp::now().as_microsecond()
}
