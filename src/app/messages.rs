//! `/api/chats/{chat}/messages/`: questions and answers. A question is saved before anything is done about it.

use std::borrow::Cow;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::body::Body;
use super::error::ApiError;
use super::fields::{Fields, Form, TextRule};
use super::page::{CursorPage, CursorQuery};
use super::request::{Authenticated, Id};
use super::time::Time;
use crate::rag::answer::Citation;
use crate::store::generations;
use crate::store::ids::{ChatId, MessageId};
use crate::store::messages::{self, Question, STREAMING};

/// Characters of a question at most, whatever is configured.
const QUESTION_CHARS_MAX: usize = 100_000;

/// Characters of a title that is made from a question.
const MADE_TITLE_CHARS_MAX: usize = 80;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, ask))
        .routes(routes!(get))
        .routes(routes!(cancel))
        .routes(routes!(regenerate))
}

/// A question or an answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Message {
    /// Its id; ids of a chat ascend.
    pub id: MessageId,
    /// `user` asks, `assistant` answers.
    pub role: Cow<'static, str>,
    /// The text; empty while an answer is being written.
    pub content: String,
    /// `streaming`, `complete`, `interrupted`, `cancelled` or `failed`.
    pub status: Cow<'static, str>,
    /// The passages that the text cites as `[n]`.
    #[schema(value_type = Vec<Citation>)]
    pub citations: Box<RawValue>,
    /// `stop`, `length` or `cancelled` for an answer that ended in order.
    pub finish_reason: Option<Cow<'static, str>>,
    /// When it was made.
    pub created_at: Time,
}

impl From<messages::Message> for Message {
    fn from(stored: messages::Message) -> Self {
        let messages::Message { id, role, content, status, citations, finish_reason, created_at, .. } =
            stored;
        let (role, status) = (role.into(), status.into());
        let finish_reason = finish_reason.map(Into::into);
        Self { id, role, content, status, citations, finish_reason, created_at: created_at.into() }
    }
}

impl Message {
    fn question(id: MessageId, content: String, created_at: Timestamp) -> Self {
        let (role, status) = ("user".into(), "complete".into());
        let citations = serde_json::value::to_raw_value::<[(); 0]>(&[]).expect("an empty list is JSON");
        Self { id, role, content, status, citations, finish_reason: None, created_at: created_at.into() }
    }
}

/// What is asked.
#[derive(ToSchema)]
struct QuestionForm {
    /// The question.
    content: String,
    /// Whether it is to be answered; by default it is.
    answer: Option<bool>,
}

impl Form for QuestionForm {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let content = fields.text("content", TextRule::line(QUESTION_CHARS_MAX));
        let answer = fields.optional_boolean("answer");
        Some(Self { content: content?, answer })
    }
}

/// A saved question and where its answer will appear.
#[derive(Debug, Serialize, ToSchema)]
struct Asked {
    message: Message,
    /// Null where no answer was wanted.
    answer: Option<Announced>,
}

/// An answer that is about to be written.
#[derive(Debug, Serialize, ToSchema)]
struct Announced {
    id: MessageId,
    /// Where it is streamed as it is written.
    stream_url: String,
}

impl Announced {
    fn new(chat: ChatId, id: MessageId) -> Self {
        Self { id, stream_url: format!("/api/chats/{chat}/messages/{id}/stream/") }
    }
}

/// How messages are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Ordering {
    /// `created_at` for the oldest first, as by default, or `-created_at`.
    ordering: Option<String>,
}

/// Lists the messages of a chat
#[utoipa::path(
    get, path = "/api/chats/{chat}/messages/", tag = "chats",
    params(("chat" = ChatId, Path), super::page::CursorParameters, Ordering),
    responses((status = 200, body = CursorPage<Message>)),
)]
async fn list(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id(chat): Id<ChatId>,
    ordering: Result<Query<Ordering>, QueryRejection>,
    query: CursorQuery,
) -> Result<Json<CursorPage<Message>>, ApiError> {
    let Query(ordering) = ordering.map_err(|_| ApiError::parse("Malformed request."))?;
    let newest_first = ordering.ordering.as_deref() == Some("-created_at");
    let client = app.store.primary().await?;
    let page = query.fetch(
        |message: &messages::Message| message.id.0,
        async |window| {
            let found = messages::list(&client, &caller, chat, window, newest_first).await?;
            found.ok_or_else(ApiError::not_found)
        },
    );
    Ok(Json(page.await?.map(Message::from)))
}

/// Saves a question and, unless told otherwise, has it answered
#[utoipa::path(
    post, path = "/api/chats/{chat}/messages/", tag = "chats", params(("chat" = ChatId, Path)),
    request_body = QuestionForm, responses((status = 201, body = Asked)),
)]
async fn ask(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id(chat): Id<ChatId>,
    Body(form): Body<QuestionForm>,
) -> Result<(StatusCode, Json<Asked>), ApiError> {
    let chars_max = app.settings.chat.question_chars_max;
    if form.content.len() > chars_max && form.content.chars().count() > chars_max {
        let message = format!("Ensure this field has no more than {chars_max} characters.");
        return Err(ApiError::validation("content", message));
    }
    let id = MessageId::new();
    let answer = match form.answer {
        Some(false) => None,
        _ => {
            app.throttles.chat(caller.user())?;
            Some(MessageId::new())
        }
    };
    let question = Question { id, content: &form.content, title: title(&form.content) };
    let client = app.store.primary().await?;
    let saved = messages::ask(&client, &caller, chat, question, answer).await?;
    let created_at = saved.ok_or_else(ApiError::not_found)?;
    if let Some(answer) = answer {
        app.answers.announce(answer);
    }
    let message = Message::question(id, form.content, created_at);
    Ok((StatusCode::CREATED, Json(Asked { message, answer: answer.map(|id| Announced::new(chat, id)) })))
}

/// Shows a message
#[utoipa::path(
    get, path = "/api/chats/{chat}/messages/{id}/", tag = "chats",
    params(("chat" = ChatId, Path), ("id" = MessageId, Path)), responses((status = 200, body = Message)),
)]
async fn get(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id((chat, id)): Id<(ChatId, MessageId)>,
) -> Result<Json<Message>, ApiError> {
    let found = messages::get(&app.store.primary().await?, &caller, chat, id).await?;
    found.map(|found| Json(found.into())).ok_or_else(ApiError::not_found)
}

/// Stops an answer that is being written
///
/// What was written so far is kept. The stream ends with `done` and the finish reason `cancelled`, at once where this
/// node writes the answer, else within a second. An answer that has ended stays as it is (200).
#[utoipa::path(
    post, path = "/api/chats/{chat}/messages/{id}/cancel/", tag = "chats",
    params(("chat" = ChatId, Path), ("id" = MessageId, Path)),
    responses((status = 202, body = Message), (status = 200, body = Message)),
)]
async fn cancel(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id((chat, id)): Id<(ChatId, MessageId)>,
) -> Result<(StatusCode, Json<Message>), ApiError> {
    let client = app.store.primary().await?;
    let is_running = generations::request_cancel(&client, &caller, chat, id).await?;
    if is_running {
        app.answers.cancel(id);
    }
    let found = messages::get(&client, &caller, chat, id).await?.ok_or_else(ApiError::not_found)?;
    let status = if is_running { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(found.into())))
}

/// Has a question answered once more
///
/// Takes the question or one of its answers. The older answers stay.
#[utoipa::path(
    post, path = "/api/chats/{chat}/messages/{id}/regenerate/", tag = "chats",
    params(("chat" = ChatId, Path), ("id" = MessageId, Path)), responses((status = 201, body = Asked)),
)]
async fn regenerate(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Id((chat, id)): Id<(ChatId, MessageId)>,
) -> Result<(StatusCode, Json<Asked>), ApiError> {
    app.throttles.chat(caller.user())?;
    let answer = MessageId::new();
    let client = app.store.primary().await?;
    let Some(question) = messages::ask_again(&client, &caller, chat, id, answer).await? else {
        return Err(match messages::get(&client, &caller, chat, id).await? {
            Some(_) => ApiError::conflict("An answer to this question is still being written."),
            None => ApiError::not_found(),
        });
    };
    app.answers.announce(answer);
    let asked = Asked { message: question.into(), answer: Some(Announced::new(chat, answer)) };
    Ok((StatusCode::CREATED, Json(asked)))
}

/// Whether an answer is still being written.
pub(super) fn is_streaming(message: &messages::Message) -> bool {
    message.status == STREAMING
}

/// The first line of a question, cut at a word, as the title of a chat that has none.
fn title(question: &str) -> &str {
    let line = question.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    match line.char_indices().nth(MADE_TITLE_CHARS_MAX) {
        None => line,
        Some((cut, _)) => {
            let end = line[..cut].rfind(char::is_whitespace).unwrap_or(cut);
            line[..end].trim_end()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_is_named_after_the_first_line_of_its_first_question() {
        assert_eq!(title("\n  How long is the notice period?\nThanks!"), "How long is the notice period?");
        assert_eq!(title(&"word ".repeat(40)).chars().count(), 79);
        assert_eq!(title(&"é".repeat(100)).chars().count(), MADE_TITLE_CHARS_MAX);
    }
}
