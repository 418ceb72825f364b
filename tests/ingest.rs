//! Ingestion behind the API: every kind of file, every kind of trouble, several nodes.

use std::fmt::Write as _;
use std::time::Duration;

use agent::rag::embed::Embedder;
use agent::store::Client;
use agent::store::documents::Status;
use agent::store::ids::UserId;
use agent::store::jobs::{self, Kind};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::api::{Browser, TestApi};
use crate::support::documents::{accepted, settled};
use crate::support::model;

const LEASE: Duration = Duration::from_secs(30);

async fn outcome(api: &TestApi, ann: &mut Browser, name: &str, content: &[u8]) -> (Value, Value) {
    let id = accepted(ann, name, content).await;
    let document = settled(api, ann, &id).await;
    (document["status"].clone(), document["reason"].clone())
}

#[tokio::test]
async fn bad_files_fail_with_their_reason_and_good_ones_after_them_are_ready() {
    let api = TestApi::with(&[("upload.text_bytes_max", "64KiB")]).await;
    api.start_ingestion(None);
    let mut ann = api.user("ann").await;
    let deep_html = "<div>".repeat(5000) + "x";
    let deep_quotes = ">".repeat(5000) + " x";
    let noise: Vec<u8> = (0..4000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("empty.txt", Vec::new(), "empty"),
        ("blank.txt", b" \n\t\n".to_vec(), "empty"),
        ("blank.html", b"<html><script>1</script></html>".to_vec(), "empty"),
        ("scan.txt", b"%PDF-1.4".to_vec(), "unsupported_type"),
        ("noise.txt", noise, "not_text"),
        ("long.txt", "long text ".repeat(7000).into_bytes(), "text_too_long"),
        ("huge.txt", "huge text ".repeat(30_000).into_bytes(), "too_large"),
        ("deep.html", deep_html.into_bytes(), "too_deep"),
        ("deep.md", deep_quotes.into_bytes(), "too_deep"),
    ];
    for (name, content, reason) in cases {
        assert_eq!(outcome(&api, &mut ann, name, &content).await, (json!("failed"), json!(reason)), "{name}");
    }
    let latin =
        "Gr\u{fc}\u{df}e aus K\u{f6}ln, sch\u{f6}ne Gr\u{fc}\u{df}e an alle dort \u{fc}ber dem Flu\u{df}.";
    let latin = encoding_rs::WINDOWS_1252.encode(latin).0.into_owned();
    assert_eq!(outcome(&api, &mut ann, "latin.txt", &latin).await, (json!("ready"), Value::Null));
}

#[tokio::test]
async fn an_original_that_is_lost_fails_its_document_only() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let id = accepted(&mut ann, "a.txt", b"one").await;
    for folder in std::fs::read_dir(api.originals()).unwrap() {
        std::fs::remove_dir_all(folder.unwrap().path()).unwrap();
    }
    api.start_ingestion(None);
    assert_eq!(settled(&api, &mut ann, &id).await["reason"], "storage_lost");
    assert_eq!(outcome(&api, &mut ann, "b.txt", b"two").await.0, json!("ready"));
}

#[tokio::test]
async fn a_document_that_takes_every_node_down_is_given_up() {
    let api = TestApi::with(&[("ingest.attempts_max", "3")]).await;
    let mut ann = api.user("ann").await;
    let id = accepted(&mut ann, "a.txt", b"one").await;
    // Three nodes that took the job and were never heard of again.
    let client = api.app.store.primary().await.unwrap();
    for _ in 0..3 {
        assert!(jobs::claim(&client, &[Kind::Ingest], Duration::ZERO, &[], &[]).await.unwrap().is_some());
    }
    drop(client);
    api.start_ingestion(None);
    let document = settled(&api, &mut ann, &id).await;
    assert_eq!((&document["status"], &document["reason"]), (&json!("failed"), &json!("crashed")));
}

#[tokio::test]
async fn one_persons_many_documents_do_not_delay_anothers() {
    let api = TestApi::new().await;
    let (mut ann, mut bob) = (api.user("ann").await, api.user("bob").await);
    for i in 0..10 {
        accepted(&mut ann, "a.txt", format!("text {i}").as_bytes()).await;
    }
    let bobs = accepted(&mut bob, "b.txt", b"text").await;
    let client = api.app.store.primary().await.unwrap();
    let first = jobs::claim(&client, &[Kind::Ingest], LEASE, &[], &[]).await.unwrap().unwrap();
    let served: Vec<UserId> = first.owner.into_iter().collect();
    let second = jobs::claim(&client, &[Kind::Ingest], LEASE, &served, &[]).await.unwrap().unwrap();
    assert_eq!(second.document.to_string(), bobs);
}

#[tokio::test]
async fn one_persons_long_documents_leave_a_worker_for_another() {
    let api = TestApi::with(&[("ingest.workers", "2")]).await;
    api.start_ingestion(Some(model::embedder()));
    let (mut ann, mut bob) = (api.user("ann").await, api.user("bob").await);
    let text = "A sentence that takes a moment to embed. ".repeat(15_000);
    let long = accepted(&mut ann, "long.txt", text.as_bytes()).await;
    let longer = accepted(&mut ann, "longer.txt", format!("{text} More.").as_bytes()).await;
    until_embedding(&api, &mut ann, &long).await;
    let bobs = accepted(&mut bob, "b.txt", b"text").await;
    assert_eq!(settled(&api, &mut bob, &bobs).await["status"], "ready");
    for (id, status) in [(long, "embedding"), (longer, "queued")] {
        assert_eq!(ann.get(&format!("/api/documents/{id}/")).await.json()["status"], status);
    }
    assert_eq!(api.app.tasks.stop(Duration::from_secs(10)).await, 0);
}

#[tokio::test]
async fn a_node_that_lost_its_lease_changes_nothing_any_more() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let id = accepted(&mut ann, "a.txt", b"one").await;
    let client = api.app.store.primary().await.unwrap();
    let slow = jobs::claim(&client, &[Kind::Ingest], Duration::ZERO, &[], &[]).await.unwrap().unwrap();
    let other = jobs::claim(&client, &[Kind::Ingest], LEASE, &[], &[]).await.unwrap().unwrap();
    assert_eq!((slow.id, other.attempts), (other.id, 2));
    assert!(!jobs::renew(&client, &slow, LEASE).await.unwrap());
    jobs::fail(&client, &slow, "crashed").await.unwrap();
    jobs::give_back(&client, &slow, Duration::ZERO, true).await.unwrap();
    assert!(jobs::renew(&client, &other, LEASE).await.unwrap());
    assert_eq!(ann.get(&format!("/api/documents/{id}/")).await.json()["status"], "queued");
}

#[tokio::test]
async fn many_documents_on_two_nodes_are_each_published_once() {
    let api = TestApi::new().await;
    let other = api.second_node(&[]);
    let mut ann = api.user("ann").await;
    api.start_ingestion(None);
    other.start_ingestion(None);
    let mut ids = Vec::new();
    for i in 0..40 {
        let mut text = format!("# Report {i}\n\n");
        (0..200).for_each(|line| writeln!(text, "Line {line} of report {i} says something.").unwrap());
        ids.push(accepted(&mut ann, "report.md", text.as_bytes()).await);
    }
    for id in &ids {
        let document = eventually_settled(&mut ann, id).await;
        assert_eq!(document["status"], "ready", "{document}");
    }
    let client = api.app.store.primary().await.unwrap();
    let sql =
        "select count(*), count(distinct (document_id, ordinal)), count(distinct document_id), max(version)
               from chunks";
    let row = client.query_one(sql, &[]).await.unwrap();
    let (chunks, ordinals, documents, version) =
        (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2), row.get::<_, i32>(3));
    assert_eq!((chunks, documents, version), (ordinals, 40, 1));
    assert_eq!(client.query_one("select count(*) from jobs", &[]).await.unwrap().get::<_, i64>(0), 0);
}

/// Waits until passages of a document are being embedded.
async fn until_embedding(api: &TestApi, browser: &mut Browser, id: &str) {
    let mut changes = api.app.ingest.changes();
    while browser.get(&format!("/api/documents/{id}/")).await.json()["status"] != "embedding" {
        changes.changed().await.unwrap();
    }
}

/// As [`settled`], where another node may do the work, of which this one hears nothing.
async fn eventually_settled(browser: &mut Browser, id: &str) -> Value {
    let wait = async {
        loop {
            let document = browser.get(&format!("/api/documents/{id}/")).await.json();
            if document["status"] == "ready" || document["status"] == "failed" {
                return document;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("every document is settled")
}

#[tokio::test]
async fn a_document_deleted_while_it_is_worked_on_leaves_no_row_and_no_original() {
    let api = TestApi::new().await;
    api.start_ingestion(None);
    let mut ann = api.user("ann").await;
    for i in 0..20 {
        let id = accepted(&mut ann, "a.txt", format!("text {i} ").repeat(500).as_bytes()).await;
        assert_eq!(ann.delete(&format!("/api/documents/{id}/")).await.status, 204);
    }
    let client = api.app.store.primary().await.unwrap();
    let sql = "select (select count(*) from documents) + (select count(*) from chunks) + (select count(*) from jobs)
                    + (select count(*) from document_texts)";
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 0);
    let gone = async {
        let left = || {
            let folders = std::fs::read_dir(api.originals()).unwrap().flatten();
            folders.map(|folder| std::fs::read_dir(folder.path()).unwrap().count()).sum::<usize>()
        };
        while left() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("originals are removed");
}

#[tokio::test]
async fn a_node_that_stops_gives_its_work_back_without_counting_it() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let text = "A sentence that takes a moment to embed. ".repeat(20_000);
    let id = accepted(&mut ann, "long.txt", text.as_bytes()).await;
    api.start_ingestion(Some(model::embedder()));
    until_embedding(&api, &mut ann, &id).await;
    assert_eq!(api.app.tasks.stop(Duration::from_secs(10)).await, 0);
    assert_eq!(ann.get(&format!("/api/documents/{id}/")).await.json()["status"], "queued");
    let client = api.app.store.primary().await.unwrap();
    let job = jobs::claim(&client, &[Kind::Ingest], LEASE, &[], &[]).await.unwrap().unwrap();
    assert_eq!(job.attempts, 1);
}

#[tokio::test]
async fn a_searchable_document_whose_embedding_is_given_up_stays_searchable_and_is_not_tried_for_ever() {
    let api = TestApi::new().await;
    api.start_ingestion(None);
    let mut ann = api.user("ann").await;
    let id = accepted(&mut ann, "a.txt", b"one").await;
    settled(&api, &mut ann, &id).await;
    let client = api.app.store.primary().await.unwrap();
    assert_eq!(jobs::queue_embeddings(&client, 10).await.unwrap(), 1);
    let job = jobs::claim(&client, &[Kind::Embed], LEASE, &[], &[]).await.unwrap().unwrap();
    jobs::fail(&client, &job, "embedding_failed").await.unwrap();
    assert_eq!(jobs::queue_embeddings(&client, 10).await.unwrap(), 0);
    assert!(jobs::claim(&client, &[Kind::Embed], LEASE, &[], &[]).await.unwrap().is_none());
    assert_eq!(jobs::count_waiting(&client).await.unwrap(), 0);
    assert_eq!(ann.get(&format!("/api/documents/{id}/")).await.json()["status"], "ready");
}

/// Waits until a statement waits for a lock that another one holds.
async fn until_blocked(client: &Client) {
    let sql = "select count(*) from pg_stat_activity
               where datname = current_database() and wait_event_type = 'Lock'";
    let blocked = async {
        while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), blocked).await.expect("a statement waits");
}

#[tokio::test]
async fn progress_that_comes_late_does_not_undo_a_publication() {
    let api = TestApi::new().await;
    let mut ann = api.user("ann").await;
    let id = accepted(&mut ann, "a.txt", b"one").await;
    let store = &api.app.store;
    let (slow, watching) = (store.primary().await.unwrap(), store.primary().await.unwrap());
    let job = jobs::claim(&slow, &[Kind::Ingest], Duration::ZERO, &[], &[]).await.unwrap().unwrap();
    // The other node has locked the document, and publishes it while the progress waits for the row.
    let mut other = store.primary().await.unwrap();
    let publication = other.transaction().await.unwrap();
    publication.execute("update documents set status = 'ready'", &[]).await.unwrap();
    publication.execute("delete from jobs", &[]).await.unwrap();
    let (noted, ()) = tokio::join!(jobs::note_progress(&slow, &job, Status::Embedding, 0.5), async {
        until_blocked(&watching).await;
        publication.commit().await.unwrap();
    });
    assert!(!noted.unwrap());
    assert_eq!(ann.get(&format!("/api/documents/{id}/")).await.json()["status"], "ready");
}

async fn vectors(api: &TestApi) -> (i64, i64, Option<i32>) {
    let client = api.app.store.primary().await.unwrap();
    let sql = "select count(*), count(embedding), (select max(generation) from documents) from chunks";
    let row = client.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

#[tokio::test]
async fn documents_that_came_before_the_model_get_their_vectors_with_it() {
    let api = TestApi::new().await;
    api.start_ingestion(None);
    let mut ann = api.user("ann").await;
    let early = accepted(&mut ann, "early.txt", b"It came before the model.").await;
    settled(&api, &mut ann, &early).await;
    assert_eq!(vectors(&api).await, (1, 0, None));

    let embedder: Embedder = model::embedder();
    let with_model = api.second_node(&[]);
    with_model.start_ingestion(Some(embedder.clone()));
    let embedded = async {
        while vectors(&api).await != (1, 1, Some(1)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), embedded).await.expect("late vectors");

    let client = api.app.store.primary().await.unwrap();
    let row = client.query_one("select embedding, version from chunks", &[]).await.unwrap();
    let stored: Vec<f32> = row
        .get::<_, &[u8]>(0)
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    let expected = embedder.embed_blocking(&["early\nIt came before the model."]).remove(0);
    let cosine: f32 = stored.iter().zip(&expected).map(|(a, b)| a * b).sum();
    assert!(cosine > 0.9999, "{cosine}");
    let version: i32 = row.get(1);
    let id: Uuid = early.parse().unwrap();
    let document = client.query_one("select version from documents where id = $1", &[&id]).await.unwrap();
    assert_eq!((version, document.get::<_, i32>(0)), (2, 2));
}
