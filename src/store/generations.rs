//! Who generates an answer. A claim gives a token and a lease; what is written of the answer requires the token, and an
//! answer whose lease has run out is ended by whichever node sees it first.
//!
//! Rows are locked in one order, so that no two statements wait for each other: chats, then generations by ascending
//! message id, then messages.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::access::{Caller, ReadAccess};
use super::ids::{ChatId, CollectionId, MessageId, UserId};
use super::{Client, Error};

/// Answers that one sweep ends at most, so that it stays a short transaction.
const SWEEP_MAX: i64 = 100;

/// The right to write one answer, for as long as the lease is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The answer.
    pub message: MessageId,
    /// Proves the claim to every write.
    pub token: Uuid,
}

/// What the holder of a claim is to answer.
#[derive(Clone, Debug)]
pub struct Work {
    /// The claim.
    pub claim: Claim,
    /// The question that the answer belongs to.
    pub question_id: MessageId,
    /// Its text.
    pub question: String,
    /// The text of the question before it in the chat.
    pub previous_question: Option<String>,
    /// What the chat's owner may read now, narrowed to the chat's choice of collections.
    pub access: ReadAccess,
    /// When the answer was asked for.
    pub created_at: Timestamp,
}

/// Claims an answer that nobody has claimed. `None` where somebody has, or where it has ended.
///
/// # Errors
/// See [`Error`].
pub async fn claim(client: &Client, message: MessageId, lease: Duration) -> Result<Option<Work>, Error> {
    let sql = "with claimed as (
                   update generations set token = $2, lease_until = now() + $3 * interval '1 second'
                   where message_id = $1 and token is null returning message_id
               )
               select q.id, q.content, p.content, c.owner_id, a.created_at,
                      array(select m.collection_id from members m where m.user_id = c.owner_id
                            and (c.collections is null or m.collection_id = any(c.collections)))
               from claimed
               join messages a on a.id = claimed.message_id
               join messages q on q.id = a.question_id
               join chats c on c.id = a.chat_id
               left join lateral (
                   select content from messages where chat_id = c.id and role = 'user' and id < q.id
                   order by id desc limit 1
               ) p on true";
    let claim = Claim { message, token: Uuid::new_v4() };
    let row = client.query_opt(sql, &[&message.0, &claim.token, &lease.as_secs_f64()]).await?;
    Ok(row.map(|row| {
        let collections: Vec<Uuid> = row.get(5);
        let collections = collections.into_iter().map(CollectionId).collect();
        Work {
            claim,
            question_id: MessageId(row.get(0)),
            question: row.get(1),
            previous_question: row.get(2),
            access: ReadAccess::new(UserId(row.get(3)), collections),
            created_at: row.get(4),
        }
    }))
}

/// Prolongs the leases of `claims`. Returns those that still hold, each with whether the person has cancelled it.
///
/// # Errors
/// See [`Error`].
pub async fn renew(
    client: &Client,
    claims: &[Claim],
    lease: Duration,
) -> Result<Vec<(MessageId, bool)>, Error> {
    // In the order in which all lock generations.
    let sql = "with held as (
                   select g.message_id from generations g
                   join unnest($1::uuid[], $2::uuid[]) as c (message_id, token) using (message_id, token)
                   order by g.message_id for no key update of g
               )
               update generations g set lease_until = now() + $3 * interval '1 second'
               from held where g.message_id = held.message_id
               returning g.message_id, g.cancel_requested";
    let (messages, tokens): (Vec<Uuid>, Vec<Uuid>) = claims.iter().map(|c| (c.message.0, c.token)).unzip();
    let rows = client.query(sql, &[&messages, &tokens, &lease.as_secs_f64()]).await?;
    Ok(rows.iter().map(|row| (MessageId(row.get(0)), row.get(1))).collect())
}

/// Asks whoever generates an answer of one of the caller's chats to stop. Returns whether it was being generated.
///
/// # Errors
/// See [`Error`].
pub async fn request_cancel(
    client: &Client,
    caller: &Caller,
    chat: ChatId,
    message: MessageId,
) -> Result<bool, Error> {
    let sql = "update generations g set cancel_requested = true
               from messages m join chats c on c.id = m.chat_id
               where g.message_id = $3 and m.id = g.message_id and c.id = $1 and c.owner_id = $2";
    Ok(client.execute(sql, &[&chat.0, &caller.user().0, &message.0]).await? > 0)
}

/// Ends as `interrupted` the answers whose lease has run out, and those that nobody claimed within `lease`; their text
/// is what the journal has. `error` is the data of the event that ends their streams. Returns how many.
///
/// # Errors
/// See [`Error`].
pub async fn end_expired(client: &mut Client, lease: Duration, error: &str) -> Result<u64, Error> {
    let transaction = client.transaction().await?;
    // Locked first, in a statement of its own: only a later snapshot surely has all that a writer committed before.
    let sql = "select message_id from generations
               where coalesce(lease_until, created_at + $1 * interval '1 second') < now()
               limit $2 for update skip locked";
    let rows = transaction.query(sql, &[&lease.as_secs_f64(), &SWEEP_MAX]).await?;
    let expired: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    if expired.is_empty() {
        return Ok(0);
    }
    let sql = "with partial as (
                   select g.message_id, coalesce(max(j.event_id), 0) as last,
                          coalesce(string_agg(j.data::jsonb ->> 'text', '' order by j.event_id)
                                   filter (where j.event = 'delta'), '') as content,
                          coalesce(jsonb_agg(j.data::jsonb order by j.event_id)
                                   filter (where j.event = 'citation'), '[]') as citations
                   from unnest($1::uuid[]) as g (message_id) left join stream_journal j using (message_id)
                   group by g.message_id
               ), ended as (
                   update messages m set status = 'interrupted', content = p.content, citations = p.citations
                   from partial p where m.id = p.message_id
               ), gone as (
                   delete from generations where message_id = any($1)
               )
               insert into stream_journal (message_id, event_id, event, data)
               select message_id, last + 1, 'error', $2 from partial";
    let ended = transaction.execute(sql, &[&expired, &error]).await?;
    transaction.commit().await?;
    Ok(ended)
}
