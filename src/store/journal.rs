//! The events of answers' streams, so that any node can replay them. Event ids of an answer count from 1 without gaps.

use std::time::Duration;

use tokio_postgres::types::Json;
use uuid::Uuid;

use super::generations::Claim;
use super::ids::MessageId;
use super::{Client, Error};

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the stream, from 1.
    pub id: i32,
    /// Its name on the wire.
    pub name: String,
    /// Its data, one line of JSON.
    pub data: String,
}

/// What is new in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The answer.
    pub message: MessageId,
    /// Its events after the one that the reader knew, in order.
    pub events: Vec<Event>,
    /// Whether there will be more.
    pub is_open: bool,
}

/// How an answer ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The status of the message from now on.
    pub status: &'static str,
    /// The whole text.
    pub content: String,
    /// The citations, a JSON array.
    pub citations: serde_json::Value,
    /// Why it ended, where it ended in order.
    pub finish_reason: Option<&'static str>,
    /// The events not yet in the journal; the last one is the stream's terminal event.
    pub events: Vec<Event>,
}

/// Appends events of many streams in one statement. Returns the messages whose claim holds; the events of the others
/// were not stored. Storing an event again changes nothing, so a call whose outcome is unknown may be repeated.
///
/// # Errors
/// See [`Error`].
pub async fn append(client: &Client, events: &[(Claim, Event)]) -> Result<Vec<MessageId>, Error> {
    // The lock makes a sweep that ends the answer wait, or us see that it has; it lets renewals of the lease pass. In
    // the order in which all lock generations.
    let sql = "with event as (
                   select * from unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[])
                                 as e (message_id, token, event_id, event, data)
               ), held as (
                   select message_id from generations g
                   where exists (select from event e where e.message_id = g.message_id and e.token = g.token)
                   order by message_id for key share
               ), stored as (
                   insert into stream_journal (message_id, event_id, event, data)
                   select message_id, event_id, event, data from event join held using (message_id)
                   on conflict do nothing
               )
               select message_id from held";
    let messages: Vec<Uuid> = events.iter().map(|(claim, _)| claim.message.0).collect();
    let tokens: Vec<Uuid> = events.iter().map(|(claim, _)| claim.token).collect();
    let ids: Vec<i32> = events.iter().map(|(_, event)| event.id).collect();
    let names: Vec<&str> = events.iter().map(|(_, event)| event.name.as_str()).collect();
    let data: Vec<&str> = events.iter().map(|(_, event)| event.data.as_str()).collect();
    let rows = client.query(sql, &[&messages, &tokens, &ids, &names, &data]).await?;
    Ok(rows.iter().map(|row| MessageId(row.get(0))).collect())
}

/// Ends an answer: its last events, its message and its claim in one statement. Returns whether the claim held.
///
/// # Errors
/// See [`Error`].
pub async fn finish(client: &Client, claim: Claim, ending: &Ending) -> Result<bool, Error> {
    let sql = "with held as (
                   delete from generations where message_id = $1 and token = $2 returning message_id
               ), ended as (
                   update messages m
                   set status = $3, content = $4, citations = $5, finish_reason = $6
                   from held where m.id = held.message_id
               ), stored as (
                   insert into stream_journal (message_id, event_id, event, data)
                   select held.message_id, e.event_id, e.event, e.data
                   from held, unnest($7::int[], $8::text[], $9::text[]) as e (event_id, event, data)
               )
               select from held";
    let ids: Vec<i32> = ending.events.iter().map(|event| event.id).collect();
    let names: Vec<&str> = ending.events.iter().map(|event| event.name.as_str()).collect();
    let data: Vec<&str> = ending.events.iter().map(|event| event.data.as_str()).collect();
    let (message, token) = (claim.message.0, claim.token);
    let Ending { status, content, citations, finish_reason, .. } = ending;
    let params: super::client::Params<'_> =
        &[&message, &token, status, content, &Json(citations), finish_reason, &ids, &names, &data];
    Ok(client.query_opt(sql, params).await?.is_some())
}

/// Reads what follows a known event, for many streams in one statement: one result for each message, in no order. The
/// caller has checked who may read them.
///
/// # Errors
/// See [`Error`].
pub async fn read(client: &Client, streams: &[(MessageId, i32)]) -> Result<Vec<News>, Error> {
    let sql = "select s.message_id, g.message_id is not null, j.event_id, j.event, j.data
               from unnest($1::uuid[], $2::int[]) as s (message_id, after)
               left join generations g on g.message_id = s.message_id
               left join stream_journal j on j.message_id = s.message_id and j.event_id > s.after
               order by s.message_id, j.event_id";
    let (messages, after): (Vec<Uuid>, Vec<i32>) = streams.iter().map(|(id, after)| (id.0, *after)).unzip();
    let mut all: Vec<News> = Vec::new();
    for row in client.query(sql, &[&messages, &after]).await? {
        let message = MessageId(row.get(0));
        if all.last().is_none_or(|news| news.message != message) {
            all.push(News { message, events: Vec::new(), is_open: row.get(1) });
        }
        if let (Some(news), Some(id)) = (all.last_mut(), row.get::<_, Option<i32>>(2)) {
            news.events.push(Event { id, name: row.get(3), data: row.get(4) });
        }
    }
    Ok(all)
}

/// Deletes the journals of answers that ended more than `age` ago, each as a whole. Returns how many events.
///
/// # Errors
/// See [`Error`].
pub async fn prune(client: &Client, age: Duration) -> Result<u64, Error> {
    let sql = "delete from stream_journal j
               where j.created_at < now() - $1 * interval '1 second'
                 and not exists (select from generations g where g.message_id = j.message_id)
                 and not exists (select from stream_journal l where l.message_id = j.message_id
                                 and l.created_at >= now() - $1 * interval '1 second')";
    client.execute(sql, &[&age.as_secs_f64()]).await
}
