//! What retrieval is worth, on the sample documents and their labelled questions, with the real model.
//!
//! `benches/retrieval.sh` prints the table; here it must not get worse.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use agent::index::{Mode, Query};
use agent::store::access::ReadAccess;
use agent::store::ids::ChunkId;
use agent::store::passages::{self, Passage};
use agent::store::sessions;
use serde::Deserialize;

use super::support::answers::{EventStream, ask, chat, text};
use super::support::api::{Browser, TestApi};
use super::support::documents::{accepted, settled};
use super::support::library::index_everything;
use super::support::model::embedder;

/// How deep a right passage may lie and still count as found.
const DEPTH: usize = 10;

#[derive(Deserialize)]
struct Labelled {
    question: String,
    document: String,
    passage: String,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn questions() -> Vec<Labelled> {
    serde_json::from_str(&fs::read_to_string(fixtures().join("retrieval/questions.json")).unwrap()).unwrap()
}

/// A node that has read the sample documents, and its user. Returns each document's file by its id, too.
async fn node() -> (TestApi, Browser, HashMap<String, String>) {
    let api = TestApi::with(&[("throttle.enabled", "false")]).await;
    api.start_ingestion(Some(embedder()));
    let mut ada = api.user("ada").await;
    let mut files = HashMap::new();
    for entry in fs::read_dir(fixtures().join("documents")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let id = accepted(&mut ada, &name, &fs::read(&path).unwrap()).await;
        assert_eq!(settled(&api, &mut ada, &id).await["status"], "ready");
        files.insert(id, name);
    }
    index_everything(&api).await;
    (api, ada, files)
}

/// Recall and mean reciprocal rank, both within the first [`DEPTH`] passages.
#[derive(Clone, Copy, Debug, Default)]
struct Quality {
    recall: f64,
    mrr: f64,
}

async fn quality(api: &TestApi, access: &ReadAccess, files: &HashMap<String, String>, mode: Mode) -> Quality {
    let questions = questions();
    let (mut found, mut reciprocal) = (0.0, 0.0);
    for labelled in &questions {
        let vector = embedder().query(labelled.question.clone()).await.unwrap();
        let query =
            Query { text: Some(&labelled.question), vector: Some(&vector), k: DEPTH, documents: None, mode };
        let hits = api.app.index.search(access, &query).unwrap();
        let ids: Vec<ChunkId> = hits.iter().map(|hit| hit.chunk).collect();
        let client = api.app.store.primary().await.unwrap();
        let loaded = passages::hydrate(&client, access, &ids).await.unwrap();
        let is_right = |id: &ChunkId| {
            let passage: &Passage = &loaded[id];
            files[&passage.document.to_string()] == labelled.document
                && on_one_line(&passage.text).contains(&on_one_line(&labelled.passage))
        };
        match (1..).zip(&ids).find(|(_, id)| is_right(id)) {
            Some((rank, _)) => {
                found += 1.0;
                reciprocal += 1.0 / f64::from(rank);
            }
            None => eprintln!("{mode:?} misses: {}", labelled.question),
        }
    }
    let count = f64::from(u32::try_from(questions.len()).unwrap());
    Quality { recall: found / count, mrr: reciprocal / count }
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn fusion_is_no_worse_than_vectors_or_words_alone() {
    let (api, ada, files) = node().await;
    let client = api.app.store.primary().await.unwrap();
    let access =
        sessions::authenticate_reader(&client, ada.cookie("sessionid").unwrap()).await.unwrap().unwrap();
    drop(client);
    let mut all = Vec::new();
    for mode in [Mode::Vector, Mode::Text, Mode::Fusion] {
        let quality = quality(&api, &access, &files, mode).await;
        eprintln!("{:<8} recall@{DEPTH} {:.3}  MRR {:.3}", format!("{mode:?}"), quality.recall, quality.mrr);
        all.push(quality);
    }
    let [vector, words, fusion] = all[..] else { unreachable!("three modes") };
    assert!(fusion.recall >= vector.recall.max(words.recall), "{all:?}");
    assert!(fusion.mrr >= vector.mrr.max(words.mrr), "{all:?}");
    assert!(fusion.recall >= 0.95, "{all:?}");
}

#[tokio::test]
async fn a_node_quotes_the_table_that_was_asked_for_and_nothing_where_there_is_nothing() {
    let (_api, mut ada, _) = node().await;
    let hotel = answer(&mut ada, "What is the limit per night for a hotel in Zurich?").await;
    assert!(hotel.starts_with("Travel and Expenses Policy (Hotels)"), "{hotel}");
    assert!(hotel.contains("\n| 1 | London, Zurich, New York, Geneva, Oslo | 240 euros |\n"), "{hotel}");
    let cup = answer(&mut ada, "Who won the world cup in 1998?").await;
    assert!(cup.starts_with("I found nothing"), "{cup}");
}

async fn answer(browser: &mut Browser, question: &str) -> String {
    // A chat of its own: a question before it would change what is searched for.
    let chat = chat(browser).await;
    let (_, stream) = ask(browser, &chat, question).await;
    text(&EventStream::open(browser, &stream, None).await.rest().await)
}
