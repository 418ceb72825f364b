//! Documents over HTTP: what is accepted, what is refused, who may see and change what.

use std::fs;
use std::path::Path;
use std::time::Duration;

use agent::rag::extract::Reason;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::api::{Browser, TestApi};
use crate::support::documents::{Form, accepted, settled, slow_form, submit, upload};
use crate::support::fault_proxy::FaultProxy;
use crate::support::library::{own_collection, publish};

const GUIDE: &str = "# Pump guide\n\n## Starting\n\nOpen the inlet valve, then press the green button.\n";

fn originals(folder: &Path) -> usize {
    let folders = fs::read_dir(folder).unwrap().flatten();
    folders.map(|folder| fs::read_dir(folder.path()).unwrap().count()).sum()
}

#[tokio::test]
async fn an_upload_becomes_a_document_that_can_be_read_back() {
    let api = TestApi::new().await;
    api.start_ingestion(None);
    let mut ann = api.user("ann").await;
    let answer = upload(&mut ann, "guide.md", GUIDE.as_bytes()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let accepted = answer.json();
    assert_eq!((&accepted["status"], &accepted["duplicate_of"]), (&json!("queued"), &Value::Null));
    let path = answer.header("location").to_owned();

    let document = settled(&api, &mut ann, accepted["id"].as_str().unwrap()).await;
    assert_eq!(document["status"], "ready");
    assert_eq!(document["title"], "Pump guide");
    assert_eq!(document["media_type"], "text/markdown");
    assert_eq!((&document["chunk_count"], &document["reason"]), (&json!(1), &Value::Null));

    let content = ann.get(&format!("{path}content/")).await;
    assert_eq!(content.text(), GUIDE);
    assert_eq!(content.header("content-disposition"), "attachment; filename=\"guide.md\"");
    assert_eq!(content.header("x-content-type-options"), "nosniff");
    assert!(content.header("content-security-policy").starts_with("sandbox"));
    let text = ann.get(&format!("{path}text/")).await;
    assert_eq!((text.text(), text.header("content-type")), (GUIDE, "text/plain; charset=utf-8"));
}

#[tokio::test]
async fn the_same_bytes_again_are_the_same_document_until_it_is_deleted() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let first = accepted(&mut ann, "a.txt", b"same").await;
    let again = upload(&mut ann, "b.txt", b"same").await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!((&again.json()["id"], &again.json()["duplicate_of"]), (&json!(first), &json!(first)));
    assert_eq!(originals(api.originals()), 1);
    assert_eq!(ann.delete(&format!("/api/documents/{first}/")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(upload(&mut ann, "a.txt", b"same").await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn forms_that_are_wrong_get_the_sentences_of_drf() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let file = || Form::default().file("file", "a.txt", b"text");
    let unknown = uuid::Uuid::now_v7().to_string();
    let missing = format!("Invalid pk \"{unknown}\" - object does not exist.");
    let not_a_file = "The submitted data was not a file. Check the encoding type on the form.";
    for (form, expected) in [
        (Form::default(), json!({ "file": ["No file was submitted."] })),
        (Form::default().file("document", "a.txt", b"x"), json!({ "file": ["No file was submitted."] })),
        (Form::default().text("file", "text"), json!({ "file": [not_a_file] })),
        (Form::default().file("file", "..", b"x"), json!({ "file": ["No filename could be determined."] })),
        (file().file("file", "b.txt", b"x"), json!({ "file": ["Submit one file at a time."] })),
        (file().text("collection", "x"), json!({ "collection": ["Must be a valid UUID."] })),
        (file().text("collection", &unknown), json!({ "collection": [missing] })),
    ] {
        let answer = submit(&mut ann, form.finish()).await;
        assert_eq!((answer.status, answer.json()), (StatusCode::BAD_REQUEST, expected));
    }
    let json = ann.post("/api/documents/", &json!({})).await;
    assert_eq!(json.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(json.json(), json!({ "detail": "Unsupported media type \"application/json\" in request." }));
    assert_eq!(ann.get("/api/documents/").await.json()["count"], 0);
    assert_eq!(originals(api.originals()), 0);
}

#[tokio::test]
async fn a_file_over_the_limit_or_cut_off_leaves_nothing_behind() {
    let api = TestApi::with(&[("upload.bytes_max", "64KiB"), ("upload.text_bytes_max", "64KiB")]).await;
    let mut ann = api.user("ann").await;
    let limit = 64 * 1024;
    assert_eq!(upload(&mut ann, "a.txt", &vec![b'a'; limit]).await.status, StatusCode::ACCEPTED);
    let over = upload(&mut ann, "b.txt", &vec![b'b'; limit + 1]).await;
    assert_eq!(over.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(over.json(), json!({ "detail": "The file is larger than 65536 bytes." }));

    let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 8192])));
    let start = Form::default().file("file", "c.txt", b"").unfinished();
    let start = Bytes::from(start[..start.len() - 2].to_vec());
    let endless = Body::from_stream(stream::iter([Ok(start.clone())]).chain(endless));
    assert_eq!(submit(&mut ann, endless).await.status, StatusCode::PAYLOAD_TOO_LARGE);

    let cut = submit(&mut ann, Form::default().file("file", "d.txt", b"half a fi").unfinished()).await;
    assert_eq!(cut.status, StatusCode::BAD_REQUEST);
    let broken = stream::iter([Ok(start), Err(std::io::Error::other("reset"))]);
    assert_eq!(submit(&mut ann, Body::from_stream(broken)).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(originals(api.originals()), 1);
    assert_eq!(ann.get("/api/documents/").await.json()["count"], 1);
}

#[tokio::test]
async fn uploads_are_throttled_per_person() {
    let api = TestApi::with(&[("upload.burst", "2")]).await;
    let (mut ann, mut bob) = (api.user("ann").await, api.user("bob").await);
    for text in ["one", "two"] {
        accepted(&mut ann, "a.txt", text.as_bytes()).await;
    }
    let third = upload(&mut ann, "a.txt", b"three").await;
    assert_eq!(third.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(!third.header("retry-after").is_empty());
    accepted(&mut bob, "a.txt", b"one").await;
}

#[tokio::test]
async fn an_upload_over_the_number_at_a_time_is_refused_until_one_ends() {
    let api = TestApi::with(&[("upload.concurrent_max", "1")]).await;
    let (mut ann, mut bob) = (api.user("ann").await, api.user("bob").await);
    let (slow, has_started, finish) = slow_form(b"text");
    let (answer, ()) = tokio::join!(submit(&mut ann, slow), async {
        has_started.await.unwrap();
        let refused = upload(&mut bob, "b.txt", b"text").await;
        assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "5"));
        finish.send(()).unwrap();
    });
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    accepted(&mut bob, "b.txt", b"text").await;
}

#[tokio::test]
async fn one_person_holds_a_quarter_of_the_uploads_at_a_time() {
    let api = TestApi::with(&[("upload.concurrent_max", "8")]).await;
    let (mut ann, mut bob) = (api.user("ann").await, api.user("bob").await);
    let (mut first_tab, mut second_tab) = (ann.clone(), ann.clone());
    let (first, first_started, finish_first) = slow_form(b"one");
    let (second, second_started, finish_second) = slow_form(b"two");
    let others = async {
        first_started.await.unwrap();
        second_started.await.unwrap();
        let refused = upload(&mut ann, "a.txt", b"three").await;
        assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "5"));
        accepted(&mut bob, "b.txt", b"text").await;
        finish_first.send(()).unwrap();
        finish_second.send(()).unwrap();
    };
    let (one, two, ()) = tokio::join!(submit(&mut first_tab, first), submit(&mut second_tab, second), others);
    assert_eq!((one.status, two.status), (StatusCode::ACCEPTED, StatusCode::ACCEPTED));
    accepted(&mut ann, "a.txt", b"three").await;
}

/// Gives `username` a role in the first collection of `owner`. Returns the collection's id.
async fn share(owner: &mut Browser, username: &str, role: &str) -> String {
    let id = owner.get("/api/collections/").await.json()["results"][0]["id"].as_str().unwrap().to_owned();
    let member = json!({ "username": username, "role": role });
    let path = format!("/api/collections/{id}/members/");
    assert_eq!(owner.post(&path, &member).await.status, StatusCode::CREATED);
    id
}

#[tokio::test]
async fn viewers_read_editors_change_and_strangers_see_nothing() {
    let api = TestApi::new().await;
    let (mut ann, mut eve, mut vic, mut bob) =
        (api.user("ann").await, api.user("eve").await, api.user("vic").await, api.user("bob").await);
    let collection = share(&mut ann, "eve", "editor").await;
    share(&mut ann, "vic", "viewer").await;
    let form = |text: &str| {
        Form::default().text("collection", &collection).file("file", "a.txt", text.as_bytes()).finish()
    };
    let by_editor = submit(&mut eve, form("one")).await;
    assert_eq!(by_editor.status, StatusCode::ACCEPTED);
    let path = by_editor.header("location").to_owned();
    assert_eq!(submit(&mut vic, form("two")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(submit(&mut bob, form("two")).await.status, StatusCode::BAD_REQUEST);

    assert_eq!(vic.get(&path).await.status, StatusCode::OK);
    assert_eq!(vic.delete(&path).await.status, StatusCode::FORBIDDEN);
    assert_eq!(bob.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(bob.delete(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(bob.get("/api/documents/").await.json()["count"], 0);
    assert_eq!(eve.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(ann.get(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn lists_are_filtered_and_searched() {
    let api = TestApi::new().await;
    api.start_ingestion(None);
    let mut ann = api.user("ann").await;
    let good = accepted(&mut ann, "50%_guide.md", GUIDE.as_bytes()).await;
    let bad = accepted(&mut ann, "empty.txt", b"").await;
    settled(&api, &mut ann, &good).await;
    settled(&api, &mut ann, &bad).await;
    let collection =
        ann.get("/api/collections/").await.json()["results"][0]["id"].as_str().unwrap().to_owned();
    let other = uuid::Uuid::now_v7();
    for (query, count) in [
        (String::new(), 2),
        ("?status=failed".to_owned(), 1),
        ("?search=PUMP".to_owned(), 1),
        ("?search=50%25_g".to_owned(), 1),
        ("?search=%25".to_owned(), 1),
        ("?search=_empty".to_owned(), 0),
        (format!("?collection={collection}&status=ready"), 1),
        (format!("?collection={other}"), 0),
    ] {
        assert_eq!(ann.get(&format!("/api/documents/{query}")).await.json()["count"], count, "{query}");
    }
    let wrong = ann.get("/api/documents/?status=done&collection=x").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let message = "Select a valid choice. done is not one of the available choices.";
    assert_eq!(wrong.json(), json!({ "collection": ["Enter a valid UUID."], "status": [message] }));
    assert_eq!(ann.get("/api/documents/?status=a&status=b").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_failed_document_says_why_and_can_be_tried_again_or_deleted() {
    let api = TestApi::new().await;
    api.start_ingestion(None);
    let mut ann = api.user("ann").await;
    let id = accepted(&mut ann, "scan.pdf", b"%PDF-1.7 ...").await;
    let path = format!("/api/documents/{id}/");
    let failed = settled(&api, &mut ann, &id).await;
    assert_eq!((&failed["status"], &failed["reason"]), (&json!("failed"), &json!("unsupported_type")));
    assert_eq!(ann.get(&format!("{path}text/")).await.status, StatusCode::NOT_FOUND);
    let again = ann.post(&format!("{path}retry/"), &json!({})).await;
    assert_eq!((again.status, &again.json()["status"]), (StatusCode::ACCEPTED, &json!("queued")));
    assert_eq!(settled(&api, &mut ann, &id).await["status"], "failed");

    let good = accepted(&mut ann, "a.txt", b"text").await;
    settled(&api, &mut ann, &good).await;
    let refused = ann.post(&format!("/api/documents/{good}/retry/"), &json!({})).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(ann.delete(&path).await.status, StatusCode::NO_CONTENT);
}

/// Opens the stream of a browser's documents and reads until `stop` is in it.
async fn events_until(browser: &Browser, stop: &str) -> String {
    read_until(browser.open("/api/documents/events/").await, stop).await
}

/// Reads a stream until `stop` is in it.
async fn read_until(stream: Response, stop: &str) -> String {
    let mut body = stream.into_body().into_data_stream();
    let mut text = String::new();
    let read = async {
        while !text.contains(stop) {
            text.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.unwrap_or_else(|_| panic!("no {stop}"));
    text
}

#[tokio::test]
async fn events_tell_what_is_unfinished_and_then_every_change() {
    let api = TestApi::new().await;
    let (mut ann, mut bob) = (api.user("ann").await, api.user("bob").await);
    let id = accepted(&mut ann, "a.md", GUIDE.as_bytes()).await;
    let gone = accepted(&mut ann, "b.md", b"other").await;
    accepted(&mut bob, "c.md", b"somebody else's").await;

    let snapshot = events_until(&ann, "\n\nid: ").await;
    assert!(snapshot.contains("event: snapshot") && snapshot.contains(&id) && snapshot.contains(&gone));
    assert!(!snapshot.contains("c.md"));

    let watching = tokio::join!(events_until(&ann, "\"status\":\"ready\""), async {
        ann.clone().delete(&format!("/api/documents/{gone}/")).await;
        api.start_ingestion(None);
    });
    let text = watching.0;
    assert!(text.contains(&format!("event: deleted\ndata: {{\"id\":\"{gone}\"}}")), "{text}");
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with(':') || line.contains(": ")));
}

#[tokio::test]
async fn events_of_another_node_show_within_seconds_and_nothing_is_missed_between_streams() {
    let api = TestApi::new().await;
    let other = api.second_node(&[]);
    let mut ann = api.user("ann").await;
    let before = jiff::Timestamp::now().as_microsecond().to_string();
    let id = accepted(&mut ann, "a.md", GUIDE.as_bytes()).await;
    let (text, ()) =
        tokio::join!(events_until(&ann, "\"status\":\"ready\""), async { other.start_ingestion(None) });
    assert!(text.contains(&id));
    let fresh = events_until(&ann, "snapshot").await;
    assert!(!fresh.contains(&id));
    let back = events_until(&ann.with("last-event-id", &before), "\"status\":\"ready\"").await;
    assert!(back.contains(&id));
}

#[tokio::test]
async fn a_change_that_was_under_way_when_a_stream_ended_is_told_by_the_next() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let id = accepted(&mut ann, "a.md", GUIDE.as_bytes()).await;
    let mut client = api.app.store.primary().await.unwrap();
    let publication = client.transaction().await.unwrap();
    let sql = "update documents set status = 'failed', reason = 'crashed', updated_at = now()";
    publication.execute(sql, &[]).await.unwrap();
    let last = jiff::Timestamp::now().as_microsecond().to_string();
    publication.commit().await.unwrap();
    let back = events_until(&ann.with("last-event-id", &last), "snapshot").await;
    assert!(back.contains(&id) && back.contains("\"status\":\"failed\""), "{back}");
}

#[tokio::test]
async fn the_deletion_of_a_finished_document_is_told() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let collection = own_collection(&mut ann).await;
    let [gone, kept] = [
        publish(&api, collection, "gone", &[("some words", None)]).await,
        publish(&api, collection, "kept", &[("more words", None)]).await,
    ];
    let client = api.app.store.primary().await.unwrap();
    client.execute("update documents set updated_at = now() - interval '1 day'", &[]).await.unwrap();
    let stream = ann.open("/api/documents/events/").await;
    assert_eq!(ann.delete(&format!("/api/documents/{gone}/")).await.status, StatusCode::NO_CONTENT);
    let text = read_until(stream, "event: deleted").await;
    assert!(
        text.contains(&format!("data: {{\"id\":\"{gone}\"}}")) && !text.contains(&kept.to_string()),
        "{text}"
    );
}

#[tokio::test]
async fn a_stream_ends_soon_after_its_token_or_session() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let token = ann.post("/api/auth/tokens/", &json!({ "name": "script" })).await.json();
    let secret = token["token"].as_str().unwrap();
    let script = api.visitor().with("authorization", &format!("Token {secret}"));
    let [by_token, by_session] =
        [script, ann.clone()].map(async |client| client.open("/api/documents/events/").await);
    let streams = [by_token.await, by_session.await];
    let path = format!("/api/auth/tokens/{}/", token["id"].as_str().unwrap());
    assert_eq!(ann.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(ann.clone().post("/api/auth/logout/", &json!({})).await.status, StatusCode::NO_CONTENT);
    for stream in streams {
        let end = axum::body::to_bytes(stream.into_body(), 10_000);
        tokio::time::timeout(Duration::from_secs(20), end).await.expect("the stream ends").unwrap();
    }
}

#[test]
fn every_reason_is_documented_and_no_other() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md")).unwrap();
    let (_, table) = page.split_once("| `reason` |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let documented: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    assert_eq!(documented, Reason::ALL.map(Reason::code));
}

#[tokio::test]
async fn without_its_database_a_node_acknowledges_nothing_and_loses_nothing() {
    let api = TestApi::new().await;
    let wire = FaultProxy::new(api.database_url()).await;
    let node = api.node_at(&wire.url(), &[("database_acquire_timeout", "500ms")]);
    let ann = api.user("ann").await;
    let mut ann = node.adopt(&ann);
    let early = accepted(&mut ann, "early.txt", b"stored before the outage").await;

    wire.cut();
    let refused = upload(&mut ann, "during.txt", b"sent in the outage").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!refused.header("retry-after").is_empty());
    node.start_ingestion(None);

    wire.restore();
    assert_eq!(settled(&node, &mut ann, &early).await["status"], "ready");
    let late = accepted(&mut ann, "during.txt", b"sent in the outage").await;
    assert_eq!(settled(&node, &mut ann, &late).await["status"], "ready");
    assert_eq!(ann.get("/api/documents/").await.json()["count"], 2);
}
