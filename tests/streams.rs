//! Answers as they are written: order, resumption, cancellation, several nodes, nodes that die.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::llm::{FinishReason, Generator, Piece};
use futures_util::{StreamExt, stream};
use http::StatusCode;
use serde_json::json;

use super::support::answers::{Event, EventStream, announced, ask, chat, dictated, say, text};
use super::support::api::TestApi;
use super::support::library::{own_collection, publish};

/// The shortest lease that can be set.
const SHORT_LEASE: (&str, &str) = ("chat.answer_lease", "3s");

const DONE: Piece = Piece::End(FinishReason::Stop);

#[tokio::test]
async fn an_answer_streams_in_order_cites_its_sources_and_is_in_the_history() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let collection = own_collection(&mut ada).await;
    let passages = [("The notice period is three months.", None), ("Lunch is at noon.", None)];
    let document = publish(&api, collection, "Handbook", &passages).await;
    let chat = chat(&mut ada).await;
    let (message, stream) = ask(&mut ada, &chat, "How long is the notice period?").await;

    let events = EventStream::open(&ada, &stream, None).await.rest().await;

    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!((names[0], names[1]), ("meta", "delta"));
    assert_eq!(&names[names.len() - 2..], ["usage", "done"]);
    assert_eq!(names.iter().filter(|name| ["done", "error"].contains(name)).count(), 1);
    assert_eq!(
        events.iter().map(|event| event.id).collect::<Vec<_>>(),
        (1..=events.len() as u64).collect::<Vec<_>>()
    );
    let citation = &events.iter().find(|event| event.name == "citation").unwrap().data;
    assert_eq!((&citation["n"], &citation["document"]), (&json!(1), &json!(document)));
    assert_eq!(citation["span"], json!([0, 34]));
    let answer = text(&events);
    assert!(answer.contains("“The notice period is three months.” [1]"), "{answer}");
    assert!(!answer.contains("Lunch"), "{answer}");

    let stored = ada.get(&message).await.json();
    assert_eq!(stored["content"], json!(answer));
    assert_eq!(stored["citations"], json!([citation]));
    assert_eq!((&stored["status"], &stored["finish_reason"]), (&json!("complete"), &json!("stop")));
    assert_eq!(events.last().unwrap().data, json!({ "message": stored, "finish_reason": "stop" }));
}

#[tokio::test]
async fn without_a_relevant_document_the_answer_says_so() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let collection = own_collection(&mut ada).await;
    publish(&api, collection, "Handbook", &[("The notice period is three months.", None)]).await;
    let chat = chat(&mut ada).await;
    let (_, stream) = ask(&mut ada, &chat, "Which planet is the largest?").await;
    let events = EventStream::open(&ada, &stream, None).await.rest().await;
    assert!(text(&events).starts_with("I found nothing in your documents"));
    assert!(events.iter().all(|event| event.name != "citation"));
}

#[tokio::test]
async fn a_reader_who_comes_back_after_any_event_gets_the_rest() {
    let (generator, mut answers) = dictated();
    let api = TestApi::answering(&[], generator).await;
    let mut ada = api.user("ada").await;
    let chat = chat(&mut ada).await;
    let (_, path) = ask(&mut ada, &chat, "?").await;
    let first = EventStream::open(&ada, &path, None).await;
    let (_, pen) = answers.recv().await.unwrap();
    drop(first);
    let mut seen = Vec::new();
    for word in ["these are the first words,", " these are the second words,", " and the third."] {
        // The reader leaves after each event, in the middle of the answer.
        let mut reader = EventStream::open(&ada, &path, seen.last().map(|event: &Event| event.id)).await;
        say(&pen, word);
        while !text(&seen).ends_with(word) {
            seen.push(reader.next().await.unwrap());
        }
    }
    pen.send(Ok(DONE)).unwrap();
    let last = seen.last().unwrap().id;
    seen.extend(EventStream::open(&ada, &path, Some(last)).await.rest().await);

    let whole = EventStream::open(&ada, &path, None).await.rest().await;
    assert_eq!(seen, whole);
    for event in &whole[..whole.len() - 1] {
        let rest = EventStream::open(&ada, &path, Some(event.id)).await.rest().await;
        assert_eq!(rest, whole[usize::try_from(event.id).unwrap()..]);
    }
    let over = ada.with("last-event-id", &whole.len().to_string()).get(&path).await;
    assert_eq!(over.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_written_by_the_node_that_was_asked() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let chat = chat(&mut ada).await;
    let (message, _) = ask(&mut ada, &chat, "Is anybody there?").await;
    let asked = Instant::now();
    while ada.get(&message).await.json()["status"] != "complete" {
        assert!(asked.elapsed() < Duration::from_secs(10), "never answered");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!ada.get(&message).await.json()["content"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn cancelling_keeps_what_was_written_and_ends_the_stream_in_order() {
    let (generator, mut answers) = dictated();
    let api = TestApi::answering(&[], generator).await;
    let mut ada = api.user("ada").await;
    let chat = chat(&mut ada).await;
    let (message, path) = ask(&mut ada, &chat, "?").await;
    let mut stream = EventStream::open(&ada, &path, None).await;
    let (_, pen) = answers.recv().await.unwrap();
    say(&pen, "Half a");
    assert_eq!(stream.next().await.unwrap().name, "meta");
    assert_eq!(stream.next().await.unwrap().name, "delta");

    let cancelled = ada.post(&format!("{message}cancel/"), &json!({})).await;
    assert_eq!(cancelled.status, StatusCode::ACCEPTED);
    let rest = stream.rest().await;
    assert_eq!(rest.len(), 1);
    assert_eq!((rest[0].name.as_str(), &rest[0].data["finish_reason"]), ("done", &json!("cancelled")));
    assert!(pen.is_closed(), "the generator was told to stop");

    let stored = ada.get(&message).await.json();
    assert_eq!((&stored["status"], &stored["content"]), (&json!("cancelled"), &json!("Half a")));
    let again = ada.post(&format!("{message}cancel/"), &json!({})).await;
    assert_eq!((again.status, again.json()), (StatusCode::OK, stored));
}

#[tokio::test]
async fn a_question_can_be_answered_again_once_its_answer_has_ended() {
    let (generator, mut answers) = dictated();
    let api = TestApi::answering(&[], generator).await;
    let mut ada = api.user("ada").await;
    let chat = chat(&mut ada).await;
    let (first, path) = ask(&mut ada, &chat, "Why?").await;
    let stream = EventStream::open(&ada, &path, None).await;
    let (_, pen) = answers.recv().await.unwrap();
    let regenerate = format!("{first}regenerate/");
    assert_eq!(ada.post(&regenerate, &json!({})).await.status, StatusCode::CONFLICT);
    say(&pen, "Because.");
    pen.send(Ok(DONE)).unwrap();
    stream.rest().await;

    let asked = ada.post(&regenerate, &json!({})).await;
    assert_eq!(asked.status, StatusCode::CREATED);
    assert_eq!(asked.json()["message"]["content"], "Why?");
    let (second, path) = announced(&chat, &asked.json());
    let stream = EventStream::open(&ada, &path, None).await;
    let (prompt, pen) = answers.recv().await.unwrap();
    assert_eq!((prompt.question.as_str(), prompt.previous_question), ("Why?", None));
    say(&pen, "For other reasons.");
    pen.send(Ok(DONE)).unwrap();
    assert_eq!(text(&stream.rest().await), "For other reasons.");
    assert_eq!(ada.get(&first).await.json()["content"], "Because.");
    assert_eq!(ada.get(&second).await.json()["content"], "For other reasons.");
}

#[tokio::test]
async fn a_follow_up_knows_the_question_before_it() {
    let (generator, mut answers) = dictated();
    let api = TestApi::answering(&[], generator).await;
    let mut ada = api.user("ada").await;
    let chat = chat(&mut ada).await;
    let saved = ada.post(&format!("{chat}messages/"), &json!({ "content": "First?", "answer": false })).await;
    assert_eq!(saved.json()["answer"], json!(null));
    let (_, path) = ask(&mut ada, &chat, "And then?").await;
    let _stream = EventStream::open(&ada, &path, None).await;
    let (prompt, _) = answers.recv().await.unwrap();
    assert_eq!(prompt.previous_question.as_deref(), Some("First?"));
}

#[tokio::test]
async fn another_node_relays_an_answer_and_passes_a_cancellation_on() {
    let (generator, mut answers) = dictated();
    let api = TestApi::answering(&[], generator).await;
    let mut ada = api.user("ada").await;
    let other = api.second_node(&[]);
    let mut ada_there = other.adopt(&ada);
    let chat = chat(&mut ada).await;
    let (message, path) = ask(&mut ada, &chat, "?").await;
    let mut here = EventStream::open(&ada, &path, None).await;
    let (_, pen) = answers.recv().await.unwrap();
    say(&pen, "The first words come from here. ");
    let first = [here.next().await.unwrap(), here.next().await.unwrap()];

    let mut there = EventStream::open(&ada_there, &path, Some(first[1].id)).await;
    say(&pen, "The second ones are read there.");
    let second = there.next().await.unwrap();
    assert_eq!(second, here.next().await.unwrap());
    assert_eq!(ada_there.post(&format!("{message}cancel/"), &json!({})).await.status, StatusCode::ACCEPTED);

    let ends = [here.rest().await, there.rest().await];
    assert_eq!(ends[0], ends[1]);
    assert_eq!(ends[0].last().unwrap().data["finish_reason"], "cancelled");
    let stored = ada_there.get(&message).await.json();
    assert_eq!(stored["content"], "The first words come from here. The second ones are read there.");
}

#[tokio::test]
async fn an_answer_whose_node_dies_is_interrupted_by_another_with_what_was_written() {
    let generator = Generator::Supplied(Arc::new(|_| {
        let words = stream::iter([Ok(Piece::Text("These words are the last ones.".into()))]);
        // Holds until the words are stored, then takes the task down.
        let death = stream::once(async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            panic!("the generator dies, as it is meant to in this test")
        });
        words.chain(death).boxed()
    }));
    let api = TestApi::answering(&[SHORT_LEASE], generator).await;
    let mut ada = api.user("ada").await;
    let chat = chat(&mut ada).await;
    let (message, path) = ask(&mut ada, &chat, "?").await;
    let started = Instant::now();
    let events = EventStream::open(&ada, &path, None).await.rest().await;
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    let last = events.last().unwrap();
    assert_eq!((last.name.as_str(), &last.data["code"]), ("error", &json!("interrupted")));
    assert_eq!(last.data["retryable"], json!(true));
    assert_eq!(events.iter().filter(|event| ["done", "error"].contains(&event.name.as_str())).count(), 1);
    let stored = ada.get(&message).await.json();
    assert_eq!((&stored["status"], &stored["content"]), (&json!("interrupted"), &json!(text(&events))));
    assert_eq!(text(&events), "These words are the last ones.");
}

#[tokio::test]
async fn an_answer_that_is_broken_off_is_interrupted_and_an_empty_one_has_failed() {
    let (generator, mut answers) = dictated();
    let api = TestApi::answering(&[], generator).await;
    let mut ada = api.user("ada").await;
    let chat = chat(&mut ada).await;
    for (words, ends, code, status) in
        [("Half a", false, "interrupted", "interrupted"), ("", true, "empty_answer", "failed")]
    {
        let (message, path) = ask(&mut ada, &chat, "?").await;
        let stream = EventStream::open(&ada, &path, None).await;
        let (_, pen) = answers.recv().await.unwrap();
        say(&pen, words);
        if ends {
            pen.send(Ok(DONE)).unwrap();
        }
        drop(pen);
        assert_eq!(stream.rest().await.last().unwrap().data["code"], code);
        assert_eq!(ada.get(&message).await.json()["status"], status);
    }
}

#[tokio::test]
async fn draining_lets_answers_end_until_the_deadline_and_then_stores_them_as_interrupted() {
    let (generator, mut answers) = dictated();
    let api = TestApi::answering(&[], generator).await;
    let mut ada = api.user("ada").await;
    let chat = chat(&mut ada).await;
    let (short, path) = ask(&mut ada, &chat, "A short one?").await;
    let short_stream = EventStream::open(&ada, &path, None).await;
    let (_, short_pen) = answers.recv().await.unwrap();
    let (long, path) = ask(&mut ada, &chat, "A long one?").await;
    let long_stream = EventStream::open(&ada, &path, None).await;
    let (_, long_pen) = answers.recv().await.unwrap();
    say(&long_pen, "On and on");

    let drain = api.app.answers.drain(Duration::from_secs(1));
    let end = async {
        say(&short_pen, "Yes.");
        short_pen.send(Ok(DONE)).unwrap();
        short_stream.rest().await
    };
    let ((), events) = tokio::join!(drain, end);
    assert_eq!(events.last().unwrap().name, "done");
    assert_eq!(ada.get(&short).await.json()["status"], "complete");
    let events = long_stream.rest().await;
    assert_eq!(events.last().unwrap().data["retryable"], json!(true));
    let stored = ada.get(&long).await.json();
    assert_eq!((&stored["status"], &stored["content"]), (&json!("interrupted"), &json!("On and on")));
}

#[tokio::test]
async fn the_stream_of_a_deleted_chat_is_closed() {
    let (generator, mut answers) = dictated();
    let api = TestApi::answering(&[], generator).await;
    let mut ada = api.user("ada").await;
    let chat = chat(&mut ada).await;
    let (_, path) = ask(&mut ada, &chat, "?").await;
    let stream = EventStream::open(&ada, &path, None).await;
    let (_, pen) = answers.recv().await.unwrap();
    assert_eq!(ada.delete(&chat).await.status, StatusCode::NO_CONTENT);
    let closed = tokio::time::timeout(Duration::from_secs(10), stream.rest());
    let events = closed.await.expect("the stream is closed");
    assert!(events.iter().all(|event| !["done", "error"].contains(&event.name.as_str())));
    assert!(pen.is_closed());
    assert_eq!(ada.get(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_answer_whose_journal_is_gone_is_told_again() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let collection = own_collection(&mut ada).await;
    publish(&api, collection, "Handbook", &[("The notice period is three months.", None)]).await;
    let chat = chat(&mut ada).await;
    let (_, path) = ask(&mut ada, &chat, "How long is the notice period?").await;
    let events = EventStream::open(&ada, &path, None).await.rest().await;
    let client = api.app.store.primary().await.unwrap();
    agent::store::journal::prune(&client, Duration::ZERO).await.unwrap();
    let told = EventStream::open(&ada, &path, Some(3)).await.rest().await;
    assert_eq!(told[0].name, "meta");
    assert_eq!(text(&told), text(&events));
    assert_eq!(told.last().unwrap().data, events.last().unwrap().data);
    assert!(told.iter().any(|event| event.name == "citation"));
}

#[tokio::test]
async fn only_the_owner_reads_a_stream_and_only_answers_have_one() {
    let api = TestApi::new().await;
    let mut ada = api.user("ada").await;
    let mut bob = api.user("bob").await;
    let chat = chat(&mut ada).await;
    let (message, path) = ask(&mut ada, &chat, "?").await;
    for path in [&path, &message] {
        assert_eq!(bob.get(path).await.status, StatusCode::NOT_FOUND);
    }
    for verb in ["cancel", "regenerate"] {
        assert_eq!(bob.post(&format!("{message}{verb}/"), &json!({})).await.status, StatusCode::NOT_FOUND);
    }
    let messages = ada.get(&format!("{chat}messages/")).await.json();
    let question = messages["results"][0]["id"].as_str().unwrap();
    let no_stream = ada.get(&format!("{chat}messages/{question}/stream/")).await;
    assert_eq!(no_stream.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn open_streams_hold_no_database_connection() {
    let (generator, mut answers) = dictated();
    let api = TestApi::answering(&[("throttle.enabled", "false")], generator).await;
    let mut ada = api.user("ada").await;
    let chat = chat(&mut ada).await;
    let mut open = Vec::new();
    // Several times the connections of the pool.
    for _ in 0..40 {
        let (_, path) = ask(&mut ada, &chat, "?").await;
        let stream = EventStream::open(&ada, &path, None).await;
        open.push((stream, answers.recv().await.unwrap()));
    }
    let started = Instant::now();
    assert_eq!(ada.get("/api/chats/").await.status, StatusCode::OK);
    assert!(started.elapsed() < Duration::from_secs(1));
}
