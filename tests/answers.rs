//! Answers when something goes wrong on the way: time that runs out, a database that refuses, a journal that ages.

use std::time::Duration;

use agent::llm::{FinishReason, Piece};
use agent::store::journal;
use serde_json::json;

use crate::support::answers::{EventStream, ask, chat, dictated, say};
use crate::support::api::TestApi;

const DONE: Piece = Piece::End(FinishReason::Stop);

#[tokio::test]
async fn a_journal_is_kept_whole_until_its_last_event_is_old() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let chat = chat(&mut ada).await;
    let (_, path) = ask(&mut ada, &chat, "?").await;
    let events = EventStream::open(&ada, &path, None).await.rest().await;
    let client = api.app.store.primary().await.unwrap();
    let age = "update stream_journal set created_at = now() - interval '1 hour' where event_id <= $1";
    let last = i32::try_from(events.len()).unwrap();
    for (old, pruned) in [(last - 1, 0), (last, events.len() as u64)] {
        client.execute(age, &[&old]).await.unwrap();
        assert_eq!(journal::prune(&client, Duration::from_secs(60)).await.unwrap(), pruned);
    }
}

#[tokio::test]
async fn an_answer_that_the_database_refuses_takes_no_other_down() {
    let (generator, mut answers) = dictated();
    let api = TestApi::answering(&[], generator).await;
    let client = api.app.store.primary().await.unwrap();
    client.batch("alter table stream_journal add check (data not like '%poison%')").await.unwrap();
    let mut ada = api.user("ada").await;
    let chat = chat(&mut ada).await;
    let mut open = Vec::new();
    for question in ["First?", "Second?"] {
        let (_, path) = ask(&mut ada, &chat, question).await;
        let mut stream = EventStream::open(&ada, &path, None).await;
        let (_, pen) = answers.recv().await.unwrap();
        say(&pen, "The beginning of an answer,");
        assert_eq!(stream.next().await.unwrap().name, "meta");
        assert_eq!(stream.next().await.unwrap().name, "delta");
        open.push((stream, pen));
    }
    let [(refused, poison), (mut stored, pen)] = <[_; 2]>::try_from(open).ok().unwrap();
    // Stored in one batch: neither is an answer's first words nor its end.
    say(&poison, " then poison, and much more");
    say(&pen, " and then the rest of it.");
    assert!(refused.rest().await.is_empty(), "closed without a word");
    assert_eq!(stored.next().await.unwrap().name, "delta");
    pen.send(Ok(DONE)).unwrap();
    assert_eq!(stored.rest().await.last().unwrap().name, "done");
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_interrupted_with_what_was_written() {
    let (generator, mut answers) = dictated();
    let api = TestApi::answering(&[("chat.answer_time_max", "1s")], generator).await;
    let mut ada = api.user("ada").await;
    let chat = chat(&mut ada).await;
    let (message, path) = ask(&mut ada, &chat, "?").await;
    let stream = EventStream::open(&ada, &path, None).await;
    let (_, pen) = answers.recv().await.unwrap();
    say(&pen, "Words, and then nothing");
    let events = tokio::time::timeout(Duration::from_secs(10), stream.rest()).await.expect("it ends");
    assert_eq!(events.last().unwrap().data["code"], "interrupted");
    assert!(pen.is_closed(), "the generator was told to stop");
    let stored = ada.get(&message).await.json();
    assert_eq!(
        (&stored["status"], &stored["content"]),
        (&json!("interrupted"), &json!("Words, and then nothing"))
    );
}

#[tokio::test]
async fn draining_waits_for_an_answer_that_was_only_just_asked_for() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let chat = chat(&mut ada).await;
    let (message, _) = ask(&mut ada, &chat, "?").await;
    api.app.answers.drain(Duration::from_secs(10)).await;
    assert_eq!(ada.get(&message).await.json()["status"], "complete");
}
