//! Messages of a chat: questions, and the answers that belong to them.

use jiff::Timestamp;
use serde_json::value::RawValue;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::access::Caller;
use super::ids::{ChatId, MessageId};
use super::page::CursorWindow;
use super::{Client, Error};

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its id; ids of a chat ascend.
    pub id: MessageId,
    /// The question that an answer belongs to; `None` for a question.
    pub question: Option<MessageId>,
    /// `user` or `assistant`.
    pub role: String,
    /// The text; of an answer that is still being written, empty.
    pub content: String,
    /// `streaming`, `complete`, `interrupted`, `cancelled` or `failed`.
    pub status: String,
    /// A JSON array, as it was streamed.
    pub citations: Box<RawValue>,
    /// Why an answer ended.
    pub finish_reason: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The status of an answer that is still being written.
pub const STREAMING: &str = "streaming";

/// A question to save.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Its id.
    pub id: MessageId,
    /// Its text.
    pub content: &'a str,
    /// What the chat is called from now on if it has no title yet.
    pub title: &'a str,
}

/// Saves a question in one of the caller's chats and moves the chat to the top of the list; with `answer`, that answer
/// is announced in the same transaction, to be generated. Returns when, or `None` where the caller has no such chat.
///
/// # Errors
/// See [`Error`].
pub async fn ask(
    client: &Client,
    caller: &Caller,
    chat: ChatId,
    question: Question<'_>,
    answer: Option<MessageId>,
) -> Result<Option<Timestamp>, Error> {
    let saved = "with chat as (
                     update chats set updated_at = now(), title = case title when '' then $5 else title end
                     where id = $1 and owner_id = $2 returning id
                 ), question as (
                     insert into messages (id, chat_id, role, content, status)
                     select $3, id, 'user', $4, 'complete' from chat returning created_at
                 )";
    let (id, Question { content, title, .. }) = (question.id.0, question);
    let row = match answer {
        None => {
            let sql = format!("{saved} select created_at from question");
            client.query_opt(&sql, &[&chat.0, &caller.user().0, &id, &content, &title]).await?
        }
        Some(answer) => {
            let sql = format!(
                "{saved}, answer as (
                     insert into messages (id, chat_id, role, question_id, content, status)
                     select $6, id, 'assistant', $3, '', 'streaming' from chat
                 ), generation as (
                     insert into generations (message_id) select $6 from chat
                 )
                 select created_at from question"
            );
            client.query_opt(&sql, &[&chat.0, &caller.user().0, &id, &content, &title, &answer.0]).await?
        }
    };
    Ok(row.map(|row| row.get(0)))
}

/// Announces a new answer to the question that `message` is or belongs to. Returns the question, or `None` where the
/// caller has no such message or an answer to the question is still being written.
///
/// # Errors
/// See [`Error`].
pub async fn ask_again(
    client: &Client,
    caller: &Caller,
    chat: ChatId,
    message: MessageId,
    answer: MessageId,
) -> Result<Option<Message>, Error> {
    let sql = "with question as (
                   select q.id, q.question_id, q.role, q.content, q.status, q.citations, q.finish_reason, q.created_at
                   from chats c
                   join messages m on m.chat_id = c.id and m.id = $3
                   join messages q on q.id = coalesce(m.question_id, m.id)
                   where c.id = $1 and c.owner_id = $2
                     and not exists (select from messages a where a.question_id = q.id and a.status = 'streaming')
               ), chat as (
                   update chats set updated_at = now() where id = $1 and exists (select from question)
               ), answer as (
                   insert into messages (id, chat_id, role, question_id, content, status)
                   select $4, $1, 'assistant', id, '', 'streaming' from question
               ), generation as (
                   insert into generations (message_id) select $4 from question
               )
               select * from question";
    match client.query_opt(sql, &[&chat.0, &caller.user().0, &message.0, &answer.0]).await {
        Ok(row) => Ok(row.as_ref().map(self::message)),
        // Somebody who asked in the same moment was first; neither saw the other's answer.
        Err(error) if error.is_conflict_on("messages_streaming") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Finds a message of one of the caller's chats.
///
/// # Errors
/// See [`Error`].
pub async fn get(
    client: &Client,
    caller: &Caller,
    chat: ChatId,
    id: MessageId,
) -> Result<Option<Message>, Error> {
    let sql =
        "select m.id, m.question_id, m.role, m.content, m.status, m.citations, m.finish_reason, m.created_at
               from messages m join chats c on c.id = m.chat_id
               where m.id = $3 and c.id = $1 and c.owner_id = $2";
    let row = client.query_opt(sql, &[&chat.0, &caller.user().0, &id.0]).await?;
    Ok(row.as_ref().map(message))
}

/// Returns a stretch of one of the caller's chats, in the window's direction: by ascending id, or with `newest_first` by
/// descending. `None` where the caller has no such chat.
///
/// # Errors
/// See [`Error`].
pub async fn list(
    client: &Client,
    caller: &Caller,
    chat: ChatId,
    window: CursorWindow,
    newest_first: bool,
) -> Result<Option<Vec<Message>>, Error> {
    let ascending = newest_first == window.backwards;
    let (beyond, order) = if ascending { (">", "asc") } else { ("<", "desc") };
    let start = if ascending { Uuid::nil() } else { Uuid::max() };
    // The outer join gives one empty row for a chat without messages, and none for somebody else's chat.
    let sql = format!(
        "select m.id, m.question_id, m.role, m.content, m.status, m.citations, m.finish_reason, m.created_at
         from chats c left join lateral (
             select * from messages
             where chat_id = c.id and id {beyond} $3
             order by id {order} limit $4
         ) m on true
         where c.id = $1 and c.owner_id = $2 order by m.id {order}"
    );
    let limit = window.limit + 1;
    let rows =
        client.query(&sql, &[&chat.0, &caller.user().0, &window.position.unwrap_or(start), &limit]).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    Ok(Some(rows.iter().filter(|row| row.get::<_, Option<Uuid>>(0).is_some()).map(message).collect()))
}

fn message(row: &Row) -> Message {
    Message {
        id: MessageId(row.get(0)),
        question: row.get::<_, Option<Uuid>>(1).map(MessageId),
        role: row.get(2),
        content: row.get(3),
        status: row.get(4),
        citations: row.get::<_, Json<Box<RawValue>>>(5).0,
        finish_reason: row.get(6),
        created_at: row.get(7),
    }
}
