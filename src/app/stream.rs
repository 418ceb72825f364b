//! `GET /api/chats/{chat}/messages/{id}/stream/`: an answer as server-sent events, from any event on, on any node.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::answers::Failure;
use super::answers::live::{Reader, frame};
use super::error::ApiError;
use super::messages::{Message, is_streaming};
use super::request::{Authenticated, Id};
use super::sse;
use crate::store::ids::{ChatId, MessageId};
use crate::store::journal::{self, Event};
use crate::store::messages;
use crate::telemetry::metrics;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(stream))
}

/// Streams an answer as it is written
///
/// Server-sent events with ascending integer ids: `meta`, then `delta` `{text}`, `citation` `{n, document, title,
/// chunk, page, span}` and `usage` in the order in which they happen, then exactly one of `done` `{message,
/// finish_reason}` and `error` `{code, detail, retryable}`. A `meta` starts the text anew. `Last-Event-ID` resumes after
/// that event; 204 says that it was the last one. A stream that breaks off without a terminal event goes on when it is
/// asked for again.
#[utoipa::path(
    get, path = "/api/chats/{chat}/messages/{id}/stream/", tag = "chats",
    params(
        ("chat" = ChatId, Path), ("id" = MessageId, Path),
        ("Last-Event-ID" = Option<i32>, Header, description = "The last event that the client has"),
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 204, description = "The client has the whole stream"),
    ),
)]
async fn stream(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id((chat, id)): Id<(ChatId, MessageId)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = last_event_id(&headers);
    let client = app.store.primary().await?;
    let found = messages::get(&client, &caller, chat, id).await?;
    let message = found.filter(|message| message.question.is_some()).ok_or_else(ApiError::not_found)?;
    if is_streaming(&message) {
        drop(client);
        let live = app.answers.attach(id).await?;
        return Ok(sse::response(Body::from_stream(relay(live.read(after)))));
    }
    let news = journal::read(&client, &[(id, 0)]).await?;
    let stored = news.into_iter().next().map(|news| news.events).unwrap_or_default();
    Ok(replay(message, &stored, after))
}

/// An answer that has ended, out of the journal or, once that is deleted, out of the message.
fn replay(message: messages::Message, stored: &[Event], after: usize) -> Response {
    if stored.is_empty() {
        return sse::response(Body::from(join(&retell(message))));
    }
    match stored.get(after..) {
        Some(rest) if !rest.is_empty() => sse::response(Body::from(join(rest))),
        // To an EventSource this is the sign to stop reconnecting.
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

/// The events of an answer whose journal is gone.
fn retell(message: messages::Message) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut push = |name: &str, data: String| {
        let id = i32::try_from(events.len() + 1).unwrap_or(i32::MAX);
        events.push(Event { id, name: name.to_owned(), data });
    };
    push("meta", json!({ "message": message.id, "question": message.question }).to_string());
    push("delta", json!({ "text": message.content }).to_string());
    let citations: Vec<&RawValue> = serde_json::from_str(message.citations.get()).unwrap_or_default();
    citations.iter().for_each(|citation| push("citation", citation.get().to_owned()));
    match Failure::of_status(&message.status) {
        Some(failure) => push("error", failure.data()),
        None => push("done", done(&message.into())),
    }
    events
}

/// Returns the data of a `done` event.
pub(super) fn done(message: &Message) -> String {
    #[derive(Serialize)]
    struct Done<'a> {
        message: &'a Message,
        finish_reason: Option<&'a str>,
    }
    let done = Done { message, finish_reason: message.finish_reason.as_deref() };
    serde_json::to_string(&done).expect("a message is always JSON")
}

fn join(events: &[Event]) -> Bytes {
    let frames: Vec<Bytes> = events.iter().map(frame).collect();
    Bytes::from(frames.concat())
}

/// Sends what the reader gets, and a sign of life where it gets nothing.
fn relay(reader: Reader) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let open = metrics::STREAMS_OPEN.hold();
    let events = stream::unfold((reader, open), |(mut reader, open)| async {
        match tokio::time::timeout(sse::HEARTBEAT_INTERVAL, reader.next()).await {
            Ok(Some(frames)) => Some((frames, (reader, open))),
            Ok(None) => None,
            Err(_) => Some((sse::HEARTBEAT, (reader, open))),
        }
    });
    stream::iter([sse::OPENING]).chain(events).map(Ok)
}

/// Anything but the id of an event counts as none.
fn last_event_id(headers: &HeaderMap) -> usize {
    headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::app::answers::live::Live;

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_shows_that_it_lives() {
        let live = Live::new();
        let mut stream = std::pin::pin!(relay(live.read(0)));
        assert_eq!(stream.next().await, Some(Ok(sse::OPENING)));
        let start = tokio::time::Instant::now();
        assert_eq!(stream.next().await, Some(Ok(sse::HEARTBEAT)));
        assert!(start.elapsed() <= Duration::from_secs(15));
        live.publish(&[Event { id: 1, name: "done".into(), data: "{}".into() }]);
        assert_eq!(stream.next().await.unwrap().unwrap(), "id: 1\nevent: done\ndata: {}\n\n");
        assert_eq!(stream.next().await, None);
    }
}
